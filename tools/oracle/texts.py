"""Texts for tokenizers: sentences in many scripts to train them on, and strings that must become the same ids everywhere.

They are the same at every call; nothing is read.
"""

import random

SENTENCES = [
    "The samovar stands on the table, and the water is warm enough for another cup of tea.",
    "She said that she'd been there, they'll come at 7:45, and we've got nothing but time; I'm sure it's fine.",
    "Models are loaded once and shared by every program that asks for them.",
    "Ein Wasserkessel kocht über dem Feuer; die Straße führt außen um die Stadt herum.",
    "Où est la bibliothèque ? L'élève naïf a déjà mangé à l'œil, ça va.",
    "El niño comió piñas mañana y después pidió más café, ¿verdad?",
    "Não há chuva amanhã, e o coração da cidade está à beira-mar.",
    "Žluťoučký kůň příšerně úpěl ďábelské ódy.",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Árvíztűrő tükörfúrógép és kőműves.",
    "İstanbul'da ılık bir öğleden sonra, şoför çay içiyor.",
    "Самовар стоит на столе, и вода уже закипела; ёж ушёл в лес.",
    "Їжак з'їв яблуко під час ґвалту.",
    "Καλημέρα κόσμε, το νερό βράζει στη σόμπα. Ξεσκεπάζω την ψυχοφθόρα.",
    "שלום עולם, המים רותחים על האש. וְאָהַבְתָּ",
    "مرحبا بالعالم، الماء يغلي على النار. لَا إِلَهَ",
    "سلام دنیا، آب روی آتش می‌جوشد.",
    "नमस्ते दुनिया, आग पर पानी उबल रहा है। क्षत्रिय",
    "ওহে বিশ্ব, আগুনে জল ফুটছে।",
    "வணக்கம் உலகம், நெருப்பில் நீர் கொதிக்கிறது.",
    "హలో ప్రపంచం, నీరు మరుగుతోంది.",
    "สวัสดีชาวโลก น้ำกำลังเดือดบนเตาไฟ",
    "កាន់តែពិសេសអាច ទឹកកំពុងពុះ",
    "မင်္ဂလာပါ ကမ္ဘာလောက",
    "გამარჯობა მსოფლიო, წყალი დუღს.",
    "Բարեւ աշխարհ, ջուրը եռում է։",
    "ሰላም ዓለም፣ ውሃው እየፈላ ነው።",
    "你好，世界。水在火上烧开了，我们一起喝茶。",
    "這是一個繁體中文的句子，鐵壺裡的水開了。",
    "こんにちは世界、やかんのお湯が沸きました。カタカナとﾊﾝｶｸ。",
    "안녕하세요 세계, 물이 끓고 있습니다.",
    "ᚠᛇᚻ᛫ᛒᛦᚦ 𐌰𐌱𐌲 𝒳𝒴 𝟙𝟚𝟛",
    "fn main() { let total: u64 = items.iter().map(|item| item.len() as u64).sum(); println!(\"{total}\"); }",
    "def count(words):\n    return {word: len(word) for word in words if word != ''}\n",
    "SELECT name, COUNT(*) AS n FROM uses WHERE day >= '2026-01-01' GROUP BY name ORDER BY n DESC LIMIT 10;",
    "{\"name\": \"demo\", \"size\": 1.5e-3, \"tags\": [true, null, \"a/b\\\\c\"]}",
    "<p class=\"x\">a &amp; b</p> https://example.com/a?b=c&d=%20#e user.name+tag@example.org",
    "0 1 12 123 1234 12345 1234567890 3.14 1,000,000 -7 2^10 1/2 №5 ½ ² ٣٤ ५६",
]

EMOJI = ["🚀", "😶‍🌫️", "✅", "🦙🦙", "👩🏽‍💻", "🇩🇪🇺🇦", "❤️", "1️⃣", "🏳️‍🌈", "☕", "👨‍👩‍👧‍👦"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\t\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\ufeff"]
CONTROLS = ["\x01", "\x07", "\x1b[0m", "\x7f", "\u0085", "\u00ad", "\u200e", "\u202e", "\ufffd", "\U000e0041"]
MARKS = ["!", "?!", "...", "……", "--", "——", "'", "''", "\"", "``", "«»", "()", "[]", "{}", "/\\", "*_*", "#", "@", "~", "^", "€", "±", "→", "。", "、"]
LETTERS = ["e\u0301", "\u00e9", "A\u030a", "\u212b", "ﬁ", "Ａ１", "ı", "ß", "Σς", "ǅ", "ʼn", "가", "\u1100\u1161", "क्‍ष", "ﷺ", "㍿", "①", "Ⅷ", "𠮷"]
QUIRKS = ["'S", "'Re", "'VE", "I'M", "don't", "'tis", "o'clock", "'ſ", "a'lL", "it’s"]


def strings():
    """Strings of all kinds, without a special token of any vocabulary."""
    found = ["", " ", "a", " a", "a ", "  a  b   c    d", "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n"]
    found += SENTENCES
    found += [word for sentence in SENTENCES for word in sentence.split()[:5]]
    found += EMOJI + SPACES + CONTROLS + MARKS + LETTERS + QUIRKS
    found += [f"x{space}y{space}{space}z" for space in SPACES]
    found += [f"a{control}b {control}c" for control in CONTROLS]
    found += [f"word{mark} {mark}word {mark} 1{mark}2" for mark in MARKS]
    found += [f"{letter}{letter} {letter}x x{letter}" for letter in LETTERS]
    found += ["3" * count for count in range(1, 12)] + [" 3" * 5, "3.3 3..3 3...3", "0x1F", "1e9", "v1.2.3-rc.4"]
    found += ["=" * count for count in (2, 7, 17)] + [" " * count + "x" for count in (2, 3, 4, 5, 8, 16, 31)]
    found += ["a" * 120, "ab" * 20, "é" * 20, "水" * 12, "x\n" * 8, "Ω≈ç√∫˜µ≤≥÷", "ZWJ\u200djoin", "\u0300\u0301", "́a"]
    draw = random.Random(20_26)
    pieces = EMOJI + SPACES + CONTROLS + MARKS + LETTERS + QUIRKS + [word for sentence in SENTENCES for word in sentence.split()]
    found += mixed(draw, pieces, 70)
    # These have no marks, which some tokenizers leave out.
    found += mixed(draw, [word for sentence in SENTENCES[:13] + SENTENCES[32:] for word in sentence.split()], 97)
    return list(dict.fromkeys(found))


def mixed(draw, pieces, count):
    return ["".join(draw.choice(["", " "]) + draw.choice(pieces) for _ in range(draw.randint(2, 5))) for _ in range(count)]


def with_special(tokens):
    """Strings in which special tokens stand, alone and next to everything else."""
    found = []
    for token in tokens:
        found += [token, f"a{token}b", f"a {token} b", f"{token}{token}", f" {token}", f"{token[:-1]}", f"\n{token}\n水"]
    return list(dict.fromkeys(found))
