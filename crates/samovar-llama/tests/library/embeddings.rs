//! Vectors and scores of texts by small models with random weights: encoders, and decoders that write text as well.

use crate::support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use samovar_core::embedding::{
    EmbedInput, EmbedOutput, EmbedRequest, INPUTS_MAX, Pooling, Truncate, Urgency,
};
use samovar_core::format::gguf;
use samovar_core::port::{Instance, Unconfined};
use samovar_core::testing::gguf::{CLS, LlamaShape, SEP, Writer, bert, hybrid, llama, reranker};
use samovar_core::{ErrorKind, Failure, Layout, LoadOptions};
use support::embedding::{cosine, embed, first_failure, refused, request, told, vector};
use support::packed::Packed;
use support::{collect, greedy, start};

/// For what is certain to come.
const LIMIT: Duration = Duration::from_secs(60);
/// Of numbers of vectors of length 1, between a batch and an input alone.
const NEAR: f32 = 1e-4;

struct Model {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Model {
    fn of(writer: &Writer) -> Self {
        Self::written(&writer.build())
    }

    fn written(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        fs_err::write(&path, bytes).expect("writes");
        Self { _folder: folder, path }
    }

    fn try_load(&self, options: &LoadOptions) -> Result<Arc<dyn Instance>, Failure> {
        let descriptor = gguf::inspect(&self.path).expect("the gate lets it through");
        support::load_file(&self.path, &descriptor, options)
    }

    fn load(&self, options: &LoadOptions) -> Arc<dyn Instance> {
        self.try_load(options).expect("loads")
    }
}

/// For inputs of at most 512 tokens.
fn options(pooling: Pooling) -> LoadOptions {
    LoadOptions { pooling: Some(pooling), ..support::options() }
}

fn encoder() -> Arc<dyn Instance> {
    Model::of(&bert(LlamaShape::TINY)).load(&options(Pooling::Mean))
}

fn text(text: &str) -> EmbedInput {
    EmbedInput::Text(text.to_owned())
}

fn pair(query: &str, document: &str) -> EmbedInput {
    EmbedInput::Pair { query: query.to_owned(), document: document.to_owned() }
}

/// Tokens of letters, others for another salt.
fn letters(count: usize, salt: u32) -> EmbedInput {
    EmbedInput::Tokens((0..count as u32).map(|place| 104 + (place * 7 + salt * 13) % 36).collect())
}

fn assert_near(left: &[f32], right: &[f32], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    let apart = left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
    assert!(apart < NEAR, "{what}: {apart}");
}

#[test]
fn every_input_becomes_a_vector_of_length_one_and_is_counted() {
    let instance = encoder();
    let inputs = vec![text("the quick fox"), text(" "), text("a kettle, and tea!")];
    let (embedded, completion) = embed(&instance, request(inputs)).expect("it is answered");
    assert_eq!(embedded.iter().map(|embedded| embedded.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(embedded.iter().map(|embedded| embedded.tokens).collect::<Vec<_>>(), [5, 2, 8]);
    assert_eq!(completion.usage.prompt_tokens, 15);
    for embedded in &embedded {
        assert_eq!((embedded.values.len(), embedded.was_cut), (64, false));
        let length = embedded.values.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    assert!(cosine(&embedded[0].values, &embedded[2].values) < 0.9999);
}

#[test]
fn special_tokens_are_put_around_texts_and_none_are_read_in_them() {
    let instance = encoder();
    let tokens = instance.tokenize("the fox", true, false).expect("tokens");
    assert_eq!((tokens.first(), tokens.last(), tokens.len()), (Some(&CLS), Some(&SEP), 4));
    let by_text = vector(&instance, text("the fox"));
    assert_eq!(vector(&instance, EmbedInput::Tokens(tokens)), by_text);
    let (written, _) = embed(&instance, request(vec![text("a [SEP] b")])).expect("it is answered");
    assert!(written[0].tokens > 5, "five if the word were the token: {}", written[0].tokens);
}

#[test]
fn inputs_of_all_lengths_in_one_batch_are_as_alone() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
        let instance = Model::of(&bert(LlamaShape::TINY)).load(&options(pooling));
        let inputs: Vec<_> = [1, 500, 3, 17, 64, 2, 129, 300, 31, 8]
            .into_iter()
            .zip(0..)
            .map(|(count, salt)| letters(count, salt))
            .collect();
        let (together, _) = embed(&instance, request(inputs.clone())).expect("it is answered");
        for (input, together) in inputs.into_iter().zip(together) {
            let what = format!("{pooling:?} of {}", together.tokens);
            assert_near(&vector(&instance, input), &together.values, &what);
        }
    }
}

#[test]
fn vectors_are_cut_and_then_brought_to_length_one() {
    let instance = encoder();
    let of = |dimensions, normalize| {
        let output = EmbedOutput::Vector { dimensions, normalize };
        let request = EmbedRequest { output, ..request(vec![text("the fox saw tea")]) };
        embed(&instance, request).map(|(embedded, _)| embedded[0].values.clone())
    };
    let whole = of(None, false).expect("a vector");
    let cut = of(Some(8), true).expect("a vector");
    let length = whole[..8].iter().map(|value| value * value).sum::<f32>().sqrt();
    let expected: Vec<f32> = whole[..8].iter().map(|value| value / length).collect();
    assert_near(&cut, &expected, "cut");
    assert_eq!(of(Some(64), false).expect("a vector"), whole);
    for dimensions in [0, 65] {
        let failure = of(Some(dimensions), true).expect_err("there are 64");
        assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("dimensions")));
        assert!(failure.message.contains("64"), "{failure}");
    }
}

