//! Packed weights compute what llama.cpp's own packing computes, bit by bit.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;
use samovar_core::Descriptor;
use samovar_core::format::gguf;
use samovar_core::port::{self, LoadControl};
use samovar_core::testing::gguf::{LlamaShape, Writer, llama};

use super::proof::{MOST_ERROR, prove};
use super::stretch::Stretch;
use super::trailer::{Trailer, Where};
use super::weights;
use super::writer::{Packing, write};
use super::{PackedFile, Unfit, WeightViews, packable};
use crate::build_info::build_info;
use crate::context::{Batch, Context};
use crate::error::Error;
use crate::native::{ModelInput, WeightOptions, load_model};
use crate::plan::ContextOptions;

#[path = "../../tests/support/quantize.rs"]
mod quantize;
use quantize::{quantize, quantize_as_usual, quantize_tied};

const SOURCE: &str = "sha256:of the source";
/// More than the kernels for prompts need, and no multiple of what they take at once.
const LONG: usize = 101;

/// A model in one format, and its packed file once there is one.
struct Model {
    folder: tempfile::TempDir,
    path: PathBuf,
    descriptor: Descriptor,
}

fn demo() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"))
}

impl Model {
    fn new(make: impl FnOnce(&Path)) -> Self {
        let _ = build_info();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        make(&path);
        let descriptor = gguf::inspect(&path).expect("the gate lets it through");
        Self { folder, path, descriptor }
    }

