use std::io::Cursor;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Failure};
use crate::testing::gguf::{LlamaShape, Writer, llama, part_name};

fn tiny() -> Writer {
    llama(LlamaShape::TINY).text("tokenizer.chat_template", "{{ x }}")
}

/// Writes the parts into `folder` and inspects them.
fn inspect_in(folder: &Path, parts: &[Writer]) -> Result<Descriptor, Error> {
    let files: Vec<Vec<u8>> = parts.iter().map(Writer::build).collect();
    inspect_parts(&written(folder, &files))
}

fn written(folder: &Path, files: &[Vec<u8>]) -> Vec<PathBuf> {
    let path = |(index, bytes): (usize, &Vec<u8>)| {
        let path = folder.join(part_name("tiny", index + 1, files.len()));
        fs_err::write(&path, bytes).unwrap();
        path
    };
    files.iter().enumerate().map(path).collect()
}

fn fault(parts: &[Writer]) -> Fault {
    inspect_in(tempfile::tempdir().unwrap().path(), parts).unwrap_err().fault
}

#[test]
fn a_split_model_has_the_facts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = inspect_in(folder.path(), &[tiny()]).unwrap();
    for parts in [tiny().split(2), tiny().split(7), tiny().split_after_header(3)] {
        let bytes: u64 = parts.iter().map(|part| part.build().len() as u64).sum();
        let split = inspect_in(folder.path(), &parts).unwrap();
        let expected = Descriptor { parts: parts.len() as u32, file_bytes: bytes, ..whole.clone() };
        assert_eq!(split, expected);
    }
}

#[test]
fn the_shipped_model_split_has_the_same_facts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo-model/demo.gguf");
    let bytes = fs_err::read(&path).unwrap();
    let writer = Writer::of_bytes(&bytes);
    assert!(writer.build() == bytes, "written again it is another file");
    let folder = tempfile::tempdir().unwrap();
    let split = inspect_in(folder.path(), &writer.split(3)).unwrap();
    let whole = inspect(&path).unwrap();
    assert_eq!(Descriptor { parts: 1, file_bytes: whole.file_bytes, ..split }, whole);
}

#[test]
fn one_part_alone_is_refused_and_the_hint_says_how_to_name_all() {
    let folder = tempfile::tempdir().unwrap();
    let parts: Vec<_> = tiny().split(3).iter().map(Writer::build).collect();
    for (index, path) in written(folder.path(), &parts).iter().enumerate() {
        let error = inspect(path).unwrap_err();
        assert!(matches!(error.fault, Fault::Split { number, count: 3 } if number as usize == index + 1));
        let failure = Failure::from(error);
        let hint = failure.hint.unwrap();
        assert!(hint.contains("hf://") && hint.contains("file://"), "{hint}");
        assert_eq!(failure.kind, ErrorKind::Unsupported);
    }
}

#[test]
fn parts_out_of_their_places_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = tiny().split(3);
    parts.swap(1, 2);
    let error = inspect_in(folder.path(), &parts).unwrap_err();
    assert_eq!(error.path, Some(folder.path().join("tiny-00002-of-00003.gguf")));
    assert!(error.to_string().contains("part 2 of 3 is expected, this is part 3 of 3"), "{error}");

    let all = tiny().split(3);
    assert!(matches!(fault(&all[1..]), Fault::WrongPart { number: 1, count: 2, .. }));
    assert!(matches!(fault(&all[..2]), Fault::WrongPart { number: 1, count: 2, .. }));
    let twice = [all[0].clone(), all[1].clone(), all[1].clone()];
    assert!(matches!(fault(&twice), Fault::WrongPart { number: 3, .. }));
    let foreign = [all[0].clone(), tiny(), all[2].clone()];
    assert!(matches!(fault(&foreign), Fault::WrongPart { number: 2, .. }));
    assert!(matches!(fault(&[tiny(), tiny()]), Fault::WrongPart { number: 1, .. }));
    assert!(matches!(fault(&[]), Fault::Missing));
}

