//! What this engine computes against the models of candle-transformers, which others wrote: the same weights, the same numbers.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, gemma3, llama, qwen2, qwen3, smol::smollm3};
use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Truncate, Urgency};
use samovar_core::port::{Instance, Unconfined};
use samovar_core::{GenerationRequest, LoadOptions, Pooling, Prompt, Sampling, TokenEvent, TokenLogprob};
use serde_json::{Value, json};
use support::published::{self, Named};

/// Both round in 32 bits, in another order.
const NOISE: f32 = 2e-3;
/// More than one part of a prompt.
const PROMPT_TOKENS: usize = 150;
const ANSWER_TOKENS: u32 = 12;

fn weights(tensors: &[Named]) -> VarBuilder<'static> {
    let tensor = |(name, shape, numbers): &Named| {
        let tensor = Tensor::from_vec(numbers.clone(), shape.as_slice(), &Device::Cpu).expect("a tensor");
        (name.clone(), tensor)
    };
    let tensors: HashMap<String, Tensor> = tensors.iter().map(tensor).collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Tokens of an answer with their probabilities, greedily.
fn answer(instance: &Arc<dyn Instance>, prompt: Vec<u32>) -> Vec<TokenLogprob> {
    let request = GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(ANSWER_TOKENS),
        ignore_eos: true,
        logprobs: Some(20),
        reuse_prefix: false,
        ..GenerationRequest::new(Prompt::Tokens(prompt))
    };
    let mut generation = instance.generate(request).expect("the request is taken");
    let mut tokens = Vec::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Token { logprob, .. } => tokens.extend(logprob),
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
    tokens
}

/// Compares an answer with what the other model says of the same tokens, whose last logits `logits` computes.
fn compare(
    class: &str,
    more: &Value,
    logits: impl FnOnce(&Value, &[Named]) -> Box<dyn FnMut(&Tensor) -> Tensor>,
) {
    let (config, tensors) = published::decoder(class, more);
    let folder =
        published::publish(&config, &tensors, &published::byte_tokenizer(), &published::chat_settings());
    let instance = support::load(folder.path(), &support::options());
    let mut oracle = logits(&config, &tensors);
    let mut tokens: Vec<u32> = (0..PROMPT_TOKENS).map(|place| (place * 37 % 251) as u32).collect();
    let said = answer(&instance, tokens.clone());
    assert_eq!(said.len(), ANSWER_TOKENS as usize);
    for (place, ours) in said.iter().enumerate() {
        let input =
            Tensor::new(tokens.as_slice(), &Device::Cpu).expect("tokens").unsqueeze(0).expect("a batch");
        let theirs = oracle(&input).flatten_all().expect("logits").to_vec1::<f32>().expect("numbers");
        let theirs = samovar_core::logits::Distribution::new(&theirs);
        let best = theirs.top(2);
        assert!(
            best[0].0 == ours.token || best[0].1 - best[1].1 < NOISE,
            "{class}, token {place}: {} instead of {best:?}",
            ours.token
        );
        for other in &ours.top {
            let expected = theirs.logprob(other.token);
            assert!(
                (expected - other.logprob).abs() < NOISE,
                "{class}, token {place}: {expected} and {other:?}"
            );
        }
        tokens.push(ours.token);
    }
}

fn parse<T: serde::de::DeserializeOwned>(config: &Value) -> T {
    serde_json::from_value(config.clone()).expect("a configuration")
}

fn llama_logits(config: &Value, tensors: &[Named]) -> Box<dyn FnMut(&Tensor) -> Tensor> {
    let config = parse::<llama::LlamaConfig>(config).into_config(false);
    let model = llama::Llama::load(weights(tensors), &config).expect("a model");
    Box::new(move |input| {
        let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu).expect("a cache");
        model.forward(input, 0, &mut cache).expect("logits")
    })
}

#[test]
fn llama_says_what_others_compute() {
    compare("LlamaForCausalLM", &json!({}), llama_logits);
}