    /// What `quantize` makes of it.
    fn made(writer: &Writer, quantize: impl FnOnce(&Path, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.gguf");
        fs_err::write(&source, writer.build()).unwrap();
        Self::new(|path| quantize(&source, path))
    }

    fn demo(ftype: sys::llama_ftype) -> Self {
        Self::new(|path| quantize(&demo(), path, ftype))
    }

    fn packed_path(&self) -> PathBuf {
        self.folder.path().join("packed")
    }

    fn pack(&self, is_tail_forced: bool) -> Result<u64, Error> {
        let job = Packing { path: &self.path, descriptor: &self.descriptor, source: SOURCE, is_tail_forced };
        let path = self.packed_path();
        let file =
            fs_err::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let bytes = write(job, file.file(), &LoadControl::silent())?;
        assert_eq!(file.metadata().unwrap().len(), bytes);
        Ok(bytes)
    }

    fn open(&self) -> PackedFile {
        let path = self.packed_path();
        let packed = port::PackedFile { path: &path, source: SOURCE };
        PackedFile::open(packed, &self.path, &self.descriptor).expect("it is of use")
    }

    /// How far the logits of the packed file are from those of the model.
    fn prove(&self) -> Result<f64, Error> {
        let job =
            Packing { path: &self.path, descriptor: &self.descriptor, source: SOURCE, is_tail_forced: false };
        let file = fs_err::File::open(self.packed_path()).unwrap();
        let trailer = Trailer::read(&file).unwrap();
        let source = fs_err::read(&self.path).unwrap();
        let control = LoadControl::silent();
        prove(&job, &trailer, &source, file.file(), Stretch::whole(&control, &self.path))
    }

    fn load(&self, is_repacked: bool) -> LlamaModel {
        load(ModelInput::Path(&self.path), is_repacked)
    }

    fn assert_equal_to_repacking(&self, what: &str) {
        let repacked = logits(&self.load(true));
        let file = self.open();
        {
            let model = load(ModelInput::File(file.file()), false);
            let _weight_views = WeightViews::of_packed(&model, &file, false).unwrap();
            assert!(logits(&model) == repacked, "{what}: packed");
        }
        let model = self.load(false);
        let plain = logits(&model);
        let weight_views = WeightViews::beside(&model, &file, false).unwrap();
        weight_views.switch_to(true);
        assert!(logits(&model) == repacked, "{what}: both files, packed");
        weight_views.switch_to(false);
        assert!(logits(&model) == plain, "{what}: both files, plain");
        assert!(plain != repacked, "{what}: packing changes nothing, so nothing is proved");
    }
}

fn load(origin: ModelInput<'_>, is_repacked: bool) -> LlamaModel {
    load_model(origin, WeightOptions { is_repacked, is_locked: false }, |_| true).expect("it loads")
}

/// Bits of all logits after a long prompt, steps of eight sequences and steps of one.
fn logits(model: &LlamaModel) -> Vec<u32> {
    let options = ContextOptions {
        cells: 512,
        batch_tokens: 256,
        sequences: 9,
        threads: 1,
        kv_type: sys::GGML_TYPE_F16,
        pooled: None,
    };
    let mut context = Context::new(model, options).expect("a context");
    let token = |salt: usize| LlamaToken((5 + salt as i32 * 37) % model.n_vocab());
    let mut batch = Batch::default();
    let mut seen = Vec::new();
    let mut places = [0; 9];
    let mut compute = |parts: &[(usize, usize)]| {
        batch.clear();
        let mut outputs = Vec::new();
        for &(sequence, tokens) in parts {
            for index in 0..tokens {
                let place = places[sequence];
                places[sequence] += 1;
                let output =
                    batch.add(token(sequence * 50 + place), place, sequence as i32, index + 1 == tokens);
                outputs.extend((index + 1 == tokens).then_some(output));
            }
        }
        context.decode(&mut batch, &|| false).expect("it computes");
        for output in outputs {
            seen.extend(context.logits(output).expect("logits").iter().map(|logit| logit.to_bits()));
        }
    };
    compute(&[(8, LONG)]);
    let eight: Vec<_> = (0..8).map(|sequence| (sequence, 1)).collect();
    for _ in 0..3 {
        compute(&eight);
        compute(&[(8, 1)]);
    }
    compute(&[(0, 40), (1, 27), (8, 1)]);
    assert!(seen.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    seen
}

#[test]
fn every_format_of_the_demo_model_computes_as_repacked_or_is_refused() {
    let formats = [
        ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
        ("Q4_1", sys::LLAMA_FTYPE_MOSTLY_Q4_1),
        ("Q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
        ("Q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
        ("Q3_K", sys::LLAMA_FTYPE_MOSTLY_Q3_K_S),
        ("Q4_K", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
        ("Q5_K", sys::LLAMA_FTYPE_MOSTLY_Q5_K_S),
        ("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
        ("IQ4_NL", sys::LLAMA_FTYPE_MOSTLY_IQ4_NL),
        ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
        ("MXFP4", sys::LLAMA_FTYPE_MOSTLY_MXFP4_MOE),
        ("F16", sys::LLAMA_FTYPE_MOSTLY_F16),
    ];
    let mut proved = Vec::new();
    for (name, ftype) in formats {
        let model = Model::demo(ftype);
        if packable(&model.descriptor).is_ok() {
            let bytes = model.pack(false).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(bytes > model.descriptor.file_bytes, "{name}");
            model.assert_equal_to_repacking(name);
            let error = model.prove().unwrap();
            println!("{name}: {error:.4}");
            assert!(error < MOST_ERROR / 2.0, "{name}: {error}");
            proved.push(name);
        } else {
            let error = model.pack(false).unwrap_err();
            assert!(matches!(error, Error::NotPacked { .. }), "{name}: {error}");
        }
    }
    if cfg!(all(target_feature = "avx2", not(target_feature = "avx512f"))) {
        assert_eq!(proved, ["Q4_0", "Q4_K", "IQ4_NL", "MXFP4"]);
    }
}

#[test]
fn a_mixture_of_formats_computes_as_repacked() {
    let shape = LlamaShape { width: 256, blocks: 3, heads: 4, kv_heads: 2, feed_forward: 512, context: 2048 };
    let model = Model::made(&llama(shape), |source, target| {
        quantize_as_usual(source, target, sys::LLAMA_FTYPE_MOSTLY_Q4_K_M);
    });
    model.pack(false).unwrap();
    model.assert_equal_to_repacking("Q4_K_M");
    println!("mixture: {:.4}", model.prove().unwrap());
}

/// A model with random weights and four experts, two of which look at each token.
fn experts() -> Writer {
    let shape = LlamaShape { width: 256, blocks: 2, heads: 4, kv_heads: 2, feed_forward: 256, context: 2048 };
    let entries = 272;
    let mut writer = llama(shape)
        .without_tensors()
        .u32("llama.expert_count", 4)
        .u32("llama.expert_used_count", 2)
        .tensor("token_embd.weight", &[256, entries]);
    for block in 0..2 {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        writer = writer
            .tensor(&name("attn_norm"), &[256])
            .tensor(&name("attn_q"), &[256, 256])
            .tensor(&name("attn_k"), &[256, 128])
            .tensor(&name("attn_v"), &[256, 128])
            .tensor(&name("attn_output"), &[256, 256])
            .tensor(&name("ffn_norm"), &[256])
            .tensor(&name("ffn_gate_inp"), &[256, 4])
            .tensor(&name("ffn_gate_exps"), &[256, 256, 4])
            .tensor(&name("ffn_up_exps"), &[256, 256, 4])
            .tensor(&name("ffn_down_exps"), &[256, 256, 4]);
    }
    writer.tensor("output_norm.weight", &[256]).tensor("output.weight", &[256, entries])
}

#[test]
fn a_model_of_experts_computes_as_repacked() {
    for (name, ftype) in [("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0), ("Q4_K", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S)] {
        let model = Model::made(&experts(), |source, target| quantize(source, target, ftype));
        model.pack(false).unwrap();
        model.assert_equal_to_repacking(name);
        println!("experts in {name}: {:.4}", model.prove().unwrap());
        // What llama.cpp packs of experts is llama.cpp's business: the table has what it would pack.
        let (sketch, table) = (weights::sketch(&model.path).unwrap(), model.open().trailer);
        let packed = weights::weights(&sketch).iter().filter(|weight| weight.packer().is_some()).count();
        assert_eq!(table.tensors.len(), packed);
    }
}

#[test]
fn tensors_too_large_for_their_slots_lie_in_the_tail() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(true).unwrap();
    let file = model.open();
    assert!(file.trailer.tensors.iter().all(|row| matches!(row.place, Where::Tail(at) if at % 4096 == 0)));
    model.assert_equal_to_repacking("in the tail");
    let facts = fs_err::metadata(model.packed_path()).unwrap();
    let slots: u64 = file.trailer.tensors.iter().map(|row| row.slot.bytes).sum();
    assert!(facts.blocks() * 512 + slots / 2 < facts.len(), "the slots are holes: {facts:?}");
}

#[test]
fn an_output_that_is_the_embedding_stays_plain() {
    let model = Model::new(|path| quantize_tied(&demo(), path, sys::LLAMA_FTYPE_MOSTLY_Q4_0));
    // llama.cpp would pack a second copy of it for the output.
    let sketch = weights::sketch(&model.path).unwrap();
    let uses = weights::weights(&sketch).into_iter().filter(|weight| weight.name() == "token_embd.weight");
    assert_eq!(uses.filter_map(|weight| weight.packer()).count(), packed_outputs());
    model.pack(false).unwrap();
    let file = model.open();
    assert!(file.trailer.tensors.iter().all(|row| row.name != "token_embd.weight"));
    assert!(file.trailer.tensors.iter().any(|row| row.name == "blk.0.attn_q.weight"));
}

#[test]
fn rows_are_locked_and_nothing_between_them() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(true).unwrap();
    let file = model.open();
    let locked = || {
        let status = fs_err::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    let before = locked();
    let packed = load(ModelInput::File(file.file()), false);
    let weight_views = WeightViews::of_packed(&packed, &file, true).unwrap();
    let tail = locked() - before;
    if tail == 0 {
        // Also where the output of tests is kept back.
        let _ = writeln!(std::io::stderr(), "skipped: this user may lock nothing");
        return;
    }
    // Each row begins at a page and ends in one.
    let pages = file.trailer.tensors.len() as u64 * 4096;
    assert!((file.tail_bytes()..=file.tail_bytes() + pages).contains(&tail), "{tail}");
    drop(weight_views);
    assert_eq!(locked(), before);

    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(false).unwrap();
    let file = model.open();
    assert_eq!(file.tail_bytes(), 0);
    // As if most of it were not packed.
    let mut trailer = file.trailer.clone();
    let last = trailer.tensors.pop().unwrap();
    trailer.tensors.truncate(1);
    trailer.tensors.push(last);
    let file = PackedFile { trailer, ..file };
    let span = file.trailer.tensors[1].packed().end() - file.trailer.tensors[0].packed().offset;
    let plain = model.load(false);
    let _weight_views = WeightViews::beside(&plain, &file, true).unwrap();
    let rows = locked() - before;
    assert!((file.packed_bytes()..=file.packed_bytes() + 4 * 4096).contains(&rows), "{rows}");
    assert!(rows < span / 2, "{rows} of {span}");
}

#[test]
fn a_header_that_is_said_to_be_shorter_is_not_believed() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(false).unwrap();
    let good = model.open().trailer;
    for header_bytes in [0, good.header_bytes - 1] {
        let file = fs_err::File::options().read(true).write(true).open(model.packed_path()).unwrap();
        // What llama.cpp would read is not what has passed the gate.
        std::os::unix::fs::FileExt::write_all_at(file.file(), b"x", good.header_bytes - 1).unwrap();
        file.set_len(good.source_bytes).unwrap();
        let trailer = Trailer { header_bytes, ..good.clone() };
        trailer.write(file.file(), good.source_bytes).unwrap();
        let path = model.packed_path();
        let packed = port::PackedFile { path: &path, source: SOURCE };
        let unfit = PackedFile::open(packed, &model.path, &model.descriptor).unwrap_err();
        assert!(matches!(&unfit, Unfit::Refused(_)), "{unfit}");
        assert!(unfit.to_string().contains("shorter header"), "{unfit}");
    }
}

/// Damages one row of a table.
type Change = fn(&mut Trailer, usize);

/// Outputs in `Q4_0` that are packed here.
fn packed_outputs() -> usize {
    usize::from(cfg!(target_feature = "avx2"))
}

#[test]
fn the_same_source_makes_the_same_bytes() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_K_S);
    model.pack(false).unwrap();
    let first = fs_err::read(model.packed_path()).unwrap();
    model.pack(false).unwrap();
    assert!(first == fs_err::read(model.packed_path()).unwrap());
}

#[test]
fn a_table_that_does_not_fit_the_model_changes_no_weight() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(false).unwrap();
    let good = model.open().trailer;
    let last = good.tensors.len() - 1;
    let changes: [(&str, Change); 7] = [
        ("not one tensor", |t, i| t.tensors[i].name = "blk.9.none".to_owned()),
        ("format or shape", |t, i| t.tensors[i].format = "q4_K".to_owned()),
        ("format or shape", |t, i| t.tensors[i].shape[1] += 8),
        ("nothing packs it", |t, i| t.tensors[i].buffer = "NOSUCH".to_owned()),
        ("another size", |t, i| t.tensors[i].packed_bytes -= 1),
        ("elsewhere", |t, i| t.tensors[i].slot.offset += 32),
        ("elsewhere", |t, _| t.header_bytes -= 32),
    ];
    for (reason, change) in changes {
        let mut wrong = good.clone();
        change(&mut wrong, last);
        let file = PackedFile { trailer: wrong, ..model.open() };
        let loaded = load(ModelInput::File(file.file()), false);
        let before = weights::weights(&loaded).iter().filter(|weight| weight.packer().is_some()).count();
        let refusal = WeightViews::of_packed(&loaded, &file, false).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal} instead of {reason}");
        let after = weights::weights(&loaded).iter().filter(|weight| weight.packer().is_some()).count();
        assert_eq!((before, after), (0, 0), "{reason}");
    }
}

#[test]
fn weights_that_changed_places_are_found_before_anybody_uses_them() {
    let model = Model::demo(sys::LLAMA_FTYPE_MOSTLY_Q4_0);
    model.pack(false).unwrap();
    // As if the writer had put two tensors of one shape in each other's slots, and sworn to it.
    let mut trailer = model.open().trailer;
    let of = |name: &str| trailer.tensors.iter().position(|row| row.name == name).unwrap();
    let (one, other) = (of("blk.0.ffn_gate.weight"), of("blk.0.ffn_up.weight"));
    let mut bytes = fs_err::read(model.packed_path()).unwrap();
    let range = |row: usize| {
        let packed = trailer.tensors[row].packed();
        packed.offset as usize..packed.end() as usize
    };
    let (first, second) = (bytes[range(one)].to_vec(), bytes[range(other)].to_vec());
    bytes[range(one)].copy_from_slice(&second);
    bytes[range(other)].copy_from_slice(&first);
    let (left, right) = trailer.tensors.split_at_mut(one.max(other));
    std::mem::swap(&mut left[one.min(other)].digest, &mut right[0].digest);
    fs_err::write(model.packed_path(), &bytes).unwrap();
    let file = fs_err::File::options().read(true).write(true).open(model.packed_path()).unwrap();
    trailer.write(file.file(), trailer.source_bytes).unwrap();
    drop(file);
    let error = model.prove().unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("logits differ"), "{error}");
}
