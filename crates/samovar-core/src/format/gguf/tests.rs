use std::io::Cursor;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::embedding::Pooling;
use crate::error::{ErrorKind, Failure};
use crate::infill::InfillTokens;
use crate::testing::corpus;
use crate::testing::gguf::{
    LlamaShape, Tensor, Writer, bert, hybrid, llama, reranker, value_type, with_specials,
};

/// What the design allows for any header of a megabyte.
const LIMIT: Duration = Duration::from_millis(200);

/// Whether this is done within the limit: once of a few times is enough, for a machine with much else to do may hold it up.
fn is_quick(limit: Duration, mut work: impl FnMut()) -> bool {
    (0..5).any(|_| {
        let begin = Instant::now();
        work();
        begin.elapsed() < limit
    })
}

fn inspect_bytes(bytes: &[u8]) -> Result<Descriptor, Error> {
    inspect_reader(Cursor::new(bytes), bytes.len() as u64)
}

#[test]
fn every_malformed_file_is_refused_for_the_expected_reason_in_bounded_time() {
    let corpus = corpus::malformed();
    assert!(corpus.len() >= 60, "only {} files", corpus.len());
    let mut wrong = Vec::new();
    for file in &corpus {
        match inspect_bytes(&file.bytes) {
            Ok(_) => wrong.push(format!("{} was accepted", file.name)),
            Err(error) if !(file.is_expected)(&error.fault) => {
                wrong.push(format!("{}: {:?}, not {}", file.name, error.fault, file.expected));
            }
            Err(error) => {
                let failure = Failure::from(error);
                assert!(failure.hint.is_some(), "{}", file.name);
                assert!(failure.message.len() < 1000, "{}: {} bytes", file.name, failure.message.len());
            }
        }
        let read = || drop(inspect_bytes(&file.bytes));
        assert!(is_quick(LIMIT, read), "{} takes long", file.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_of_malformed_files_are_distinct() {
    let mut names: Vec<_> = corpus::malformed().iter().map(|file| file.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_sound_file_is_accepted() {
    for (name, bytes) in corpus::valid() {
        let descriptor = inspect_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(descriptor.file_bytes, bytes.len() as u64, "{name}");
    }
}

#[test]
fn special_tokens_outside_of_the_vocabulary_are_replaced_by_the_defaults() {
    let outside = |writer: Writer| {
        let writer =
            writer.u32("tokenizer.ggml.bos_token_id", 272).u32("tokenizer.ggml.eos_token_id", 1 << 30);
        let descriptor = inspect_bytes(&writer.u32("tokenizer.ggml.unknown_token_id", 272).build()).unwrap();
        (descriptor.bos_token, descriptor.eos_token)
    };
    let smallest = || llama(LlamaShape::SMALLEST);
    assert_eq!(outside(smallest()), (Some("<s>".to_owned()), Some("</s>".to_owned())));
    // llama.cpp's own default of this family.
    let byte_pairs = || smallest().text("tokenizer.ggml.model", "gpt2");
    let (bos, eos) = outside(byte_pairs());
    assert!(bos.is_some() && bos == eos, "{bos:?} {eos:?}");
    let silent = byte_pairs().boolean("tokenizer.ggml.add_bos_token", false);
    let (bos, _) = outside(silent.text("tokenizer.ggml.pre", "glm4"));
    assert_eq!(bos, None, "nothing adds it, so none is needed");
}

#[test]
fn tokens_for_gaps_are_named_by_keys_or_known_by_their_texts() {
    let of = |writer: Writer| inspect_bytes(&writer.build()).unwrap().infill;
    assert_eq!(of(llama(LlamaShape::SMALLEST)), None);
    // The first entry behind the others of this vocabulary is 272.
    let texts = [
        ("<|fim_prefix|>", true),
        ("<|fim_middle|>", true),
        ("<|fim_suffix|>", true),
        ("<MID>", true),
        ("<|repo_name|>", true),
        ("<|file_sep|>", true),
    ];
    let by_text =
        InfillTokens { prefix: 272, suffix: 274, middle: 273, repository: Some(276), file: Some(277) };
    let named = || with_specials(LlamaShape::SMALLEST, &texts);
    assert_eq!(of(named()), Some(by_text));
    // A key counts before a text, and of two keys the older one.
    let by_key =
        named().u32("tokenizer.ggml.fim_pre_token_id", 260).u32("tokenizer.ggml.fim_mid_token_id", 275);
    assert_eq!(of(by_key.clone()), Some(InfillTokens { prefix: 260, middle: 275, ..by_text }));
    let by_older_key = by_key.u32("tokenizer.ggml.prefix_token_id", 261);
    assert_eq!(of(by_older_key), Some(InfillTokens { prefix: 261, middle: 275, ..by_text }));
    let by_keys_alone = llama(LlamaShape::SMALLEST)
        .u32("tokenizer.ggml.prefix_token_id", 5)
        .u32("tokenizer.ggml.suffix_token_id", 6)
        .u32("tokenizer.ggml.middle_token_id", 7);
    let three = InfillTokens { prefix: 5, suffix: 6, middle: 7, repository: None, file: None };
    assert_eq!(of(by_keys_alone.clone()), Some(three));
    // One that is missing, outside of the vocabulary, or another one's, is none.
    for odd in [u32::MAX, 272, 1 << 30, 6] {
        assert_eq!(of(by_keys_alone.clone().u32("tokenizer.ggml.middle_token_id", odd)), None, "{odd}");
    }
}

#[test]
fn facts_of_a_header_are_as_they_were_written() {
    let shape = LlamaShape::TINY;
    let descriptor = inspect_bytes(&llama(shape).text("tokenizer.chat_template", "{{ x }}").build()).unwrap();
    let matrices = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3) + 64 * 272;
    assert_eq!(descriptor.name.as_deref(), Some("tiny"));
    assert_eq!(descriptor.architecture, "llama");
    assert_eq!(descriptor.parameters, matrices + 64 * 272 + 5 * 64);
    assert_eq!(descriptor.tensor_bytes, descriptor.parameters * 4);
    assert_eq!(descriptor.quantization, "F32");
    assert_eq!(descriptor.formats.len(), 1);
    assert_eq!(descriptor.formats[0].tensors, 21);
    assert_eq!(descriptor.formats[0].matrix_bytes, matrices * 4);
    assert_eq!((descriptor.context_tokens, descriptor.embedding_width, descriptor.blocks), (2048, 64, 2));
    assert_eq!((descriptor.heads, descriptor.kv_heads), (4, 2));
    assert_eq!((descriptor.key_width, descriptor.value_width), (16, 16));
    assert_eq!((descriptor.feed_forward_width, descriptor.vocabulary), (128, 272));
    assert_eq!(descriptor.chat_template.as_deref(), Some("{{ x }}"));
    assert_eq!(descriptor.bos_token.as_deref(), Some("<s>"));
    assert_eq!(descriptor.eos_token.as_deref(), Some("</s>"));
    assert!(descriptor.adds_bos);
    assert_eq!(descriptor.kv_bytes_per_token(), 2 * 2 * 32 * 2);
    assert_eq!(descriptor.state_bytes, 0);
}

#[test]
fn recurrent_state_is_as_large_as_the_numbers_of_its_blocks_say() {
    let state = |writer: Writer| inspect_bytes(&writer.build()).unwrap().state_bytes;
    // Two numbers of each width, as 32-bit floats, in two blocks.
    assert_eq!(state(hybrid(LlamaShape::TINY)), 2 * 64 * 4 * 2);
    let model = |numbers: &[(&str, u32)]| {
        let write =
            |model: Writer, (suffix, number): &(&str, u32)| model.u32(&format!("llama.{suffix}"), *number);
        numbers.iter().fold(llama(LlamaShape::TINY), write)
    };
    let with = |numbers: &[(&str, u32)]| state(model(numbers));
    let mamba = [("ssm.conv_kernel", 4), ("ssm.inner_size", 128), ("ssm.state_size", 16)];
    assert_eq!(with(&mamba), (128 * 16 + 3 * 128) * 4 * 2);
    let grouped = [&mamba[..], &[("ssm.group_count", 2)]].concat();
    assert_eq!(with(&grouped), (128 * 16 + 3 * (128 + 2 * 2 * 16)) * 4 * 2);
    assert_eq!(with(&[("kda.head_dim", 16)]), 16 * 16 * 4 * 4 * 2);
    assert_eq!(with(&[("wkv.head_size", 16)]), 64 * (16 + 2) * 4 * 2);
    let too_many = model(&[("ssm.state_size", 1 << 20)]).build();
    assert!(inspect_bytes(&too_many).unwrap_err().to_string().contains("ssm.state_size"));
}

#[test]
fn a_header_says_how_vectors_are_made() {
    let facts = |writer: Writer| {
        let descriptor = inspect_bytes(&writer.build()).unwrap();
        (descriptor.pooling, descriptor.is_causal, descriptor.has_classifier, descriptor.is_encoder())
    };
    let encoder = || bert(LlamaShape::SMALLEST);
    assert_eq!(facts(encoder()), (Some(Pooling::Mean), false, false, true));
    assert_eq!(facts(reranker(LlamaShape::SMALLEST)), (Some(Pooling::Rank), false, true, true));
    let silent = encoder().without("bert.pooling_type").without("bert.attention.causal");
    assert_eq!(facts(silent), (None, false, false, true), "an encoder sees all whatever is said");
    let decoder = || llama(LlamaShape::SMALLEST);
    assert_eq!(facts(decoder()), (None, true, false, false));
    let embedder = decoder().u32("llama.pooling_type", 3).boolean("llama.attention.causal", false);
    assert_eq!(facts(embedder), (Some(Pooling::Last), false, false, false));
    assert_eq!(facts(decoder().u32("llama.pooling_type", 0)).0, None);
    let labelled =
        |labels: &[&str]| reranker(LlamaShape::SMALLEST).strings("bert.classifier.output_labels", labels);
    assert!(facts(labelled(&["relevance"])).2);
    assert!(!facts(labelled(&["yes", "no"])).2, "more scores would be read than are made");
    // As wide as the model it comes before the classifier; of one row it is the classifier.
    assert!(!facts(encoder().tensor("cls.weight", &[8, 8])).2);
    assert!(facts(encoder().tensor("cls.weight", &[8, 1])).2);
    let dense =
        reranker(LlamaShape::SMALLEST).tensor("dense_2.weight", &[8, 8]).tensor("dense_3.weight", &[8, 8]);
    assert!(!facts(dense).2, "layers behind the pooling do not fit behind a classifier");
}

#[test]
fn a_word_piece_vocabulary_begins_texts_with_its_own_token() {
    let begins = |writer: Writer| inspect_bytes(&writer.build()).unwrap().bos_token;
    let encoder = || bert(LlamaShape::SMALLEST);
    assert_eq!(begins(encoder()).as_deref(), Some("[CLS]"));
    assert_eq!(begins(encoder().u32("tokenizer.ggml.bos_token_id", 7)).as_deref(), Some("[unused7]"));
}

#[test]
fn the_header_ends_where_the_first_tensor_begins() {
    for alignment in [32, 64, 4096] {
        let writer = llama(LlamaShape::TINY).alignment(alignment);
        let (bytes, header) = (writer.build(), writer.header());
        let mut reader = Cursor::new(&bytes);
        reader.set_position(77);
        let found = header_bytes(reader, bytes.len() as u64).unwrap();
        assert_eq!(found, (header.len() as u64).next_multiple_of(u64::from(alignment)), "{alignment}");
    }
    assert!(header_bytes(Cursor::new(b"GGUF"), 4).is_err());
}

#[test]
fn keys_may_come_in_any_order_and_the_largest_of_each_block_counts() {
    let heads = |counts: [i32; 2]| counts.iter().flat_map(|count| count.to_le_bytes()).collect::<Vec<_>>();
    let bytes = llama(LlamaShape::TINY)
        .without("general.architecture")
        .text("general.architecture", "llama")
        .array("llama.attention.head_count_kv", value_type::I32, 2, &heads([0, 4]))
        .build();
    assert_eq!(inspect_bytes(&bytes).unwrap().kv_heads, 4);
}

#[test]
fn quantization_is_named_by_the_file_or_by_its_largest_type() {
    let named = |writer: Writer| inspect_bytes(&writer.build()).unwrap().quantization;
    assert_eq!(named(llama(LlamaShape::SMALLEST).u32("general.file_type", 15)), "Q4_K_M");
    assert_eq!(named(llama(LlamaShape::SMALLEST).u32("general.file_type", 1024)), "F32");
    let large =
        Tensor { name: b"x".to_vec(), shape: vec![256, 1000], tensor_type: 14, bytes: 210_000, offset: None };
    assert_eq!(named(llama(LlamaShape::SMALLEST).without("general.file_type").raw_tensor(large)), "Q6_K");
}

#[test]
fn a_vocabulary_may_be_missing_and_is_then_counted_by_the_embedding() {
    let keys =
        ["model", "tokens", "scores", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id"];
    let writer = keys
        .iter()
        .fold(llama(LlamaShape::SMALLEST), |writer, key| writer.without(&format!("tokenizer.ggml.{key}")));
    let descriptor = inspect_bytes(&writer.build()).unwrap();
    assert_eq!(descriptor.vocabulary, 272);
    assert_eq!((descriptor.bos_token, descriptor.chat_template), (None, None));
}

#[test]
fn a_vocabulary_of_262144_entries_is_read_in_bounded_time() {
    const COUNT: usize = 262_144;
    let texts: Vec<String> = (0..COUNT).map(|id| format!("token-{id}")).collect();
    let bytes = llama(LlamaShape::SMALLEST)
        .text("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &texts)
        .strings("tokenizer.ggml.merges", &texts)
        .f32s("tokenizer.ggml.scores", &vec![0.0; COUNT])
        .i32s("tokenizer.ggml.token_type", &vec![1; COUNT])
        .build();
    let read = || assert_eq!(inspect_bytes(&bytes).unwrap().vocabulary, COUNT as u32);
    // 14 MB of header.
    assert!(is_quick(14 * LIMIT, read));
}

#[test]
fn headers_at_the_limits_of_keys_and_tensors_are_read_in_bounded_time() {
    let mut writer = llama(LlamaShape::SMALLEST).without_tensors();
    for index in 0..10_000 {
        writer = writer.raw_tensor(Tensor {
            name: format!("t{index}").into_bytes(),
            shape: vec![8],
            tensor_type: 0,
            bytes: 32,
            offset: None,
        });
    }
    let bytes = writer.build();
    let read = || assert_eq!(inspect_bytes(&bytes).unwrap().formats[0].tensors, 10_000);
    assert!(is_quick(LIMIT, read));
}

#[test]
fn files_are_named_and_told_apart_from_what_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let failure = |path: &Path| Failure::from(inspect(path).unwrap_err());

    let missing = failure(&path);
    assert_eq!(missing.kind, ErrorKind::NotFound);
    assert!(missing.message.contains("model.gguf"), "{missing}");

    let wrong = failure(directory.path());
    assert_eq!(wrong.kind, ErrorKind::InvalidModel);
    assert!(wrong.message.contains("directory"), "{wrong}");

    fs_err::write(&path, b"").unwrap();
    assert!(failure(&path).message.contains("empty"));
    assert!(matches!(inspect(Path::new("/dev/null")).unwrap_err().fault, Fault::NotAFile));

    fs_err::write(&path, llama(LlamaShape::SMALLEST).build()).unwrap();
    assert_eq!(inspect(&path).unwrap().architecture, "llama");
    assert_eq!(failure(&path.join("x")).kind, ErrorKind::NotFound);
}

#[test]
fn the_shipped_model_is_accepted_quickly() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo-model/demo.gguf");
    let descriptor = inspect(&path).unwrap();
    assert!(is_quick(LIMIT, || drop(inspect(&path))));
    assert_eq!(descriptor.architecture, "llama");
    assert!(descriptor.chat_template.is_some());
    assert!(descriptor.eos_token.is_some());
}

#[test]
fn unreadable_files_are_named_once_with_the_systems_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x".repeat(5000));
    let failure = Failure::from(inspect(&path).unwrap_err());
    assert_eq!(failure.kind, ErrorKind::Storage);
    assert_eq!(failure.message.matches(&"x".repeat(5000)).count(), 1);
    assert!(failure.message.contains("too long"), "{}", failure.message);
}

#[test]
fn a_vocabulary_file_of_llama_cpp_is_no_model() {
    let sound = llama(LlamaShape::SMALLEST).without_tensors().build();
    assert!(inspect_bytes(&sound).unwrap_err().to_string().contains("header without weights"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..8)) {
        let mut bytes = llama(LlamaShape::SMALLEST).header();
        for (at, value) in flips {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        let _ = inspect_bytes(&bytes);
    }

    #[test]
    fn cut_files_are_refused(part in 0.0..1.0_f64) {
        let bytes = llama(LlamaShape::SMALLEST).build();
        let cut = &bytes[..(part * bytes.len() as f64) as usize];
        prop_assert!(inspect_bytes(cut).is_err());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_claims_is_refused(part in 0.0..1.0_f64) {
        let header = llama(LlamaShape::SMALLEST).header();
        let cut = &header[..(part * header.len() as f64) as usize];
        prop_assert!(inspect_reader(Cursor::new(cut), 1 << 40).is_err());
    }

    #[test]
    fn any_bytes_after_the_magic_never_panic(rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(rest);
        prop_assert!(inspect_bytes(&bytes).is_err());
    }

    #[test]
    fn swapped_words_never_panic(swaps in prop::collection::vec((0.0..1.0_f64, prop::sample::select(vec![0_u64, 1, 2, 8, 1 << 16, 1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 62, 1 << 63, u64::MAX])), 1..4)) {
        let mut bytes = llama(LlamaShape::SMALLEST).header();
        for (at, value) in swaps {
            let at = (at * (bytes.len() - 8) as f64) as usize;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let _ = inspect_bytes(&bytes);
    }
}