#[test]
fn stretched_rotations_of_llama_3_are_those_of_others() {
    let more = json!({"rope_theta": 500_000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}});
    compare("LlamaForCausalLM", &more, llama_logits);
}

#[test]
fn a_tied_head_is_the_embedding() {
    let more = json!({"tie_word_embeddings": true});
    compare("LlamaForCausalLM", &more, llama_logits);
}

#[test]
fn qwen2_says_what_others_compute() {
    let more = json!({"sliding_window": 4096, "max_window_layers": 4, "use_sliding_window": false,
        "rope_theta": 1_000_000.0});
    compare("Qwen2ForCausalLM", &more, |config, tensors| {
        let mut model = qwen2::ModelForCausalLM::new(&parse(config), weights(tensors)).expect("a model");
        Box::new(move |input| {
            model.clear_kv_cache();
            model.forward(input, 0).expect("logits")
        })
    });
}

#[test]
fn qwen3_says_what_others_compute() {
    let more = json!({"head_dim": 24, "attention_bias": false, "max_window_layers": 4, "use_sliding_window": false,
        "sliding_window": null, "rope_theta": 1_000_000.0});
    compare("Qwen3ForCausalLM", &more, |config, tensors| {
        let mut model = qwen3::ModelForCausalLM::new(&parse(config), weights(tensors)).expect("a model");
        Box::new(move |input| {
            model.clear_kv_cache();
            model.forward(input, 0).expect("logits")
        })
    });
}

#[test]
fn smollm3_says_what_others_compute() {
    let more =
        json!({"no_rope_layers": [1, 1, 0, 1], "tie_word_embeddings": true, "rope_theta": 2_000_000.0});
    compare("SmolLM3ForCausalLM", &more, |config, tensors| {
        let mut model = smollm3::ModelForCausalLM::new(&parse(config), weights(tensors)).expect("a model");
        Box::new(move |input| {
            model.clear_kv_cache();
            model.forward(input, 0).expect("logits")
        })
    });
}

#[test]
fn gemma3_says_what_others_compute() {
    let more = json!({"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
        "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 16, "sliding_window": 512,
        "sliding_window_pattern": 2, "tie_word_embeddings": true});
    compare("Gemma3ForCausalLM", &more, |config, tensors| {
        let mut model = gemma3::Model::new(false, &parse(config), weights(tensors)).expect("a model");
        // Its cache takes one token at a time; the next input is this one and a token more.
        let mut seen = 0;
        Box::new(move |input| {
            let mut last = None;
            while seen < input.dim(1).expect("tokens") {
                let token = input.narrow(1, seen, 1).expect("a token");
                last = Some(model.forward(&token, seen).expect("logits"));
                seen += 1;
            }
            last.expect("at least a token is new")
        })
    });
}

/// What is seen of a window does not depend on how a prompt is cut into parts.
#[test]
fn a_window_is_the_same_for_parts_and_single_tokens() {
    let more = json!({"sliding_window": 20});
    let folder = published::published_decoder("MistralForCausalLM", &more);
    let instance = support::load(folder.path(), &support::options());
    let tokens: Vec<u32> = (0..300).map(|place| (place * 37 % 251) as u32).collect();
    let ask = |count: usize, reuse_prefix| {
        let request = GenerationRequest {
            sampling: Sampling::greedy(),
            max_tokens: Some(1),
            ignore_eos: true,
            logprobs: Some(5),
            reuse_prefix,
            ..GenerationRequest::new(Prompt::Tokens(tokens[..count].to_vec()))
        };
        let mut generation = instance.generate(request).expect("the request is taken");
        let mut found = None;
        while let Some(event) = generation.blocking_next() {
            if let TokenEvent::Token { logprob: Some(logprob), .. } = event {
                found = Some(logprob);
            }
        }
        found.expect("a token")
    };
    // Token by token, each on the state of those before it.
    let mut one_by_one = None;
    for count in 250..=300 {
        one_by_one = Some(ask(count, true));
    }
    let (at_once, one_by_one) = (ask(300, false), one_by_one.expect("asked"));
    assert_eq!(at_once.token, one_by_one.token);
    assert!((at_once.logprob - one_by_one.logprob).abs() < NOISE, "{at_once:?} and {one_by_one:?}");
}