#[test]
fn what_is_too_long_is_refused_with_both_counts_or_cut_between_its_special_tokens() {
    let instance = encoder();
    let long = "fox ".repeat(600);
    let failure = refused(&instance, request(vec![text("tea"), text(&long)]));
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::ContextExceeded, Some("input[1]")));
    assert!(failure.message.contains("602") && failure.message.contains("512"), "{failure}");
    // Of megabytes not all need be read to know that.
    let failure = refused(&instance, request(vec![text(&"fox ".repeat(1_000_000))]));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded);
    let fox = instance.tokenize("fox", false, false).expect("tokens")[0];
    let tea = instance.tokenize("tea", false, false).expect("tokens")[0];
    let framed = |first: u32, last: u32| {
        let mut tokens = vec![fox; 512];
        (tokens[0], tokens[511]) = (CLS, SEP);
        (tokens[1], tokens[510]) = (first, last);
        EmbedInput::Tokens(tokens)
    };
    let long = format!("tea {long} tea");
    for (truncate, expected) in [(Truncate::End, framed(tea, fox)), (Truncate::Start, framed(fox, tea))] {
        let cut = EmbedRequest { truncate, ..request(vec![text(&long)]) };
        let (embedded, _) = embed(&instance, cut).expect("it is cut");
        assert_eq!((embedded[0].tokens, embedded[0].was_cut), (512, true), "{truncate:?}");
        assert_near(&embedded[0].values, &vector(&instance, expected), "cut");
    }
    let tokens = EmbedRequest { truncate: Truncate::End, ..request(vec![letters(513, 1)]) };
    let (embedded, _) = embed(&instance, tokens).expect("it is cut");
    assert_eq!((embedded[0].tokens, embedded[0].was_cut), (512, true));
    let failure = refused(&instance, request(vec![letters(513, 1)]));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded);
}

