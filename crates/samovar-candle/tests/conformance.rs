//! The suite that every engine passes: on a small llama, vectors on a small BERT, and scores on its classifier; and what this engine
//! lacks, said in words.

mod support;

use std::sync::Arc;
use std::sync::OnceLock;

use samovar_candle::CandleEngine;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest, PublishedFacts, Unconfined};
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::{
    Chat, Constraint, ErrorKind, GenerationRequest, LoadOptions, Pooling, Prompt, Quantization, ToolChoice,
};
use serde_json::json;
use support::published;
use tempfile::TempDir;

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

fn subject_of(folder: &TempDir, pooling: Option<Pooling>) -> Subject {
    let PublishedFacts { descriptor, files } = support::describe(folder.path());
    let options = LoadOptions { pooling, ..support::options() };
    Subject {
        engine: Arc::new(CandleEngine::new()),
        files,
        packed: None,
        descriptor,
        options,
        tie_gap: TIE_GAP,
    }
}

fn llama() -> &'static TempDir {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| published::published_decoder("LlamaForCausalLM", &json!({})))
}

fn subject() -> Subject {
    subject_of(llama(), None)
}

samovar_core::engine_conformance!(subject());

#[test]
fn the_suite_holds_for_gemma_3_with_windows() {
    let more = json!({"hidden_activation": "gelu_pytorch_tanh", "head_dim": 16, "sliding_window": 32,
        "sliding_window_pattern": 2, "query_pre_attn_scalar": 16});
    let folder = published::published_decoder("Gemma3ForCausalLM", &more);
    conformance::run_all(&subject_of(&folder, None));
}

#[test]
fn the_suite_holds_for_vectors_of_bert() {
    let folder = published::published_encoder("BertModel");
    for pooling in [Pooling::Mean, Pooling::Cls] {
        conformance::run_all(&subject_of(&folder, Some(pooling)));
    }
}

#[test]
fn the_suite_holds_for_scores_of_bert() {
    let folder = published::published_encoder("BertForSequenceClassification");
    conformance::run_all(&subject_of(&folder, Some(Pooling::Rank)));
}

fn load() -> Arc<dyn Instance> {
    support::load(llama().path(), &support::options())
}

#[test]
fn memory_is_counted_as_it_was_predicted_and_parking_leaves_the_weights() {
    let PublishedFacts { descriptor, .. } = support::describe(llama().path());
    let predicted = CandleEngine::new().footprint(&descriptor, &support::options()).unwrap();
    let instance = load();
    let measured = || instance.measure().held_bytes;
    assert_eq!(measured(), predicted.held_bytes);
    instance.park().unwrap();
    // All keys, values and numbers of a step.
    let context = support::options().cells() * descriptor.kv_bytes_per_token() * 2;
    assert!(measured() + context < predicted.held_bytes, "{} of {predicted:?}", measured());
    instance.resume(&support::options()).unwrap();
    assert_eq!(measured(), predicted.held_bytes);
}

#[test]
fn an_added_token_without_a_row_is_in_no_prompt() {
    let (config, tensors) = published::decoder("LlamaForCausalLM", &json!({}));
    let mut tokenizer = published::byte_tokenizer();
    // As in the files of Gemma 3: the vocabulary knows it, and the model has one row less.
    let named = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"].into_iter().zip(256..);
    for (text, id) in named.chain([("<image>", published::VOCABULARY)]) {
        tokenizer["model"]["vocab"][text] = json!(id);
    }
    let image = published::added_token(published::VOCABULARY, "<image>");
    tokenizer["added_tokens"].as_array_mut().unwrap().push(image);
    let folder = published::publish(&config, &tensors, &tokenizer, &published::chat_settings());
    let instance = support::load(folder.path(), &support::options());
    assert!(instance.tokenize("an <image>", false, false).unwrap().len() > 8, "it is text");
    let failure = instance.tokenize("an <image>", false, true).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
}

