//! Adapters as PEFT publishes them: what is written adds to the rows of the model's file what was published for its own rows.

use std::ops::ControlFlow;

use samovar_convert::{convert_adapter, judge, judge_adapter};
use samovar_core::{Descriptor, ErrorKind, Failure};
use serde_json::{Value, json};

use crate::decoders::{HEAD, llama_like, with_byte_pairs, with_pieces};
use crate::repository::{Repository, VOCABULARY, WIDE, WIDTH};
use crate::tokenizers::QWEN2;
use crate::written::Written;

const RANK: u64 = 2;
const ALPHA: f32 = 3.0;

/// What the header of a small Llama says.
fn llama() -> Descriptor {
    let model = with_pieces(llama_like("LlamaForCausalLM", &json!({}), "model."));
    model.tensor("lm_head.weight", &[VOCABULARY, WIDTH]).whole().converted().0.descriptor
}

fn layer(block: u32, name: &str) -> String {
    format!("base_model.model.model.layers.{block}.{name}")
}

/// An adapter for both attention and feed-forward layers, which is not written yet.
fn adapter(more: &Value) -> Repository {
    let mut said = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"});
    said.as_object_mut()
        .expect("built by the test")
        .extend(more.as_object().expect("built by the test").clone());
    let mut adapter = Repository::new(&json!({})).file("adapter_config.json", &said.to_string());
    for block in 0..2 {
        for (name, rows, columns) in [
            ("self_attn.q_proj", 2 * HEAD, WIDTH),
            ("self_attn.k_proj", HEAD, WIDTH),
            ("self_attn.v_proj", HEAD, WIDTH),
            ("self_attn.o_proj", WIDTH, 2 * HEAD),
            ("mlp.down_proj", WIDTH, WIDE),
        ] {
            adapter = adapter
                .tensor(&format!("{}.lora_A.weight", layer(block, name)), &[RANK, columns])
                .tensor(&format!("{}.lora_B.weight", layer(block, name)), &[rows, RANK]);
        }
    }
    adapter
}

fn try_convert(adapter: &Repository, base: &Descriptor) -> Result<u64, Failure> {
    let plan = judge_adapter(adapter.path(), base)?;
    convert_adapter(&plan, base, &adapter.target(), &mut |_| ControlFlow::Continue(()))
}

fn converted(adapter: &Repository, base: &Descriptor) -> Written {
    let bytes = try_convert(adapter, base).expect("built by the test");
    assert_eq!(fs_err::metadata(adapter.target()).expect("is there").len(), bytes);
    Written::read(&adapter.target())
}

/// Why an adapter is not converted, and that nothing is left.
fn refusal(adapter: &Repository, base: &Descriptor) -> Failure {
    let failure = try_convert(adapter, base).expect_err("refused");
    assert!(!adapter.target().exists(), "something is left after {failure:?}");
    assert!(failure.hint.is_some(), "{failure:?}");
    failure
}

fn dot(one: &[f32], other: impl Iterator<Item = f32>) -> f64 {
    one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(other)).sum()
}

/// Asserts that a written pair adds to each row of the written matrix what the published one adds to the row that lies there,
/// where GGUF scales by alpha over rank, and PEFT by `scale`.
fn assert_adds_the_same(
    adapter: &Repository,
    written: &Written,
    published: &str,
    matrix: &str,
    rows: &[usize],
    scale: f64,
) {
    let half = |half: &str| adapter.numbers(&format!("{published}.lora_{half}.weight"));
    let (first, second) = (half("A"), half("B"));
    let rank = RANK as usize;
    let columns = first.len() / rank;
    let alpha = written.number("adapter.lora.alpha").expect("is there");
    let written_first: Vec<&[f32]> =
        (0..rank).map(|row| written.row(&format!("{matrix}.lora_a"), row)).collect();
    for (row, from) in rows.iter().enumerate() {
        let written_second = written.row(&format!("{matrix}.lora_b"), row);
        for column in 0..columns {
            let wanted = scale
                * dot(
                    &second[from * rank..(from + 1) * rank],
                    (0..rank).map(|r| first[r * columns + column]),
                );
            let found = alpha / f64::from(RANK as u32)
                * dot(written_second, (0..rank).map(|r| written_first[r][column]));
            assert!(
                (wanted - found).abs() < 1e-6,
                "{matrix}, row {row}, column {column}: {wanted} and {found}"
            );
        }
    }
}

