//! A real embedder, all-MiniLM-L6-v2, against a reference in 64-bit floats.
//!
//! Its files are in the folder that `SAMOVAR_TEST_MINILM` names, where `tools/minilm_gguf.py` writes them (`./dev test` does
//! that); without it these tests say so and are skipped.

use crate::support;

use samovar_core::ErrorKind;
use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Pooling, Truncate, Urgency};
use samovar_core::port::Engine;
use samovar_llama::LlamaEngine;
use serde_json::Value;
use support::embedding::{cosine, embed, refused, request, vector};
use support::minilm;

fn text(entry: &Value, key: &str) -> String {
    entry[key].as_str().expect("a text").to_owned()
}

fn ids(entry: &Value) -> Vec<u32> {
    entry["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn numbers(entry: &Value) -> Vec<f32> {
    let numbers = entry["vector"].as_array().expect("numbers").iter();
    numbers.map(|number| number.as_f64().expect("a number") as f32).collect()
}

#[test]
fn its_header_says_what_it_can_do() {
    let Some(model) = minilm::find() else { return };
    let engine = LlamaEngine::new();
    for kind in ["f32", "f16", "q8_0"] {
        let descriptor = model.descriptor(kind);
        assert_eq!((descriptor.pooling, descriptor.is_causal), (Some(Pooling::Mean), false));
        assert_eq!((descriptor.context_tokens, descriptor.embedding_width), (512, 384));
        let can = engine.capabilities(&descriptor);
        assert!(can.can_embed && !can.can_generate && !can.can_rerank, "{can:?}");
    }
    let can = engine.capabilities(&model.descriptor("rank"));
    assert!(can.can_rerank && !can.can_embed && !can.can_generate, "{can:?}");
}

#[test]
fn tokens_and_vectors_are_those_of_the_reference() {
    let Some(model) = minilm::find() else { return };
    for (kind, least) in [("f32", 0.9999), ("f16", 0.9999), ("q8_0", 0.999)] {
        let instance = model.load(kind);
        for entry in model.entries("texts") {
            let text = text(entry, "text");
            assert_eq!(instance.tokenize(&text, true, false).expect("tokens"), ids(entry), "{text}");
            let near = cosine(&vector(&instance, EmbedInput::Text(text.clone())), &numbers(entry));
            println!("{kind} {near:.7} {text:.40}");
            assert!(near >= least, "{kind} {near}: {text}");
        }
    }
}

#[test]
fn a_batch_of_mixed_lengths_is_as_each_alone_and_in_its_order() {
    let Some(model) = minilm::find() else { return };
    let instance = model.load("f32");
    let texts: Vec<_> = model.entries("texts").iter().map(|entry| text(entry, "text")).collect();
    // Several times, so that several batches are full.
    let inputs: Vec<_> = (0..60).map(|place| EmbedInput::Text(texts[place % texts.len()].clone())).collect();
    let alone: Vec<_> = texts.iter().map(|text| vector(&instance, EmbedInput::Text(text.clone()))).collect();
    for urgency in [Urgency::Interactive, Urgency::Bulk] {
        let (together, _) =
            embed(&instance, EmbedRequest { urgency, ..request(inputs.clone()) }).expect("it is answered");
        assert_eq!(together.len(), inputs.len());
        for (place, embedded) in together.iter().enumerate() {
            assert_eq!(embedded.index as usize, place);
            let alone = &alone[place % texts.len()];
            let apart = alone.iter().zip(&embedded.values).map(|(left, right)| (left - right).abs());
            let apart = apart.fold(0.0, f32::max);
            assert!(apart < 1e-4, "{place}: {apart}");
        }
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    let Some(model) = minilm::find() else { return };
    let instance = model.load("rank");
    for entry in model.entries("pairs") {
        let pair = EmbedInput::Pair { query: text(entry, "query"), document: text(entry, "document") };
        let score = EmbedRequest {
            output: EmbedOutput::Score,
            ..request(vec![pair, EmbedInput::Tokens(ids(entry))])
        };
        let (scores, _) = embed(&instance, score).expect("it is answered");
        let expected = entry["score"].as_f64().expect("a score");
        for score in &scores {
            assert_eq!(score.tokens as usize, ids(entry).len());
            assert!((f64::from(score.values[0]) - expected).abs() < 5e-3, "{} {expected}", score.values[0]);
        }
    }
}

#[test]
fn what_is_too_long_never_reaches_native_code() {
    let Some(model) = minilm::find() else { return };
    let instance = model.load("q8_0");
    let long = "kettle ".repeat(511);
    let failure = refused(&instance, request(vec![EmbedInput::Text(long.clone())]));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded);
    assert!(failure.message.contains("513") && failure.message.contains("512"), "{failure}");
    for truncate in [Truncate::End, Truncate::Start] {
        let cut = EmbedRequest { truncate, ..request(vec![EmbedInput::Text(long.clone())]) };
        let (embedded, _) = embed(&instance, cut).expect("it is cut");
        assert_eq!((embedded[0].tokens, embedded[0].was_cut), (512, true));
    }
    instance.probe().expect("it is alive");
}