#[test]
fn lying_counts_are_refused() {
    let with = |part: usize, change: fn(Writer) -> Writer| {
        let mut parts = tiny().split(3);
        parts[part] = change(parts[part].clone());
        fault(&parts)
    };
    let sum = |writer: Writer| writer.i32("split.tensors.count", 20);
    assert!(matches!(with(0, sum), Fault::SplitLies(_)));
    assert!(matches!(with(1, sum), Fault::SplitLies(_)));
    assert!(matches!(with(1, |part| part.u16("split.count", 4)), Fault::WrongPart { .. }));
    assert!(matches!(with(1, |part| part.u32("split.no", 1)), Fault::WrongType { .. }));
    assert!(matches!(with(2, |part| part.without("split.no")), Fault::MissingKey { .. }));
    assert!(matches!(with(2, |part| part.without("split.count")), Fault::SplitLies(_)));
    assert!(matches!(with(0, |part| part.without("split.tensors.count")), Fault::MissingKey { .. }));
    // All parts agree, and still it is not what they hold.
    let parts: Vec<_> = tiny().split(3).into_iter().map(sum).collect();
    assert!(matches!(fault(&parts), Fault::SplitLies(_)));
    let empty: Vec<_> = tiny().without_tensors().split(2);
    assert!(matches!(fault(&empty), Fault::NotAModel(_)));
}

#[test]
fn a_tensor_stands_in_one_part_only() {
    let mut parts = tiny().split(2);
    parts[1] = parts[1].clone().tensor("token_embd.weight", &[64, 272]);
    assert!(matches!(fault(&parts), Fault::DuplicateTensor { name } if name == "token_embd.weight"));
}

#[test]
fn every_part_passes_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = tiny().split(3).iter().map(Writer::build).collect();
    let paths = written(folder.path(), &files);
    fs_err::write(&paths[1], &files[1][..files[1].len() - 4]).unwrap();
    let error = inspect_parts(&paths).unwrap_err();
    assert!(matches!(error.fault, Fault::DataBeyondFile { .. }));
    assert_eq!(error.path.as_ref(), Some(&paths[1]));
    fs_err::remove_file(&paths[1]).unwrap();
    let error = inspect_parts(&paths).unwrap_err();
    assert!(matches!(error.fault, Fault::Missing));
    assert_eq!(error.path.as_ref(), Some(&paths[1]));
}

#[test]
fn the_first_part_alone_tells_the_shape() {
    let parts = tiny().split_after_header(3);
    let header = |writer: &Writer| {
        let bytes = writer.build();
        inspect_header(Cursor::new(&bytes), bytes.len() as u64)
    };
    let first = header(&parts[0]).unwrap();
    assert_eq!(first.split, Some(Split { number: 0, count: 3, tensors: Some(21) }));
    assert_eq!((first.descriptor.blocks, first.descriptor.parts), (2, 3));
    assert_eq!(first.descriptor.tensor_bytes, 0);
    assert_eq!(first.descriptor.vocabulary, 272);
    assert!(matches!(header(&parts[2]).unwrap_err().fault, Fault::Split { number: 3, count: 3 }));
    let whole = header(&tiny()).unwrap();
    assert_eq!((whole.split, whole.descriptor.parts), (None, 1));
}

fn inspect_bytes(files: &[Vec<u8>]) -> Result<Descriptor, Fault> {
    let mut parts = Parts::new(files.len());
    for bytes in files {
        parts.add(Reader::new(Cursor::new(bytes), bytes.len() as u64))?;
    }
    parts.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn parts_of_damaged_headers_never_panic_nor_hold_more_than_their_files(
        count in 2_usize..5,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0.0..1.0_f64, any::<u8>()), 0..4),
    ) {
        let writers = llama(LlamaShape::SMALLEST).split(count);
        let headers: Vec<_> = writers.iter().map(|part| part.header().len()).collect();
        let mut files: Vec<_> = writers.iter().map(Writer::build).collect();
        for (part, at, value) in &flips {
            let part = part.index(count);
            files[part][(at * headers[part] as f64) as usize] = *value;
        }
        match inspect_bytes(&files) {
            Ok(descriptor) => prop_assert!(descriptor.tensor_bytes < descriptor.file_bytes),
            Err(fault) => prop_assert!(!flips.is_empty(), "{fault}"),
        }
    }

    #[test]
    fn a_beginning_says_how_much_more_it_needs_until_the_header_is_in_it(first in 0_usize..9000) {
        let writer = llama(LlamaShape::SMALLEST);
        let (header_bytes, file_bytes) = (writer.header().len(), writer.build().len());
        let bytes = writer.build();
        let mut prefix = first;
        for _ in 0..4 * header_bytes {
            match inspect_reader(Cursor::new(&bytes[..prefix]), file_bytes as u64) {
                Ok(descriptor) => {
                    prop_assert!(prefix >= header_bytes);
                    prop_assert_eq!(descriptor.file_bytes, file_bytes as u64);
                    return Ok(());
                }
                Err(Error { fault: Fault::Cut { at, needed }, .. }) => {
                    let wanted = (at + needed) as usize;
                    prop_assert!(wanted > prefix && wanted <= file_bytes, "{prefix} of {file_bytes}: {wanted}");
                    prefix = wanted;
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        prop_assert!(false, "it never ends");
    }
}
