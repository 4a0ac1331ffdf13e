//! Listings as repositories have them, and what is chosen of each.

use proptest::prelude::*;

use super::*;

/// The names that are chosen, weights first, or the error with its hint.
fn chosen(names: &[&str], quant: Option<&str>, file: Option<&str>) -> Result<(String, Vec<String>), String> {
    match choose("org/name", names, &Want { quant, file }) {
        Ok(choice) => {
            let names = choice.files.iter().map(|(place, _)| names[*place].to_owned()).collect();
            Ok((choice.quant, names))
        }
        Err(error) => Err(format!("{error} | {}", error.hint().unwrap_or_default())),
    }
}

#[track_caller]
fn picks(names: &[&str], quant: Option<&str>, expected_quant: &str, expected: &[&str]) {
    let expected = expected.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(chosen(names, quant, None), Ok((expected_quant.to_owned(), expected)));
}

/// As one of the large publishers names them.
const PLAIN: [&str; 12] = [
    ".gitattributes",
    "README.md",
    "Llama-3.2-1B-Instruct-IQ3_M.gguf",
    "Llama-3.2-1B-Instruct-IQ4_XS.gguf",
    "Llama-3.2-1B-Instruct-Q4_0.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_L.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_S.gguf",
    "Llama-3.2-1B-Instruct-Q6_K.gguf",
    "Llama-3.2-1B-Instruct-Q8_0.gguf",
    "Llama-3.2-1B-Instruct-f16.gguf",
    "Llama-3.2-1B-Instruct.imatrix",
];

/// As another does: mixtures of its own, large ones in folders and parts.
const DYNAMIC: [&str; 12] = [
    "BF16/Qwen3-30B-A3B-BF16-00001-of-00002.gguf",
    "BF16/Qwen3-30B-A3B-BF16-00002-of-00002.gguf",
    "Qwen3-30B-A3B-IQ4_NL.gguf",
    "Qwen3-30B-A3B-Q2_K.gguf",
    "Qwen3-30B-A3B-Q4_K_M.gguf",
    "Qwen3-30B-A3B-UD-IQ1_S.gguf",
    "Qwen3-30B-A3B-UD-Q2_K_XL.gguf",
    "Qwen3-30B-A3B-UD-Q4_K_XL.gguf",
    "config.json",
    "imatrix_unsloth.dat",
    "imatrix_unsloth.gguf_file",
    "params",
];

#[test]
fn takes_the_wanted_quantization_in_any_case() {
    for wanted in ["Q4_K_M", "q4_k_m", "Q4_k_M"] {
        picks(&PLAIN, Some(wanted), "Q4_K_M", &["Llama-3.2-1B-Instruct-Q4_K_M.gguf"]);
    }
    for (wanted, quant, name) in [
        ("IQ4_XS", "IQ4_XS", "Llama-3.2-1B-Instruct-IQ4_XS.gguf"),
        ("Q4_K_L", "Q4_K_L", "Llama-3.2-1B-Instruct-Q4_K_L.gguf"),
        ("Q6_K", "Q6_K", "Llama-3.2-1B-Instruct-Q6_K.gguf"),
        ("Q4_0", "Q4_0", "Llama-3.2-1B-Instruct-Q4_0.gguf"),
        ("F16", "F16", "Llama-3.2-1B-Instruct-f16.gguf"),
        ("fp16", "F16", "Llama-3.2-1B-Instruct-f16.gguf"),
    ] {
        picks(&PLAIN, Some(wanted), quant, &[name]);
    }
}

#[test]
fn part_of_a_quantizations_name_is_not_its_name() {
    for wanted in ["Q4_K", "Q4", "K_M", "Q8", "IQ4", "4_K_M", "Q4_K_MX", "Instruct"] {
        let error = chosen(&PLAIN, Some(wanted), None).unwrap_err();
        assert!(error.contains(wanted) && error.contains("Q4_K_L, Q4_K_M, Q4_K_S"), "{wanted}: {error}");
    }
}

