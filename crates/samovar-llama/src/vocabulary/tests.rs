//! Against llama.cpp's own answer, in one call, on texts made to be cut wrongly.

use std::cell::Cell;

use samovar_core::testing::gguf::{LlamaShape, Writer, bert, byte_pairs, with_specials};

use super::*;
use crate::native::{self, ModelInput, WeightOptions};

const SPECIALS: [(&str, bool); 10] = [
    ("<|user|>", true),
    ("<|end|>", true),
    ("<|end|>x", true),
    ("<|", true),
    ("<tool>", false),
    ("</tool>", false),
    ("    ", false),
    ("  ", false),
    ("end|><|us", false),
    // Phi-3 must have it.
    ("<|endoftext|>", true),
];

/// What texts are made of.
const PARTS: [&str; 24] = [
    "<|user|>", "<|end|>", "<s>", "</s>", "<unk>", "<tool>", "</tool>", "<|", "|>", "<", ">", "x", " ", "  ",
    "   ", "\n", "\t ", "the fox", " kettle", "é", "日本", "▁", "a\u{b}b", "<|en",
];

fn model(name: &str) -> LlamaModel {
    write(&with_specials(LlamaShape::TINY, &SPECIALS).without("general.name").text("general.name", name))
}

/// A vocabulary of byte pairs, whose words are found by these rules.
fn pairs(pre: &str) -> LlamaModel {
    write(&byte_pairs(LlamaShape::TINY, pre, &SPECIALS))
}

fn write(writer: &Writer) -> LlamaModel {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    fs_err::write(&path, writer.build()).expect("writes");
    open(&path)
}

fn open(path: &std::path::Path) -> LlamaModel {
    native::backend();
    let options = WeightOptions { is_repacked: false, is_locked: false };
    native::load_model(ModelInput::Path(path), options, |_| true).expect("loads")
}

fn demo() -> LlamaModel {
    open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf").as_ref())
}

const ANY: Bounds<'static> =
    Bounds { context_tokens: None, enough: None, control: &samovar_core::port::Unconfined };

/// The same texts each time.
struct Texts(u64);

impl Iterator for Texts {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut number = |below: usize| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below
        };
        let parts = number(14);
        Some((0..parts).map(|_| PARTS[number(PARTS.len())]).collect())
    }
}

#[test]
fn tokens_are_those_of_one_call() {
    // Phi-3's special tokens take the whitespace behind them away.
    let models = [
        (model("tiny"), 1_500),
        (model("Phi-3-tiny"), 1_500),
        (demo(), 1_500),
        (write(&bert(LlamaShape::TINY)), 1_500),
        (pairs("llama-bpe"), 500),
        // Its regular expressions are made anew with every call.
        (pairs("deepseek-llm"), 50),
    ];
    for (model, texts) in models {
        let (vocab, vocabulary) = (model.vocab(), Vocabulary::of(&model));
        for text in Texts(7).take(texts) {
            for add_special in [false, true] {
                let ours = vocabulary.tokenize(&model, &text, Control::Never, add_special, ANY).unwrap();
                assert_eq!(ours, vocab.tokenize(text.as_bytes(), add_special, false), "{text:?}");
                let ours = vocabulary.tokenize(&model, &text, Control::Everywhere, add_special, ANY).unwrap();
                let mut theirs = vocab.tokenize(text.as_bytes(), add_special, true);
                if add_special && ours.len() < theirs.len() {
                    assert!(text.trim_start().starts_with("<s>"), "{text:?}");
                    theirs.remove(0);
                }
                assert_eq!(ours, theirs, "{text:?}");
            }
        }
    }
}