#[test]
fn requests_that_say_nothing_are_refused() {
    let instance = encoder();
    let kinds = |inputs| {
        let failure = refused(&instance, request(inputs));
        (failure.kind, failure.param)
    };
    let invalid = |param: &str| (ErrorKind::InvalidRequest, Some(param.to_owned()));
    assert_eq!(kinds(vec![]), invalid("input"));
    assert_eq!(kinds(vec![text("tea"); INPUTS_MAX + 1]), invalid("input"));
    assert_eq!(kinds(vec![text("tea"), EmbedInput::Tokens(vec![])]), invalid("input[1]"));
    assert_eq!(kinds(vec![text("")]), invalid("input[0]"));
    assert_eq!(kinds(vec![EmbedInput::Tokens(vec![1 << 20])]), invalid("input[0]"));
    assert_eq!(kinds(vec![text("tea"), pair("a", "b")]), invalid("input[1]"));
    let (embedded, _) =
        embed(&instance, request(vec![text("tea"); INPUTS_MAX])).expect("so many are answered");
    assert_eq!(embedded.len(), INPUTS_MAX);
}

#[test]
fn a_model_says_what_it_cannot_do() {
    let encoder = encoder();
    let unsupported = |failure: Failure| assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure}");
    let generation = encoder.generate(greedy(support::text("Once"), 4));
    unsupported(generation.map(|_| ()).expect_err("an encoder writes nothing"));
    let score = |inputs| EmbedRequest { output: EmbedOutput::Score, ..request(inputs) };
    unsupported(refused(&encoder, score(vec![text("tea")])));
    let ranks = Model::of(&reranker(LlamaShape::TINY)).load(&options(Pooling::Rank));
    unsupported(refused(&ranks, request(vec![text("tea")])));
    let writes = support::load(&support::options());
    unsupported(refused(&writes, request(vec![text("tea")])));
    let without = Model::of(&bert(LlamaShape::TINY)).try_load(&options(Pooling::Rank));
    unsupported(without.map(|_| ()).expect_err("it has no classifier"));
    encoder.probe().expect("it is alive");
    ranks.probe().expect("it is alive");
}

#[test]
fn a_pair_is_read_as_its_tokenizer_joins_it() {
    let instance = Model::of(&reranker(LlamaShape::TINY)).load(&options(Pooling::Rank));
    let score = |inputs| EmbedRequest { output: EmbedOutput::Score, ..request(inputs) };
    let words = |text: &str| instance.tokenize(text, false, false).expect("tokens");
    let joined = [&[CLS][..], &words("the fox")[..], &[SEP], &words("a kettle")[..], &[SEP]].concat();
    let count = joined.len() as u32;
    let inputs = vec![pair("the fox", "a kettle"), EmbedInput::Tokens(joined), pair("the fox", "tea")];
    let (scores, _) = embed(&instance, score(inputs)).expect("it is answered");
    assert_eq!((scores[0].values.len(), scores[0].tokens), (1, count));
    assert_near(&scores[0].values, &scores[1].values, "a pair");
    assert!((scores[0].values[0] - scores[2].values[0]).abs() > NEAR, "{scores:?}");
    // The document is cut, and never the query.
    let long = pair("the fox", &"tea ".repeat(600));
    let cut = EmbedRequest { truncate: Truncate::End, ..score(vec![long.clone()]) };
    let (cut, _) = embed(&instance, cut).expect("it is cut");
    assert_eq!((cut[0].tokens, cut[0].was_cut), (512, true));
    assert_eq!(refused(&instance, score(vec![long])).kind, ErrorKind::ContextExceeded);
    let query = pair(&"tea ".repeat(600), "the fox");
    let failure = refused(&instance, EmbedRequest { truncate: Truncate::End, ..score(vec![query]) });
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::ContextExceeded, Some("input[0]")));
}