#[test]
fn takes_the_preferred_one_when_none_is_named() {
    picks(&PLAIN, None, "Q4_K_M", &["Llama-3.2-1B-Instruct-Q4_K_M.gguf"]);
    picks(&["m-Q2_K.gguf", "m-Q8_0.gguf", "m-F16.gguf"], None, "Q8_0", &["m-Q8_0.gguf"]);
    picks(&["m.Q5_K_S.gguf", "README.md"], None, "Q5_K_S", &["m.Q5_K_S.gguf"]);
    picks(&["ggml-model.gguf"], None, "", &["ggml-model.gguf"]);
    let error = chosen(&["m-Q2_K.gguf", "m-Q6_K.gguf"], None, None).unwrap_err();
    assert!(error.contains("Q2_K, Q6_K") && error.contains("organisation/name:Q2_K"), "{error}");
    assert_eq!(preferred(["Q2_K", "Q8_0", "Q8_0"]), Some("Q8_0"));
    assert_eq!(preferred(["Q2_K", "Q2_K"]), Some("Q2_K"));
    assert_eq!(preferred(["Q2_K", "Q3_K"]), None);
    assert_eq!(preferred([]), None);
}

#[test]
fn reads_the_quantization_in_all_its_places() {
    for (name, quant) in [
        ("model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.Q4_K_M.gguf", "Q4_K_M"),
        ("model_Q4_K_M.gguf", "Q4_K_M"),
        ("model-q4_0.gguf", "Q4_0"),
        ("MODEL-Q4_0.GGUF", "Q4_0"),
        ("model-q4_0_4_8.gguf", "Q4_0_4_8"),
        ("model.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("UD-Q4_K_XL/model-00001-of-00001.gguf", "UD-Q4_K_XL"),
        ("Q4_K_M/model.gguf", "Q4_K_M"),
        ("Q4_K_M/sub/model.gguf", "Q4_K_M"),
        ("Q8_0/model-Q4_K_M.gguf", "Q4_K_M"),
        ("model-bf16.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("model.f32.gguf", "F32"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("model-IQ4_NL.gguf", "IQ4_NL"),
        ("model-f16-Q6_K.gguf", "Q6_K"),
        ("model-f16_chat.gguf", "F16"),
        ("model-Q4_K_M-imat.gguf", "Q4_K_M"),
        ("Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen2.5-7B.gguf", ""),
        ("q-learning.gguf", ""),
        ("fq4_0.gguf", ""),
        ("IQ.gguf", ""),
        ("Q4K.gguf", ""),
    ] {
        picks(&[name], None, quant, &[name]);
    }
}

#[test]
fn mixtures_are_apart_and_stand_in_where_nothing_else_has_the_name() {
    picks(&DYNAMIC, Some("UD-Q4_K_XL"), "UD-Q4_K_XL", &["Qwen3-30B-A3B-UD-Q4_K_XL.gguf"]);
    picks(&DYNAMIC, Some("Q4_K_XL"), "UD-Q4_K_XL", &["Qwen3-30B-A3B-UD-Q4_K_XL.gguf"]);
    picks(&DYNAMIC, None, "Q4_K_M", &["Qwen3-30B-A3B-Q4_K_M.gguf"]);
    picks(&["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], Some("Q4_K_M"), "Q4_K_M", &["m-Q4_K_M.gguf"]);
    assert!(chosen(&DYNAMIC, Some("UD-Q4_K_M"), None).is_err());
}

#[test]
fn parts_come_in_order_and_all_of_them() {
    picks(
        &DYNAMIC,
        Some("bf16"),
        "BF16",
        &["BF16/Qwen3-30B-A3B-BF16-00001-of-00002.gguf", "BF16/Qwen3-30B-A3B-BF16-00002-of-00002.gguf"],
    );
    let shuffled = ["m-Q8_0-00010-of-00010.gguf".to_owned()];
    let shuffled =
        shuffled.into_iter().chain((1..10).rev().map(|at| format!("m-Q8_0-{at:05}-of-00010.gguf")));
    let shuffled: Vec<_> = shuffled.collect();
    let names: Vec<_> = shuffled.iter().map(String::as_str).collect();
    let (_, parts) = chosen(&names, None, None).unwrap();
    assert!(parts.is_sorted() && parts.len() == 10, "{parts:?}");
    let gap: Vec<_> = names.iter().copied().filter(|name| !name.contains("-00004-")).collect();
    let error = chosen(&gap, None, None).unwrap_err();
    assert!(error.contains("part 4 of 10 of m-Q8_0"), "{error}");
    let error = chosen(&["m-00002-of-00002.gguf"], None, None).unwrap_err();
    assert!(error.contains("part 1 of 2"), "{error}");
}

#[test]
fn numbers_that_cannot_be_parts_are_names() {
    for name in
        ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-x-of-2.gguf", "best-of-3.gguf", "m-1-of-.gguf"]
    {
        picks(&[name], None, "", &[name]);
    }
    assert!(chosen(&["m-00001-of-99999.gguf"], None, None).is_err());
}

#[test]
fn one_file_is_taken_before_parts_and_the_outer_before_the_inner() {
    let whole = "m-Q8_0.gguf";
    picks(&["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", whole], None, "Q8_0", &[whole]);
    picks(&["old/m-Q8_0.gguf", whole], None, "Q8_0", &[whole]);
}

#[test]
fn several_models_must_be_told_apart_by_file() {
    let names = ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "b-Q8_0.gguf"];
    let error = chosen(&names, None, None).unwrap_err();
    assert!(error.contains("hf://organisation/name/a-Q4_K_M.gguf"), "{error}");
    assert!(error.contains("a-Q4_K_M.gguf, b-Q4_K_M.gguf"), "{error}");
    picks(&names, Some("q8_0"), "Q8_0", &["b-Q8_0.gguf"]);
}

#[test]
fn a_projector_comes_along_and_is_never_the_model() {
    let names = ["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf", "gemma-3-4b-it-Q4_K_M.gguf"];
    picks(&names, None, "Q4_K_M", &["gemma-3-4b-it-Q4_K_M.gguf", "mmproj-F16.gguf"]);
    let choice = choose("x", &names, &Want::default()).unwrap();
    assert_eq!((choice.modality, choice.files[1].1), ("vision", Role::Projector));
    let named = ["gemma.mmproj-Q8_0.gguf", "gemma.Q4_K_M.gguf"];
    picks(&named, None, "Q4_K_M", &["gemma.Q4_K_M.gguf", "gemma.mmproj-Q8_0.gguf"]);
    picks(
        &["Q8_0/m-Q8_0.gguf", "mmproj-m-f16.gguf"],
        None,
        "Q8_0",
        &["Q8_0/m-Q8_0.gguf", "mmproj-m-f16.gguf"],
    );
    let error = chosen(&["mmproj-F16.gguf"], None, None).unwrap_err();
    assert!(error.contains("is not there"), "{error}");
}

#[test]
fn a_named_file_is_taken_with_its_parts_and_nothing_else() {
    let file = |names: &[&str], file: &str| chosen(names, None, Some(file)).map(|(_, names)| names);
    assert_eq!(file(&PLAIN, PLAIN[4]).unwrap(), [PLAIN[4]]);
    assert_eq!(file(&DYNAMIC, DYNAMIC[1]).unwrap(), [DYNAMIC[0], DYNAMIC[1]]);
    assert_eq!(file(&["mmproj-F16.gguf", "m-Q8_0.gguf"], "mmproj-F16.gguf").unwrap(), ["mmproj-F16.gguf"]);
    let error = file(&PLAIN, "Llama.gguf").unwrap_err();
    assert!(error.contains("Llama-3.2-1B-Instruct-Q4_K_M.gguf") && !error.contains("README"), "{error}");
    let error = file(&["m-00001-of-00002.gguf"], "m-00001-of-00002.gguf").unwrap_err();
    assert!(error.contains("part 2 of 2"), "{error}");
    let (quant, _) = chosen(&PLAIN, None, Some(PLAIN[7])).unwrap();
    assert_eq!(quant, "Q4_K_S");
}

/// A repository as its author publishes it.
const SAFETENSORS: [&str; 20] = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "configuration_qwen.py",
    "generation_config.json",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "modeling_qwen.py",
    "original/consolidated.00.pth",
    "pytorch_model.bin",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

#[test]
fn safetensors_come_with_what_they_need_and_without_code() {
    let (quant, names) = chosen(&SAFETENSORS, None, None).unwrap();
    assert_eq!(quant, "");
    assert_eq!(
        names[..3],
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
    let mut rest = names[3..].to_vec();
    rest.sort();
    assert_eq!(
        rest,
        [
            "added_tokens.json",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "vocab.json"
        ]
    );
    let roles = choose("x", &SAFETENSORS, &Want::default()).unwrap().files;
    let role = |name: &str| roles.iter().find(|(place, _)| SAFETENSORS[*place] == name).unwrap().1;
    assert_eq!(role("chat_template.jinja"), Role::Template);
    assert_eq!(role("config.json"), Role::Config);
    assert_eq!(role("model.safetensors.index.json"), Role::Config);
    assert_eq!(role("tokenizer.model"), Role::Tokenizer);
}

#[test]
fn the_usual_weights_are_taken_before_others_in_safetensors() {
    let names = ["consolidated.safetensors", "model.safetensors", "config.json", "adapter/config.json"];
    picks(&names, None, "", &["model.safetensors", "config.json"]);
    let error = chosen(&["a.safetensors", "b.safetensors"], None, None).unwrap_err();
    assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
    let picked = chosen(
        &["a/m.safetensors", "a/config.json", "config.json", "b.safetensors"],
        None,
        Some("a/m.safetensors"),
    );
    assert_eq!(picked.unwrap().1, ["a/m.safetensors", "a/config.json"]);
}

#[test]
fn an_adapter_comes_with_what_says_how_strongly_it_counts() {
    let names = [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "training_args.bin",
    ];
    picks(&names, None, "", &["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"]);
}

#[test]
fn safetensors_without_their_index_or_a_part_are_incomplete() {
    let without = |missing: &str| {
        let names: Vec<_> = SAFETENSORS.into_iter().filter(|name| *name != missing).collect();
        chosen(&names, None, None).unwrap_err()
    };
    assert!(without("model.safetensors.index.json").contains("index.json"));
    assert!(without("model-00002-of-00002.safetensors").contains("part 2 of 2"));
    let error = chosen(&SAFETENSORS, Some("Q4_K_M"), None).unwrap_err();
    assert!(error.contains("safetensors only"), "{error}");
}

#[test]
fn a_gguf_is_taken_before_safetensors() {
    picks(&["model.safetensors", "config.json", "m-Q8_0.gguf"], None, "Q8_0", &["m-Q8_0.gguf"]);
}

#[test]
fn pickles_and_code_are_never_chosen() {
    for names in
        [&["pytorch_model.bin", "model.pt", "x.pth", "y.ckpt", "z.pkl", "run.py", "a.gguf.zip"][..], &[]]
    {
        let error = chosen(names, None, None).unwrap_err();
        assert!(error.contains("only .gguf and .safetensors"), "{error}");
    }
}

#[test]
fn errors_list_a_readable_number_of_names() {
    let names: Vec<_> = (0..1000).map(|at| format!("m{at}-Q4_K_M.gguf")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let error = chosen(&names, None, None).unwrap_err();
    assert!(error.contains("and 976 more") && error.len() < 1_000, "{error}");
}

/// What a user may choose: the quantization, or the file where that names it, and the first file.
fn offered(names: &[&str]) -> Vec<(String, String)> {
    let named = |variant: NamedChoice| {
        let first = names[variant.choice.files[0].0].to_owned();
        (variant.file.unwrap_or(variant.choice.quant), first)
    };
    variants(names).into_iter().map(named).collect()
}

#[test]
fn every_complete_model_is_offered_by_its_quantization_or_else_by_its_file() {
    let quants = |names: &[&str]| offered(names).into_iter().map(|(named, _)| named).collect::<Vec<_>>();
    assert_eq!(
        quants(&PLAIN),
        ["F16", "IQ3_M", "IQ4_XS", "Q4_0", "Q4_K_L", "Q4_K_M", "Q4_K_S", "Q6_K", "Q8_0"]
    );
    assert_eq!(quants(&DYNAMIC)[..2], ["BF16", "IQ4_NL"]);
    assert_eq!(
        quants(&["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "b-Q8_0.gguf"]),
        ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "Q8_0"]
    );
    assert_eq!(quants(&["m.gguf", "m-Q8_0.gguf"]), ["m.gguf", "Q8_0"]);
    assert_eq!(quants(&["m.gguf"]), [""]);
    assert_eq!(quants(&["m-Q8_0-00001-of-00002.gguf", "m-Q6_K.gguf"]), ["Q6_K"], "a part is missing");
    assert_eq!(offered(&SAFETENSORS), [(String::new(), "model-00001-of-00002.safetensors".to_owned())]);
    assert!(offered(&["README.md", "mmproj-F16.gguf"]).is_empty());
    // Each means by itself what it was offered as.
    for variant in variants(&DYNAMIC) {
        let want = Want { quant: Some(&variant.choice.quant), file: None };
        assert_eq!(choose("x", &DYNAMIC, &want).unwrap(), variant.choice);
    }
}

#[test]
fn the_files_of_one_model_have_its_family_in_common() {
    for names in [&PLAIN[2..11], &DYNAMIC[..8], &["m.gguf", "M-q8_0.gguf", "Q4_K_M/m-00001-of-00002.gguf"]] {
        let families: Vec<_> = names.iter().map(|name| family_of(name)).collect();
        assert!(families.iter().all(|family| *family == families[0]), "{families:?}");
    }
    for (one, other) in [
        ("a-Q4_0.gguf", "b-Q4_0.gguf"),
        ("cloud-Q4_0.gguf", "clo-Q4_0.gguf"),
        ("m.i1-Q4_0.gguf", "m-Q4_0.gguf"),
    ] {
        assert_ne!(family_of(one), family_of(other));
    }
}

proptest! {
    #[test]
    fn whatever_is_listed_nothing_but_allowed_names_is_chosen(
        names in prop::collection::vec("[a-zA-Z0-9./_-]{0,12}(-0000[1-3]-of-00003)?\\.(gguf|safetensors|bin|py|json)|config.json|\\PC{0,12}", 0..12),
        quant in prop::option::of("[QqIi]{1,2}[2-8]_[A-Z0]{1,3}"),
    ) {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        if let Ok(choice) = choose("x", &names, &Want { quant: quant.as_deref(), file: None }) {
            prop_assert_eq!(choice.files[0].1, Role::Weights);
            let mut places: Vec<_> = choice.files.iter().map(|(place, _)| *place).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), choice.files.len());
            for (place, role) in choice.files {
                let name = names[place].to_ascii_lowercase();
                let ends = [".gguf", ".safetensors", ".json", ".txt", ".jinja", ".model"];
                prop_assert!(ends.iter().any(|end| name.ends_with(end)), "{} as {:?}", name, role);
            }
        }
    }
}