#[test]
fn only_the_given_places_are_control_tokens() {
    let model = model("tiny");
    let (vocab, vocabulary) = (model.vocab(), Vocabulary::of(&model));
    let text = "<|user|>hi<|end|><tool><|end|>";
    let places = [0..8, 23..30];
    let ours = vocabulary.tokenize(&model, text, Control::At(&places), false, ANY).unwrap();
    let special = |text: &str| vocab.tokenize(text.as_bytes(), false, true);
    let plain = vocab.tokenize(b"hi<|end|><tool>", false, false);
    assert_eq!(ours, [special("<|user|>"), plain, special("<|end|>")].concat());
    let read = |control| vocabulary.tokenize(&model, text, control, false, ANY).unwrap();
    assert_eq!(read(Control::Never), vocab.tokenize(text.as_bytes(), false, false));
    assert_eq!(read(Control::Everywhere), special(text));
    let all = [read(Control::Never), ours, read(Control::Everywhere)];
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
}

#[test]
fn places_are_all_that_one_call_would_find_when_they_are_all() {
    for model in [model("tiny"), model("Phi-3-tiny")] {
        let (vocab, vocabulary) = (model.vocab(), Vocabulary::of(&model));
        for content in Texts(11).take(1_000).map(|text| text.replace(['<', '|', '>'], "")) {
            let text = format!("<s><|user|>{content}<|end|>\n<|user|>");
            let places: Vec<_> = vocabulary.control().find(&text).collect();
            let ours = vocabulary.tokenize(&model, &text, Control::At(&places), true, ANY).unwrap();
            assert_eq!(ours, vocab.tokenize(text.as_bytes(), false, true), "{text:?}");
        }
    }
}

#[test]
fn a_word_without_end_needs_no_stack_without_end() {
    for pre in [
        "llama-bpe",
        "qwen2",
        "deepseek-llm",
        "deepseek-v3",
        "tekken",
        "gpt-4o",
        "falcon",
        "starcoder",
        "default",
    ] {
        let model = pairs(pre);
        let vocabulary = Vocabulary::of(&model);
        for letter in ["a", "1", " ", "-", "\n", "é", "日", "a1", "a-"] {
            let text = letter.repeat(100_000 / letter.len());
            let tokens = vocabulary.tokenize(&model, &text, Control::Never, false, ANY).unwrap();
            let bytes: Vec<u8> =
                tokens.iter().flat_map(|token| model.vocab().token_to_piece(*token, false, None)).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), text, "{pre} {letter:?}");
        }
    }
}

#[test]
fn a_text_whose_reading_ends_in_a_panic_is_an_error_and_not_an_empty_text() {
    assert_eq!(with_stack(|| vec![1, 2]), Ok(vec![1, 2]));
    let panics = |is_bad: bool| if is_bad { panic!("as a test of panics") } else { vec![1, 2] };
    assert_eq!(with_stack(|| panics(true)), Err(Error::NotTokenized));
}

#[test]
fn a_prompt_begins_once() {
    let model = model("tiny");
    let (vocab, vocabulary) = (model.vocab(), Vocabulary::of(&model));
    let begins = |text: &str| {
        let tokens = vocabulary.tokenize(&model, text, Control::Everywhere, true, ANY).unwrap();
        tokens.iter().filter(|token| **token == vocab.bos()).count()
    };
    for text in ["hi", "<s>hi", "\n<s>hi", " \n\t<s>hi", ""] {
        assert_eq!(begins(text), 1, "{text:?}");
    }
    assert_eq!(begins("hi<s>"), 2);
}

#[test]
fn a_text_that_cannot_fit_is_refused_before_it_is_tokenized() {
    let model = model("tiny");
    let vocabulary = Vocabulary::of(&model);
    let bounds = Bounds { context_tokens: Some(512), ..ANY };
    let refused = |text: &str, control| vocabulary.tokenize(&model, text, control, true, bounds).unwrap_err();
    let bytes = 4 << 20;
    let longest = vocabulary.longest_bytes.expect("nothing vanishes");
    let Error::PromptFarTooLong { prompt, context: 512 } = refused(&"a".repeat(bytes), Control::Never) else {
        panic!("refused for another reason")
    };
    assert_eq!(prompt, bytes.div_ceil(longest));
    let many = "<s>".repeat(200_000);
    assert_eq!(
        refused(&many, Control::Everywhere),
        Error::PromptFarTooLong { prompt: 200_000, context: 512 }
    );
}