#[test]
fn numbers_that_are_none_end_the_request_that_has_them_and_no_other() {
    let mut bytes = bert(LlamaShape::TINY).build();
    let start = gguf::header_bytes(std::io::Cursor::new(&bytes), bytes.len() as u64).expect("a header");
    // The first tensor is that of the tokens' vectors, 64 numbers each.
    let damaged = 110_u32;
    let at = start as usize + damaged as usize * 64 * 4;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let instance = Model::written(&bytes).load(&options(Pooling::Mean));
    let sound = || EmbedInput::Tokens(vec![CLS, 111, SEP]);
    let expected = vector(&instance, sound());
    let requests =
        [vec![sound(), EmbedInput::Tokens(vec![CLS, damaged, SEP])], vec![sound()], vec![sound(); 40]];
    for _ in 0..3 {
        let running: Vec<_> = requests
            .iter()
            .map(|inputs| instance.embed(request(inputs.clone()), &Unconfined).expect("it is taken"))
            .collect();
        for (number, generation) in running.into_iter().enumerate() {
            match told(generation) {
                Err(failure) => {
                    assert_eq!((number, failure.kind), (0, ErrorKind::EngineFailed), "{failure}");
                    assert_eq!(failure.param.as_deref(), Some("input[1]"));
                }
                Ok((embedded, _)) => {
                    assert_ne!(number, 0);
                    for embedded in embedded {
                        assert_near(&embedded.values, &expected, "sound");
                    }
                }
            }
        }
    }
    instance.probe().expect("it is alive");
}

