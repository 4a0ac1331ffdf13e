//! What is refused, by a name that helps; and that nothing is left behind then.

use std::ops::ControlFlow;

use samovar_convert::{FloatFormat, Options, convert, judge};
use samovar_core::ErrorKind;
use serde_json::{Value, json};

use crate::repository::{Repository, VOCABULARY, WIDE, WIDTH, config};
use crate::tokenizers::{QWEN2, byte_pairs};
use crate::written::Written;

/// A small Qwen2, sound and not written yet.
fn model(more: &Value) -> Repository {
    let mut model = Repository::new(&config("Qwen2ForCausalLM", more))
        .tensor("model.embed_tokens.weight", &[VOCABULARY, WIDTH])
        .tensor("model.norm.weight", &[WIDTH]);
    for block in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[WIDTH][..]),
            ("self_attn.q_proj", &[WIDTH, WIDTH]),
            ("self_attn.k_proj", &[WIDTH, WIDTH]),
            ("self_attn.v_proj", &[WIDTH, WIDTH]),
            ("self_attn.o_proj", &[WIDTH, WIDTH]),
            ("post_attention_layernorm", &[WIDTH]),
            ("mlp.gate_proj", &[WIDE, WIDTH]),
            ("mlp.up_proj", &[WIDE, WIDTH]),
            ("mlp.down_proj", &[WIDTH, WIDE]),
        ] {
            model = model.tensor(&format!("model.layers.{block}.{name}.weight"), shape);
        }
    }
    model
        .file("tokenizer.json", &byte_pairs(QWEN2).to_string())
        .file("tokenizer_config.json", r#"{"eos_token":"<|end|>"}"#)
}

fn sound() -> Repository {
    model(&json!({}))
}

#[test]
fn the_same_files_give_the_same_bytes_whole_or_in_shards() {
    let (whole, shards) = (sound().whole(), sound().in_two());
    whole.converted();
    shards.converted();
    let bytes = fs_err::read(whole.target()).unwrap();
    assert_eq!(bytes, fs_err::read(shards.target()).unwrap());
    let plan = judge(whole.path()).unwrap();
    assert_eq!(plan.output_bytes(), bytes.len() as u64);
    assert!(plan.peak_memory_bytes() < 200 << 20);
    let names: Vec<&str> = plan.inputs().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
}

#[test]
fn what_f16_cannot_hold_stays_bf16_and_the_rest_does_not() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let model = sound().with(name, 131_072.0).whole();
    let (converted, written) = model.converted();
    assert_eq!(converted.beyond_f16, ["blk.1.ffn_up.weight"]);
    assert_eq!(written.tensors["blk.1.ffn_up.weight"].format, 30);
    assert_eq!(written.tensors["blk.1.ffn_up.weight"].numbers, model.numbers(name));
    assert_eq!(written.tensors["blk.0.ffn_up.weight"].format, 1);
}