#[test]
fn whoever_leaves_is_noticed_between_pieces() {
    struct Looks(Cell<u32>);
    impl PromptControl for Looks {
        fn is_wanted(&self) -> bool {
            self.0.set(self.0.get() + 1);
            self.0.get() < 10
        }
    }
    let model = model("tiny");
    let vocabulary = Vocabulary::of(&model);
    let looks = Looks(Cell::new(0));
    let bounds = Bounds { context_tokens: None, enough: None, control: &looks };
    let text = "a<s>".repeat(100_000);
    let refused = vocabulary.tokenize(&model, &text, Control::Everywhere, true, bounds).unwrap_err();
    assert_eq!(refused, Error::PromptUnwanted);
    assert_eq!(looks.0.get(), 10);
}

#[test]
fn words_are_read_part_by_part_as_in_one_call_and_no_further_than_is_enough() {
    let model = write(&bert(LlamaShape::TINY));
    let vocabulary = Vocabulary::of(&model);
    let text = "the quick fox, a kettle-story!\tsaw\n".repeat(2_000);
    assert!(text.len() > 4 * WORDS_BYTES);
    let all = model.vocab().tokenize(text.as_bytes(), true, false);
    let read = |bounds| vocabulary.tokenize(&model, &text, Control::Never, true, bounds);
    assert_eq!(read(ANY).unwrap(), all);
    let enough = read(Bounds { enough: Some(100), ..ANY }).unwrap();
    assert!((100..all.len() / 3).contains(&enough.len()), "{}", enough.len());
    assert_eq!(enough[..100], all[..100]);
    let bounds = Bounds { context_tokens: Some(100), ..ANY };
    let Err(Error::PromptFarTooLong { prompt, context: 100 }) = read(bounds) else { panic!("not refused") };
    assert!(prompt < all.len(), "{prompt}");
    for text in ["a,b.c-d", "日本語のテキスト", "カタカナ、ひらがな。", "éé漢!"] {
        let text = text.repeat(4_000);
        assert!(words_end(&text) < WORDS_BYTES + 64, "{}", words_end(&text));
        let ours = vocabulary.tokenize(&model, &text, Control::Never, false, ANY).unwrap();
        assert_eq!(ours, model.vocab().tokenize(text.as_bytes(), false, false));
    }
    // One word without end.
    let word = "a".repeat(3 * WORDS_BYTES);
    assert_eq!(words_end(&word), word.len());
}

#[test]
fn the_ends_of_a_text_are_cut_at_characters() {
    let model = model("tiny");
    let vocabulary = Vocabulary::of(&model);
    let longest = vocabulary.longest_bytes.expect("nothing vanishes");
    let text = "é".repeat(longest * 4);
    for tokens in 0..9 {
        let (beginning, ending) = (vocabulary.beginning(&text, tokens), vocabulary.ending(&text, tokens));
        assert!(beginning.len().abs_diff(tokens.min(8) * longest) < 2, "{tokens}: {}", beginning.len());
        assert_eq!(beginning.len(), ending.len());
    }
}

#[test]
fn a_space_is_put_before_the_beginning_of_a_text_and_not_behind_control_tokens() {
    let writer = with_specials(LlamaShape::TINY, &SPECIALS);
    let writer = writer.boolean("tokenizer.ggml.add_space_prefix", false).text(SPACE_PREFIX, SPACE_FIRST);
    let model = write(&writer);
    let vocabulary = Vocabulary::of(&model);
    let plain = |text: &str| model.vocab().tokenize(text.as_bytes(), false, false);
    let read = |text: &str| {
        vocabulary.tokenize(&model, text, Control::Everywhere, false, ANY).expect("it is tokenized")
    };
    assert_eq!(read("the fox"), plain(" the fox"));
    assert_eq!(read(" the fox"), plain(" the fox"));
    assert_eq!(read("<|user|>the fox")[1..], plain("the fox"));
    assert_ne!(plain("the fox"), plain(" the fox"));
}