#[test]
fn bert_makes_the_vectors_that_others_compute() {
    let (config, tensors) = published::encoder("BertModel");
    let folder = published::publish(&config, &tensors, &published::word_tokenizer(), &json!({}));
    let options = LoadOptions { pooling: Some(Pooling::Mean), ..support::options() };
    let instance = support::load(folder.path(), &options);
    let model = bert::BertModel::load(weights(&tensors), &parse(&config)).expect("a model");
    let request = EmbedRequest {
        inputs: vec![EmbedInput::Text("once there was a fox with friends".to_owned())],
        output: EmbedOutput::Vector { dimensions: None, normalize: false },
        truncate: Truncate::Refuse,
        urgency: Urgency::Interactive,
    };
    let ours = embed(&instance, request);
    // [CLS] once there [UNK] [UNK] fox with friends [SEP]
    let ids = Tensor::new(&[[2_u32, 9, 12, 1, 1, 5, 11, 10, 3]], &Device::Cpu).expect("ids");
    let types = ids.zeros_like().expect("types");
    let theirs = model.forward(&ids, &types, None).expect("numbers").mean(1).expect("a mean");
    near(&ours, &theirs.flatten_all().expect("a row").to_vec1::<f32>().expect("numbers"));
}

/// The second text of a pair has the second type.
#[test]
fn a_pair_is_scored_with_its_token_types() {
    let (config, tensors) = published::encoder("BertForSequenceClassification");
    let folder = published::publish(&config, &tensors, &published::word_tokenizer(), &json!({}));
    let options = LoadOptions { pooling: Some(Pooling::Rank), ..support::options() };
    let instance = support::load(folder.path(), &options);
    let request = EmbedRequest {
        inputs: vec![EmbedInput::Pair { query: "fox".to_owned(), document: "owl river".to_owned() }],
        output: EmbedOutput::Score,
        truncate: Truncate::Refuse,
        urgency: Urgency::Interactive,
    };
    let ours = embed(&instance, request);
    let vb = weights(&tensors);
    let model = bert::BertModel::load(vb.pp("bert"), &parse(&config)).expect("a model");
    let ids = Tensor::new(&[[2_u32, 5, 3, 7, 8, 3]], &Device::Cpu).expect("ids");
    let score = |types: [u32; 6]| {
        let types = Tensor::new(&[types], &Device::Cpu).expect("types");
        let first = model.forward(&ids, &types, None).expect("numbers").narrow(1, 0, 1).expect("a row");
        let first = first.squeeze(1).expect("a row");
        let layer = candle_nn::linear(48, 48, vb.pp("bert.pooler.dense")).expect("a layer");
        let scores = candle_nn::linear(48, 1, vb.pp("classifier")).expect("a layer");
        let pooled = first.apply(&layer).expect("numbers").tanh().expect("numbers");
        pooled
            .apply(&scores)
            .expect("a score")
            .flatten_all()
            .expect("a row")
            .to_vec1::<f32>()
            .expect("a number")
    };
    near(&ours, &score([0, 0, 0, 1, 1, 1]));
    assert!((ours[0] - score([0; 6])[0]).abs() > 10.0 * NOISE, "the types do not matter");
}

fn embed(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Vec<f32> {
    let mut generation = instance.embed(request, &Unconfined).expect("the request is taken");
    let mut values = Vec::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Embedded(embedded) => values = embedded.values,
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
    values
}

#[track_caller]
fn near(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let furthest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < NOISE, "numbers differ by {furthest}");
}