#[test]
fn published_floats_are_kept_where_they_are_asked_for() {
    let model = sound().whole();
    let options = Options { float: FloatFormat::AsPublished, name: Some("a name".to_owned()) };
    let plan = judge(model.path()).unwrap();
    let converted = convert(&plan, &model.target(), &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(converted.descriptor.quantization, "BF16");
    assert_eq!(converted.descriptor.name.as_deref(), Some("a name"));
    assert_eq!(Written::read(&model.target()).tensors["blk.0.ffn_up.weight"].format, 30);
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let model = sound().whole();
    let plan = judge(model.path()).unwrap();
    let mut pieces = 0;
    let failure = convert(&plan, &model.target(), &Options::default(), &mut |progress| {
        pieces += 1;
        assert!(progress.done_bytes <= progress.total_bytes);
        if pieces == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap_err();
    assert_eq!((failure.kind, pieces), (ErrorKind::Cancelled, 5));
    assert!(!model.target().exists());
}

#[test]
fn a_file_with_something_in_it_is_not_written_over() {
    let model = sound().file("converted.gguf", "mine").whole();
    let failure = model.try_convert().unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Storage);
    assert_eq!(fs_err::read_to_string(model.target()).unwrap(), "mine");
}

#[test]
fn weights_that_changed_since_they_were_judged_are_refused() {
    let model = sound().whole();
    let plan = judge(model.path()).unwrap();
    let weights = model.path().join("model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    bytes.push(0);
    fs_err::write(&weights, bytes).unwrap();
    let failure =
        convert(&plan, &model.target(), &Options::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(failure.kind == ErrorKind::Storage && failure.message.contains("changed"), "{failure:?}");
    assert!(!model.target().exists());
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    for number in [f32::NAN, f32::INFINITY] {
        let failure = sound().with("model.layers.1.mlp.up_proj.weight", number).whole().refusal();
        assert_eq!(failure.kind, ErrorKind::InvalidModel);
        assert!(failure.message.contains("blk.1.ffn_up.weight"), "{failure:?}");
    }
}

#[test]
fn a_folder_without_safetensors_says_what_it_has() {
    let pickle = sound().file("pytorch_model.bin", "\u{80}\u{2}").refusal();
    assert_eq!(pickle.kind, ErrorKind::Unsupported);
    assert!(pickle.message.contains("pytorch_model.bin") && pickle.hint.is_some(), "{pickle:?}");
    assert!(sound().refusal().message.contains("model.safetensors"));
    let consolidated = sound().file("consolidated.safetensors", "x").refusal();
    assert!(consolidated.message.contains("Mistral"), "{consolidated:?}");
}

#[test]
fn shards_that_are_missing_or_swapped_are_named() {
    let shard = |number: u32| format!("model-0000{number}-of-00002.safetensors");
    let missing = sound().in_two();
    fs_err::remove_file(missing.path().join(shard(2))).unwrap();
    assert!(missing.refusal().message.contains(&shard(2)));

    let swapped = sound().in_two();
    let (first, second) = (swapped.path().join(shard(1)), swapped.path().join(shard(2)));
    fs_err::rename(&first, swapped.path().join("aside")).unwrap();
    fs_err::rename(&second, &first).unwrap();
    fs_err::rename(swapped.path().join("aside"), &second).unwrap();
    assert!(swapped.refusal().message.contains("swapped"));

    let unindexed = sound().in_two();
    fs_err::remove_file(unindexed.path().join("model.safetensors.index.json")).unwrap();
    unindexed.converted();
    fs_err::remove_file(unindexed.target()).unwrap();
    fs_err::remove_file(unindexed.path().join(shard(1))).unwrap();
    assert!(unindexed.refusal().message.contains("file 1 of 2"));
}

#[test]
fn weights_that_lie_about_their_places_are_refused_and_leave_nothing() {
    let name = "model.norm.weight";
    let (begin, end) = sound().whole().place(name);
    for (places, words) in [
        ([begin, end + 2], "takes 16 bytes"),
        ([begin - 2, end - 2], "overlap"),
        ([begin + 2, end + 2], "belong to no tensor"),
        ([begin + (1 << 40), end + (1 << 40)], "belong to no tensor"),
    ] {
        let failure = sound().whole().placed(name, places).refusal();
        assert_eq!(failure.kind, ErrorKind::InvalidModel);
        assert!(
            failure.message.contains(words) && failure.message.contains("model.safetensors"),
            "{failure:?}"
        );
        assert!(failure.hint.is_some(), "{failure:?}");
    }
    let cut = sound().whole();
    let path = cut.path().join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    fs_err::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    let failure = cut.refusal();
    assert!(failure.message.contains("ends at byte"), "{failure:?}");
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    for place in ["../model.safetensors", "/etc/passwd", "model.gguf", ""] {
        let index = json!({"weight_map": {"model.norm.weight": place}}).to_string();
        let failure = sound().file("model.safetensors.index.json", &index).refusal();
        assert_eq!(failure.kind, ErrorKind::InvalidModel, "{place:?}: {failure:?}");
    }
    let pickle = json!({"weight_map": {"model.norm.weight": "pytorch_model.bin"}}).to_string();
    let failure = sound().file("model.safetensors.index.json", &pickle).refusal();
    assert!(failure.message.contains("pickle"), "{failure:?}");
}

#[test]
fn weights_of_another_model_than_the_configuration_are_named() {
    let missing = sound().without("model.norm.weight").whole().refusal();
    assert!(missing.message.contains("model.norm.weight"), "{missing:?}");
    let more = sound().tensor("model.layers.2.mlp.up_proj.weight", &[WIDE, WIDTH]).whole().refusal();
    assert!(more.message.contains("model.layers.2.mlp.up_proj.weight"), "{more:?}");
    let narrow = model(&json!({"intermediate_size": 8})).whole().refusal();
    assert!(narrow.message.contains("[16, 8]") && narrow.message.contains("[8, 8]"), "{narrow:?}");
    let untied = model(&json!({"tie_word_embeddings": false})).whole().refusal();
    assert!(untied.message.contains("lm_head"), "{untied:?}");
}

#[test]
fn models_that_are_quantized_already_name_their_method() {
    for method in ["gptq", "awq", "mxfp4", "bitsandbytes", "fp8", "compressed-tensors"] {
        let said = model(&json!({"quantization_config": {"quant_method": method}})).whole().refusal();
        assert!(said.kind == ErrorKind::Unsupported && said.message.contains(method), "{said:?}");
        assert!(said.hint.is_some_and(|hint| hint.contains("made from")), "{method}");
    }
    let projection = "model.layers.0.self_attn.q_proj";
    for packed in ["qweight", "weight_packed", "weight.absmax"] {
        let name = format!("{projection}.{packed}");
        let instead = sound().without(&format!("{projection}.weight")).tensor(&name, &[4]).whole().refusal();
        assert!(instead.kind == ErrorKind::Unsupported && instead.message.contains(packed), "{instead:?}");
    }
    let experts = "model.layers.0.mlp.experts.gate_up_proj_blocks";
    let experts = sound().tensor(experts, &[4]).whole().refusal();
    assert!(experts.kind == ErrorKind::Unsupported && experts.message.contains("_blocks"), "{experts:?}");
    let unsaid = sound().tensor("model.layers.0.self_attn.q_proj.qweight", &[4]).whole().refusal();
    assert!(unsaid.message.contains("qweight"), "{unsaid:?}");
}

#[test]
fn numbers_that_cannot_be_are_refused_before_they_are_used() {
    for (key, value) in [
        ("num_hidden_layers", json!(1_000_000)),
        ("hidden_size", json!(0)),
        ("num_attention_heads", json!(-2)),
        ("num_attention_heads", json!(3)),
        ("vocab_size", json!(u64::MAX)),
        ("intermediate_size", json!("16")),
        ("head_dim", json!(1_u64 << 40)),
        ("rms_norm_eps", json!([])),
    ] {
        let failure = model(&json!({key: value})).whole().refusal();
        assert_eq!(failure.kind, ErrorKind::InvalidModel, "{key}: {failure:?}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(sound().file("config.json", &deep).whole().refusal().message.contains("config.json"));
}

#[test]
fn tokenizers_that_lack_a_part_are_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut file = byte_pairs(QWEN2);
        change(&mut file);
        sound().file("tokenizer.json", &file.to_string()).whole().refusal()
    };
    assert!(with(&|file| file["model"]["merges"] = json!([])).message.contains("merges"));
    assert!(with(&|file| file["model"]["vocab"]["x"] = json!(99)).message.contains("99"));
    assert!(with(&|file| file["model"]["vocab"]["x"] = json!(0)).message.contains("two tokens"));
    assert!(with(&|file| file["normalizer"] = json!({"type": "Lowercase"})).message.contains("Lowercase"));
    assert!(
        with(&|file| file["pre_tokenizer"] = json!({"type": "Whitespace"})).message.contains("Whitespace")
    );
    let none = sound().whole();
    fs_err::remove_file(none.path().join("tokenizer.json")).unwrap();
    assert!(none.refusal().message.contains("tokenizer.json"));
    let tekken = sound().file("tekken.json", "{}").whole();
    fs_err::remove_file(tekken.path().join("tokenizer.json")).unwrap();
    assert!(tekken.refusal().message.contains("tekken.json"));
}

#[test]
fn an_architecture_that_is_not_known_is_refused_by_its_name() {
    let failure = model(&json!({"architectures": ["MambaForCausalLM"]})).whole().refusal();
    assert!(failure.kind == ErrorKind::Unsupported && failure.message.contains("MambaForCausalLM"));
    assert!(failure.hint.is_some_and(|hint| hint.contains("GGUF")));
}
