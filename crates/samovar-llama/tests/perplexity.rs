//! The demo model is as good on unseen text as its card says.
//!
//! The engine's port shows no probabilities of a prompt, so this asks llama.cpp itself; in a file of its
//! own, because the native library is started once in a process.

mod support;

use std::num::NonZeroU32;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use serde::Deserialize;

#[derive(Deserialize)]
struct Checks {
    perplexity: Perplexity,
}

#[derive(Deserialize)]
struct Perplexity {
    file: String,
    prefix_ids: Vec<i32>,
    bound: f64,
}

fn perplexity() -> Perplexity {
    let path = support::demo_path().with_file_name("checks.json");
    let text = fs_err::read_to_string(path).expect("reads");
    serde_json::from_str::<Checks>(&text).expect("checks.json").perplexity
}

#[test]
fn its_held_out_perplexity_is_under_the_bound_of_its_card() {
    let Perplexity { file, prefix_ids, bound } = perplexity();
    let text = fs_err::read_to_string(support::demo_path().with_file_name(file)).expect("reads");
    let backend = LlamaBackend::init().expect("the first in this process");
    let model = LlamaModel::load_from_file(&backend, support::demo_path(), &LlamaModelParams::default());
    let model = model.expect("loads");
    let vocab = model.vocab();
    let params = LlamaContextParams::default().with_n_ctx(NonZeroU32::new(512)).with_n_threads(1);
    let mut context = model.new_context(&backend, params.with_n_threads_batch(1)).expect("a context");
    let (mut loss, mut count) = (0.0, 0_u32);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut ids: Vec<_> = prefix_ids.iter().map(|&id| LlamaToken(id)).collect();
        ids.extend(vocab.tokenize(line.as_bytes(), false, false));
        context.clear_kv_cache();
        let mut batch = LlamaBatch::new(ids.len(), 1);
        for (place, &id) in (0..).zip(&ids) {
            batch.add(id, place, &[0], true).expect("fits");
        }
        context.decode(&mut batch).expect("decodes");
        for (place, id) in (0..).zip(&ids).skip(prefix_ids.len()) {
            loss -= log_probability(context.get_logits_ith(place - 1), id.0 as usize);
            count += 1;
        }
    }
    let perplexity = (loss / f64::from(count)).exp();
    assert!(count > 5_000 && perplexity <= bound, "{perplexity} over {count} tokens, bound {bound}");
}

fn log_probability(logits: &[f32], token: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    f64::from(logits[token]) - largest - sum.ln()
}
