//! Several tokens in one step: the answer is the same as with one after the other.

use crate::support;

use std::path::Path;
use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::Instance;
use samovar_core::testing::gguf::{LlamaShape, Writer, hybrid, llama, windowed};
use samovar_core::{
    Completion, Constraint, ErrorKind, Failure, GenerationRequest, LoadOptions, ModelFiles, Prompt, Sampling,
};
use support::heard::hear;
use support::{collect, greedy, load, options, start, text};

/// A text of which the end has been there before, so that there are drafts.
fn repeated() -> Prompt {
    let story = "Once upon a time there was a fox named Mira. The fox wanted to learn to climb. ";
    text(&format!("{story}{story}{story}Once upon a time"))
}

/// Sums are rounded in another order when several rows are computed: where two tokens are nearly as likely, the other one
/// may be said.
const TIE_GAP: f32 = 0.1;

fn plain(request: &GenerationRequest) -> GenerationRequest {
    GenerationRequest { speculates: false, reuse_prefix: false, ..request.clone() }
}

/// The texts with drafts and without.
fn texts(instance: &Arc<dyn Instance>, request: &GenerationRequest) -> [(String, Completion); 2] {
    let drafted = GenerationRequest { reuse_prefix: false, ..request.clone() };
    [collect(start(instance, drafted)), collect(start(instance, plain(request)))]
}

fn assert_same(instance: &Arc<dyn Instance>, request: &GenerationRequest) {
    let [drafted, plain] = texts(instance, request);
    if drafted.0 == plain.0 {
        assert_eq!((drafted.1.finish, drafted.1.usage), (plain.1.finish, plain.1.usage), "{request:?}");
    } else {
        assert_near_tie(instance, request, &drafted.0);
    }
}

/// Where a text leaves that without drafts, two tokens are nearly as likely.
fn assert_near_tie(instance: &Arc<dyn Instance>, request: &GenerationRequest, other: &str) {
    let mut so_far = Vec::new();
    for token in hear(start(instance, GenerationRequest { logprobs: Some(2), ..plain(request) })).logprobs {
        so_far.extend(&token.bytes);
        if !other.as_bytes().starts_with(&so_far) {
            let gap = token.top[0].logprob - token.top[1].logprob;
            return assert!(
                gap < TIE_GAP,
                "{gap} after {:?} for {request:?}",
                String::from_utf8_lossy(&so_far)
            );
        }
    }
    panic!("{other:?} goes on longer for {request:?}");
}

#[test]
fn the_most_likely_text_is_the_same() {
    let instance = load(&options());
    for prompt in [repeated(), text("a b c a b c a b c a b"), text("Tell me a story about a fox")] {
        assert_same(&instance, &greedy(prompt, 200));
    }
}

#[test]
fn the_same_seed_draws_the_same_text() {
    let instance = load(&options());
    let is_same = |seed: &u32| {
        let sampling =
            Sampling { temperature: 0.7, repeat_penalty: 1.1, seed: Some(*seed), ..Sampling::default() };
        let [drafted, plain] = texts(&instance, &GenerationRequest { sampling, ..greedy(repeated(), 60) });
        drafted.0 == plain.0
    };
    // A draw may lie so near the border of two tokens that another rounding decides.
    let same = (0..10).filter(is_same).count();
    assert!(same >= 8, "{same} of 10");
}

#[test]
fn ends_and_stop_strings_within_a_draft_end_the_answer_there() {
    let instance = load(&options());
    for stop in ["fox", "climb", "Mira. The"] {
        assert_same(&instance, &GenerationRequest { stop: vec![stop.to_owned()], ..greedy(repeated(), 120) });
    }
    for length in 1..12 {
        assert_same(&instance, &greedy(repeated(), length));
    }
    assert_same(&instance, &GenerationRequest { ignore_eos: false, ..greedy(repeated(), 200) });
}

#[test]
fn what_is_bound_stays_so() {
    let instance = load(&options());
    let constraint = Some(Constraint::Regex("(Once upon a time|The fox| |[a-z]{1,9}|\\.)+".to_owned()));
    let request = GenerationRequest { constraint, ignore_eos: false, ..greedy(repeated(), 80) };
    for (text, _) in texts(&instance, &request) {
        let rest =
            ["Once upon a time", "The fox"].iter().fold(text.clone(), |text, part| text.replace(part, ""));
        // It may be cut within a part.
        let rest = rest.trim_end_matches(|c: char| c.is_alphabetic());
        assert!(rest.chars().all(|c| c.is_ascii_lowercase() || " .".contains(c)), "{text:?}");
        assert!(!text.is_empty());
    }
}