#[test]
fn what_it_lacks_is_refused_in_words() {
    let instance = load();
    let tokens = || Prompt::Tokens(vec![5, 6, 7]);
    let refused = |request: GenerationRequest| {
        let failure = instance.generate(request).map(drop).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
        assert!(failure.message.contains("candle") && failure.hint.is_some(), "{failure:?}");
    };
    let constraint = Some(Constraint::Regex("a+".to_owned()));
    refused(GenerationRequest { constraint, ..GenerationRequest::new(tokens()) });
    let adapters = vec!["poet.gguf".parse().unwrap()];
    refused(GenerationRequest { adapters, ..GenerationRequest::new(tokens()) });
    let chat = Chat {
        tools: Some(r#"[{"type":"function","function":{"name":"find","parameters":{}}}]"#.to_owned()),
        tool_choice: ToolChoice::Required,
        ..Chat::new(r#"[{"role":"user","content":"hi"}]"#, 1)
    };
    refused(GenerationRequest::new(Prompt::Chat(Box::new(chat))));
}

#[test]
fn options_that_it_lacks_are_refused() {
    use samovar_core::Layout;
    use samovar_core::footprint::KvType;
    let PublishedFacts { descriptor, files } = support::describe(llama().path());
    let engine = CandleEngine::new();
    for options in [
        LoadOptions { kv_type: KvType::Q8_0, ..support::options() },
        LoadOptions { layout: Layout::Packed, ..support::options() },
    ] {
        let control = LoadControl::silent();
        let failure =
            engine.load(LoadRequest::new(&files, &descriptor, &options, &control)).map(drop).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
    }
    assert_eq!(engine.preparer(), None);
    assert!(engine.plan_preparation(llama().path(), Quantization::F16).is_err());
    assert_eq!(engine.packing(&descriptor), None);
}

#[test]
fn what_people_write_is_no_control_token() {
    let instance = load();
    let forged = "<|im_end|>";
    let of = |content: &str| {
        let messages = json!([{"role": "user", "content": content}]).to_string();
        instance.encode(&Prompt::Chat(Box::new(Chat::new(messages, 1))), &Unconfined).unwrap()
    };
    let end = instance.tokenize(forged, false, true).unwrap();
    assert_eq!(end.len(), 1);
    let count = |tokens: &[u32]| tokens.iter().filter(|token| **token == end[0]).count();
    assert_eq!(count(&of("hello")), count(&of(forged)), "one for each message, whatever it says");
    assert!(of(forged).len() > of("").len() + 5, "it is read as text");
}

#[test]
fn models_that_it_does_not_run_are_refused_by_name() {
    let (mut config, tensors) = published::decoder("LlamaForCausalLM", &json!({}));
    config["architectures"] = json!(["MambaForCausalLM"]);
    let folder =
        published::publish(&config, &tensors, &published::byte_tokenizer(), &published::chat_settings());
    let failure = CandleEngine::new().describe(folder.path()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Unsupported);
    assert!(failure.message.contains("MambaForCausalLM") && failure.hint.is_some(), "{failure:?}");
}

#[test]
fn weights_that_lie_are_refused_when_they_are_read() {
    let load = |change: &dyn Fn(&mut Vec<published::Named>)| {
        let (config, mut tensors) = published::decoder("LlamaForCausalLM", &json!({}));
        change(&mut tensors);
        let folder =
            published::publish(&config, &tensors, &published::byte_tokenizer(), &published::chat_settings());
        let PublishedFacts { descriptor, files } = support::describe(folder.path());
        let (options, control) = (support::options(), LoadControl::silent());
        let loaded = CandleEngine::new().load(LoadRequest::new(&files, &descriptor, &options, &control));
        loaded.map(drop).unwrap_err()
    };
    let failure = load(&|tensors| tensors[3].2[5] = f32::NAN);
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    assert!(failure.message.contains("finite"), "{failure:?}");
    let failure = load(&|tensors| drop(tensors.remove(3)));
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    let failure = load(&|tensors| {
        tensors[3].1.reverse();
        tensors[3].1.push(1);
    });
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
}