#[test]
fn whoever_leaves_is_forgotten_and_others_are_answered() {
    let instance = encoder();
    let bulk = |salt| {
        let inputs = (0..INPUTS_MAX as u32).map(|input| letters(400, input + salt)).collect();
        let bulk = EmbedRequest { urgency: Urgency::Bulk, ..request(inputs) };
        instance.embed(bulk, &Unconfined).expect("it is taken")
    };
    let running = [bulk(0), bulk(1_000)];
    assert!(instance.measure().busy_slots <= 2);
    drop(running);
    assert_eq!(vector(&instance, letters(7, 1)).len(), 64);
    let deadline = Instant::now() + LIMIT;
    while instance.measure().busy_slots > 0 {
        assert!(Instant::now() < deadline, "{:?}", instance.measure());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_query_is_answered_while_imports_wait() {
    let instance = encoder();
    let bulk = |salt| {
        let inputs = (0..INPUTS_MAX as u32).map(|input| letters(100, input + salt)).collect();
        let bulk = EmbedRequest { urgency: Urgency::Bulk, ..request(inputs) };
        instance.embed(bulk, &Unconfined).expect("it is taken")
    };
    let imports: Vec<_> = (0..4).map(bulk).collect();
    assert_eq!(vector(&instance, letters(7, 1)).len(), 64);
    // That it does not wait for them is for the queue's own tests to say, which take no time.
    for import in imports {
        assert_eq!(told(import).expect("it is answered").0.len(), INPUTS_MAX);
    }
}

#[test]
fn parked_and_resumed_it_makes_the_same_vectors() {
    let model = Model::of(&bert(LlamaShape::TINY));
    let instance = model.load(&options(Pooling::Mean));
    let expected = vector(&instance, letters(50, 1));
    for context_tokens in [512, 100, 1000] {
        instance.park().expect("it parks");
        assert_eq!(refused(&instance, request(vec![letters(5, 1)])).kind, ErrorKind::Unavailable);
        let parked = instance.measure();
        instance.resume(&LoadOptions { context_tokens, ..options(Pooling::Mean) }).expect("it resumes");
        assert!(instance.measure().held_bytes > parked.held_bytes);
        assert_near(&vector(&instance, letters(50, 1)), &expected, "resumed");
        let most = context_tokens as usize;
        assert_eq!(vector(&instance, letters(most, 2)).len(), 64);
        assert_eq!(refused(&instance, request(vec![letters(most + 1, 2)])).kind, ErrorKind::ContextExceeded);
    }
}

#[test]
fn an_encoder_reads_no_more_than_it_was_trained_for() {
    let short = LlamaShape { context: 64, ..LlamaShape::TINY };
    let instance = Model::of(&bert(short)).load(&options(Pooling::Mean));
    assert_eq!(vector(&instance, letters(64, 1)).len(), 64);
    let failure = refused(&instance, request(vec![letters(65, 1)]));
    assert!(failure.message.contains("65") && failure.message.contains("64"), "{failure}");
}

#[test]
fn a_decoder_writes_text_and_makes_vectors_at_the_same_time() {
    let model = Model::of(&llama(LlamaShape::TINY));
    let wide = |pooling| LoadOptions { context_tokens: 1024, pooling, ..support::options() };
    let prompt = || greedy(support::text("the fox saw a kettle and"), 64);
    let (expected, _) = collect(start(&model.load(&wide(None)), prompt()));
    for pooling in [Pooling::Last, Pooling::Mean] {
        let instance = model.load(&wide(Some(pooling)));
        let inputs: Vec<_> =
            [3, 700, 40, 1, 257].into_iter().zip(0..).map(|(count, salt)| letters(count, salt)).collect();
        let alone: Vec<_> = inputs.iter().map(|input| vector(&instance, input.clone())).collect();
        let writing = start(&instance, prompt());
        let (together, _) = embed(&instance, request(inputs)).expect("it is answered");
        for (alone, together) in alone.iter().zip(&together) {
            let near = cosine(alone, &together.values);
            assert!(near > 0.999, "{pooling:?} of {}: {near}", together.tokens);
        }
        assert_eq!(collect(writing).0, expected, "{pooling:?}");
        instance.park().expect("it parks");
        instance.resume(&wide(Some(pooling))).expect("it resumes");
        assert!(cosine(&vector(&instance, letters(3, 0)), &alone[0]) > 0.999);
    }
}

#[test]
fn models_whose_vectors_are_not_as_wide_as_the_file_says_are_not_loaded_for_them() {
    let model = Model::of(&llama(LlamaShape::TINY).u32("llama.embedding_length_out", 128));
    let failure = model.try_load(&options(Pooling::Last)).map(drop).expect_err("it is refused");
    assert!(failure.message.contains("64") && failure.message.contains("128"), "{failure}");
    model.load(&support::options()).probe().expect("it writes text");
}

#[test]
fn a_last_token_that_no_vocabulary_adds_is_added() {
    let model = Model::of(&llama(LlamaShape::TINY));
    let tokens = |pooling| {
        let instance = model.load(&options(pooling));
        embed(&instance, request(vec![text("a")])).expect("it is answered").0[0].tokens
    };
    assert_eq!(tokens(Pooling::Last), tokens(Pooling::Mean) + 1);
}

#[test]
fn a_recurrent_decoder_makes_vectors_too() {
    let instance = Model::of(&hybrid(LlamaShape::TINY)).load(&options(Pooling::Last));
    let inputs: Vec<_> =
        [3, 300, 40, 1].into_iter().zip(0..).map(|(count, salt)| letters(count, salt)).collect();
    let (together, _) = embed(&instance, request(inputs.clone())).expect("it is answered");
    for (input, together) in inputs.into_iter().zip(together) {
        let near = cosine(&vector(&instance, input), &together.values);
        assert!(near > 0.999, "{}: {near}", together.tokens);
    }
}

#[test]
fn vectors_of_packed_weights_are_those_of_plain_ones() {
    let Some(model) = Packed::demo() else { return support::skipped("this processor packs nothing") };
    let load = |layout| model.load_for(layout, &options(Pooling::Last));
    let [plain, hybrid] = [Layout::Mapped, Layout::Hybrid].map(load);
    assert_eq!(hybrid.arrangement().layout, Layout::Hybrid);
    for count in [1, 31, 32, 200] {
        let input = EmbedInput::Tokens((0..count).map(|place| 300 + place * 3).collect());
        let near = cosine(&vector(&plain, input.clone()), &vector(&hybrid, input));
        assert!(near > 0.999, "{count}: {near}");
    }
    assert_eq!(first_failure(&hybrid, request(vec![pair("a", "b")])).kind, ErrorKind::InvalidRequest);
}