#[test]
fn what_was_taken_back_spoils_no_later_answer() {
    let instance = load(&options());
    let story = greedy(repeated(), 150);
    let first = collect(start(&instance, story.clone())).0;
    let known = text(&format!("{}{first}", "Once upon a time there was a fox. "));
    for request in [story, greedy(known, 100)] {
        // What an answer leaves is where the next one goes on from.
        let text = collect(start(&instance, request.clone())).0;
        let fresh = load(&options());
        if text != collect(start(&fresh, plain(&request))).0 {
            assert_near_tie(&fresh, &request, &text);
        }
    }
}

#[test]
fn models_whose_state_cannot_be_cut_answer_as_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = LlamaShape { blocks: 4, ..LlamaShape::TINY };
    for (name, model) in [("hybrid", hybrid(shape)), ("windowed", windowed(shape, 32))] {
        let path = folder.path().join(name);
        fs_err::write(&path, model.build()).expect("writes");
        let descriptor = gguf::inspect(&path).expect("the gate lets it through");
        let options = LoadOptions { context_tokens: 512, slots: 1, ..options() };
        let instance = support::load_file(&path, &descriptor, &options).expect("loads");
        let prompt = Prompt::Tokens((0..120).map(|place| 3 + place % 6).collect());
        let [drafted, plain] = texts(&instance, &greedy(prompt, 60));
        assert_eq!(drafted.0, plain.0);
    }
}

/// Loads a model with a draft model.
fn load_pair(model: &Path, draft: &Path) -> Result<Arc<dyn Instance>, Failure> {
    let files = ModelFiles::of(model).with_draft(&ModelFiles::of(draft));
    let descriptor = gguf::inspect(model).expect("the gate lets it through");
    let draft = Some(Box::new(support::draft_model(draft)));
    support::load_files(&files, &descriptor, &LoadOptions { draft, slots: 1, ..options() })
}

#[test]
fn a_draft_model_changes_no_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, change: fn(Writer) -> Writer| {
        let path = folder.path().join(name);
        let demo = Writer::of_bytes(&fs_err::read(support::demo_path()).expect("reads"));
        fs_err::write(&path, change(demo).build()).expect("writes");
        path
    };
    // Four times as slow as the demo model: so its drafts pay.
    let slow = file("slow", |demo| demo.with_idle_blocks(12));
    let spoiled = file("spoiled", |demo| demo.zeroed("output_norm.weight"));
    for draft in [support::demo_path(), spoiled] {
        let instance = load_pair(&slow, &draft).expect("loads");
        for prompt in [text("Tell me a story about a fox"), repeated(), text("Count to ten")] {
            assert_same(&instance, &greedy(prompt, 150));
        }
        for length in 1..6 {
            assert_same(&instance, &greedy(text("Once upon a time"), length));
        }
        let constraint = Some(Constraint::Regex("[a-z ]+".to_owned()));
        let bound = GenerationRequest { constraint, ignore_eos: false, ..greedy(text("Once upon"), 60) };
        for (text, _) in texts(&instance, &bound) {
            let is_allowed = |c: char| c.is_ascii_lowercase() || c == ' ';
            assert!(!text.is_empty() && text.chars().all(is_allowed), "{text:?}");
        }
        let is_same = |seed: &u32| {
            let sampling = Sampling { temperature: 0.7, seed: Some(*seed), ..Sampling::default() };
            let request = GenerationRequest { sampling, ..greedy(text("Once upon a time"), 40) };
            let [drafted, plain] = texts(&instance, &request);
            drafted.0 == plain.0
        };
        let same = (0..6).filter(is_same).count();
        assert!(same >= 5, "{same} of 6");
    }
}

#[test]
fn a_model_of_another_vocabulary_drafts_for_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other");
    fs_err::write(&other, llama(LlamaShape::TINY).build()).expect("writes");
    let failure = load_pair(&support::demo_path(), &other).err().expect("is refused");
    assert_eq!(failure.kind, ErrorKind::InvalidRequest);
    for part in ["demo.gguf", "other", "kind", "draft model"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert!(failure.hint.is_some());
}

#[test]
fn models_that_cannot_take_tokens_back_have_no_draft_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = LlamaShape { blocks: 4, ..LlamaShape::TINY };
    for (name, model) in [("hybrid", hybrid(shape)), ("windowed", windowed(shape, 32))] {
        let path = folder.path().join(name);
        fs_err::write(&path, model.build()).expect("writes");
        let failure = load_pair(&path, &path).err().expect("is refused");
        assert!(failure.message.contains("cannot be the draft model"), "{name}: {failure}");
    }
}
