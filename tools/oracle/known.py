"""Which texts llama.cpp is known to read otherwise than Hugging Face's `tokenizers`, and why. It needs nothing but Python."""

import unicodedata

# Longest word that BERT's tokenizer reads.
LONGEST_WORD = 100


def is_part(character):
    return unicodedata.category(character) == "Mn"


def is_same_without_marks(text):
    """In these rules of llama.cpp no mark belongs to a word."""
    return not any(unicodedata.category(character).startswith("M") for character in text)


def is_same(text):
    """llama.cpp reads all of them as `tokenizers` does."""
    return True


def is_same_word_piece(text):
    """llama.cpp reads words of any length, and takes U+0085 for a space where BERT leaves it out."""
    return "\u0085" not in text and all(len(word) <= LONGEST_WORD for word in text.split())


def is_same_without_accents(text):
    """llama.cpp leaves out all marks where BERT leaves out accents alone, and keeps the first part of a letter that has several."""
    apart = [unicodedata.normalize("NFD", character) for character in text]
    has_mark = any(unicodedata.category(part) in ("Mc", "Me") for letter in apart for part in letter)
    has_parts = any(sum(not is_part(part) for part in letter) > 1 for letter in apart)
    return is_same_word_piece(text) and not has_mark and not has_parts