#[test]
fn an_adapter_of_llama_has_its_rows_interleaved_like_its_model() {
    let adapter = adapter(&json!({})).into_adapter();
    let written = converted(&adapter, &llama());
    assert_eq!(written.tensors.len(), 2 * 5 * 2);
    assert!(written.tensors.values().all(|tensor| tensor.format == 0), "32-bit floats");
    assert_eq!(written.text("general.type"), Some("adapter"));
    assert_eq!(written.text("general.architecture"), Some("llama"));
    assert_eq!(written.text("adapter.type"), Some("lora"));
    assert_eq!(written.number("general.file_type"), Some(0.0));
    let scale = f64::from(ALPHA) / f64::from(RANK as u32);
    for (name, matrix, rows) in [
        ("self_attn.q_proj", "attn_q", &[0, 2, 1, 3, 4, 6, 5, 7][..]),
        ("self_attn.k_proj", "attn_k", &[0, 2, 1, 3]),
        ("self_attn.v_proj", "attn_v", &[0, 1, 2, 3]),
        ("self_attn.o_proj", "attn_output", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("mlp.down_proj", "ffn_down", &[0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        let matrix = format!("blk.1.{matrix}.weight");
        assert_adds_the_same(&adapter, &written, &layer(1, name), &matrix, rows, scale);
    }
}

#[test]
fn an_adapter_of_qwen_keeps_its_rows_and_the_root_of_the_rank_is_in_alpha() {
    let base = with_byte_pairs(
        llama_like("Qwen2ForCausalLM", &json!({"tie_word_embeddings": true}), "model."),
        QWEN2,
    );
    let base = base.whole().converted().0.descriptor;
    let adapter = adapter(&json!({"use_rslora": true})).into_adapter();
    let written = converted(&adapter, &base);
    let scale = f64::from(ALPHA) / f64::from(RANK as u32).sqrt();
    let published = layer(0, "self_attn.q_proj");
    assert_adds_the_same(
        &adapter,
        &written,
        &published,
        "blk.0.attn_q.weight",
        &[0, 1, 2, 3, 4, 5, 6, 7],
        scale,
    );
}

#[test]
fn the_same_adapter_gives_the_same_bytes() {
    let adapter = adapter(&json!({})).into_adapter();
    converted(&adapter, &llama());
    let bytes = fs_err::read(adapter.target()).unwrap();
    fs_err::remove_file(adapter.target()).unwrap();
    let plan = judge_adapter(adapter.path(), &llama()).unwrap();
    assert_eq!((plan.class(), plan.output_bytes()), ("LORA", bytes.len() as u64));
    let names: Vec<&str> = plan.inputs().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    converted(&adapter, &llama());
    assert_eq!(fs_err::read(adapter.target()).unwrap(), bytes);
}

#[test]
fn an_adapter_that_does_not_fit_its_model_says_where() {
    let base = llama();
    let first = format!("{}.lora_A.weight", layer(0, "self_attn.q_proj"));
    let other_width = adapter(&json!({})).without(&first).tensor(&first, &[RANK, 2 * WIDTH]).into_adapter();
    let failure = refusal(&other_width, &base);
    assert_eq!(failure.kind, ErrorKind::InvalidModel);
    assert!(failure.message.contains(&first) && failure.message.contains("[2, 16]"), "{failure:?}");
    let other_rank = refusal(&adapter(&json!({"r": 4})).into_adapter(), &base);
    assert!(other_rank.message.contains("rank is 4"), "{other_rank:?}");
    let deeper = layer(2, "self_attn.q_proj");
    let deeper = adapter(&json!({}))
        .tensor(&format!("{deeper}.lora_A.weight"), &[RANK, WIDTH])
        .tensor(&format!("{deeper}.lora_B.weight"), &[2 * HEAD, RANK]);
    assert!(refusal(&deeper.into_adapter(), &base).message.contains("2 blocks"));
    let half =
        adapter(&json!({})).without(&format!("{}.lora_B.weight", layer(1, "mlp.down_proj"))).into_adapter();
    assert!(refusal(&half, &base).message.contains("down_proj.lora_B.weight"));
    let bert = Descriptor { architecture: "bert".to_owned(), ..base };
    let failure = refusal(&adapter(&json!({})).into_adapter(), &bert);
    assert!(failure.kind == ErrorKind::Unsupported && failure.message.contains("bert"), "{failure:?}");
}

#[test]
fn what_gguf_cannot_hold_of_an_adapter_is_refused_by_its_name() {
    let base = llama();
    for (tensor, shape, word) in [
        (format!("{}.lora_magnitude_vector", layer(0, "self_attn.q_proj")), &[WIDTH][..], "DoRA"),
        ("base_model.model.model.embed_tokens.lora_embedding_A".to_owned(), &[RANK, VOCABULARY], "embedding"),
        ("base_model.model.lm_head.weight".to_owned(), &[VOCABULARY, WIDTH], "whole layers"),
        ("base_model.model.model.norm.weight".to_owned(), &[WIDTH], "whole layers"),
        (format!("{}.bias", layer(0, "self_attn.q_proj.base_layer")), &[WIDTH], "biases"),
    ] {
        let failure = refusal(&adapter(&json!({})).tensor(&tensor, shape).into_adapter(), &base);
        assert!(
            failure.kind == ErrorKind::Unsupported && failure.message.contains(word),
            "{tensor}: {failure:?}"
        );
    }
    let said = refusal(&adapter(&json!({"use_dora": true})).into_adapter(), &base);
    assert!(said.message.contains("DoRA") && said.hint.is_some_and(|hint| hint.contains("merge")));
}

#[test]
fn files_of_an_adapter_that_are_not_sound_are_refused_and_leave_nothing() {
    let base = llama();
    let name = format!("{}.lora_B.weight", layer(0, "self_attn.k_proj"));
    let failure = refusal(&adapter(&json!({})).with(&name, f32::NAN).into_adapter(), &base);
    assert!(failure.message.contains("blk.0.attn_k.weight.lora_b"), "{failure:?}");
    let pickle = refusal(&adapter(&json!({})).file("adapter_model.bin", "x"), &base);
    assert!(
        pickle.message.contains("adapter_model.bin") && pickle.message.contains("never read"),
        "{pickle:?}"
    );
    assert!(refusal(&adapter(&json!({})), &base).message.contains("adapter_model.safetensors"));
    let bare = adapter(&json!({})).into_adapter();
    fs_err::remove_file(bare.path().join("config.json")).unwrap();
    let as_model = judge(bare.path()).unwrap_err();
    assert!(
        as_model.hint.is_some_and(|hint| hint.contains("adapters")) && as_model.message.contains("adapter")
    );
    fs_err::remove_file(bare.path().join("adapter_config.json")).unwrap();
    assert!(refusal(&bare, &base).message.contains("adapter_config.json"));
}
