//! The descriptions of tensors: names, shapes, types, and where their data lies.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};

use super::error::Fault;
use super::limits;
use super::metadata::Metadata;
use super::reader::Reader;
use super::types::{self, TYPES};
use super::value::shown;
use crate::model::TensorFormat;

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// Where the matrices of transformer blocks are found, and the output's.
const BLOCK_PREFIXES: [&str; 3] = ["blk.", "enc.blk.", "dec.blk."];
const OUTPUT: &str = "output.weight";
/// Makes scores of a vector.
const CLASSIFIER: &str = "cls.output.weight";
/// Does so itself in some models; in others it comes before the classifier.
const POOLER: &str = "cls.weight";
/// Layers behind the pooling, one after the other.
const DENSE_PREFIXES: [&str; 2] = ["dense_2.", "dense_3."];
/// The end of the names of matrices that lead into feed-forward layers.
const FEED_FORWARD: &str = ".ffn_up.weight";

/// What all tensors are together.
#[derive(Debug)]
pub(super) struct Tensors {
    pub(super) parameters: u64,
    pub(super) bytes: u64,
    /// Largest first.
    pub(super) formats: Vec<TensorFormat>,
    /// Rows of the token embedding: a vocabulary for files that have none.
    pub(super) embedding_rows: Option<u64>,
    /// Rows of the table of learned positions.
    pub(super) position_rows: Option<u64>,
    /// Scores that something makes of a vector.
    pub(super) classifier_rows: Option<u64>,
    /// Which of the two layers behind the pooling there are.
    pub(super) dense: [bool; 2],
    /// Rows that matrices which lead into feed-forward layers have.
    pub(super) feed_forward_rows: BTreeSet<u64>,
}

/// One tensor as its description says.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    type_position: usize,
    elements: u64,
    bytes: u64,
    offset: u64,
}

impl Tensor {
    /// The name of its type.
    pub(super) fn format(&self) -> &'static str {
        TYPES[self.type_position].name
    }
}

/// Where a tensor's data lies.
struct Extent {
    offset: u64,
    bytes: u64,
    /// Where its description begins, to find its name again.
    described_at: u64,
}

/// The tensors of one file or of several, added up.
pub(super) struct Tally {
    count: u64,
    data_begin: u64,
    names: Names,
    sums: Sums,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { count: 0, data_begin: 0, names: Names::new(), sums: Sums::new() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Where the data of the file that was added last begins.
    pub(super) fn data_begin(&self) -> u64 {
        self.data_begin
    }

    /// Checks all descriptions of a file and adds them. A name may stand once in all files.
    pub(super) fn add<R: Read + Seek>(&mut self, metadata: &mut Metadata<R>) -> Result<(), Fault> {
        self.add_each(metadata, |_| Ok(()))
    }

    /// The same, and shows each to `see` as well.
    pub(super) fn add_each<R: Read + Seek>(
        &mut self,
        metadata: &mut Metadata<R>,
        mut see: impl FnMut(&Tensor) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let alignment = alignment(metadata)?;
        let count = metadata.tensor_count();
        self.count += count;
        if self.count > limits::TENSORS {
            return Err(Fault::TooMany { what: "tensors", count: self.count, limit: limits::TENSORS });
        }
        metadata.seek_end()?;
        let reader = &mut metadata.reader;
        let mut extents = Vec::with_capacity(count as usize);
        self.names.reserve(count as usize);
        for index in 0..count {
            let described_at = reader.position();
            if described_at > limits::HEADER_BYTES {
                return Err(Fault::HeaderTooLarge);
            }
            let tensor = tensor(reader, index)?;
            if !tensor.offset.is_multiple_of(alignment) {
                return Err(Fault::Misaligned { name: tensor.name, offset: tensor.offset, alignment });
            }
            if !self.names.insert(&tensor.name) {
                return Err(Fault::DuplicateTensor { name: tensor.name });
            }
            see(&tensor)?;
            self.sums.add(&tensor)?;
            extents.push(Extent { offset: tensor.offset, bytes: tensor.bytes, described_at });
        }
        self.data_begin = reader.position().next_multiple_of(alignment);
        check_extents(reader, &mut extents, self.data_begin)
    }

    /// What they are together.
    pub(super) fn finish(self) -> Tensors {
        self.sums.finish()
    }
}

fn alignment<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<u64, Fault> {
    let (smallest, largest) = limits::ALIGNMENT;
    let alignment = match metadata.unsigned_u32(ALIGNMENT_KEY)? {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(alignment) => u64::from(alignment),
    };
    if !(smallest..=largest).contains(&alignment) {
        return Err(Fault::OutOfRange {
            key: ALIGNMENT_KEY.to_owned(),
            value: alignment.to_string(),
            range: format!("from {smallest} to {largest}"),
        });
    }
    if alignment.is_power_of_two() { Ok(alignment) } else { Err(Fault::Alignment(alignment)) }
}

fn tensor<R: Read + Seek>(reader: &mut Reader<R>, index: u64) -> Result<Tensor, Fault> {
    let name = name(reader, index)?;
    let dimensions = reader.u32()?;
    if !(1..=limits::DIMENSIONS).contains(&dimensions) {
        return Err(Fault::Dimensions { name, count: dimensions });
    }
    let shape = (0..dimensions).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
    let type_id = reader.u32()?;
    let offset = reader.u64()?;
    if shape.contains(&0) {
        return Err(Fault::ZeroDimension { name, shape });
    }
    let Some(type_position) = types::position_of(type_id) else {
        return Err(Fault::TensorType { name, tensor_type: type_id });
    };
    let tensor_type = &TYPES[type_position];
    if !shape[0].is_multiple_of(tensor_type.block) {
        return Err(Fault::RowNotInBlocks { name, row: shape[0], block: tensor_type.block });
    }
    // ggml counts in i64.
    let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    let bytes =
        elements.and_then(|elements| (elements / tensor_type.block).checked_mul(tensor_type.block_bytes));
    match (elements, bytes) {
        (Some(elements), Some(bytes)) if i64::try_from(elements.max(bytes)).is_ok() => {
            Ok(Tensor { name, shape, type_position, elements, bytes, offset })
        }
        _ => Err(Fault::ShapeOverflow { name, shape }),
    }
}

fn name<R: Read + Seek>(reader: &mut Reader<R>, index: u64) -> Result<String, Fault> {
    let at = reader.position();
    let refuse = |reason| Fault::TensorName { index, at, reason };
    let bytes = reader.u64()?;
    if bytes == 0 {
        return Err(refuse("is empty"));
    }
    if bytes > limits::TENSOR_NAME_BYTES {
        return Err(refuse("is longer than 63 bytes"));
    }
    let name = reader.text(bytes).map_err(|fault| fault.of(|| format!("the name of tensor {index}")))?;
    if name.chars().any(char::is_control) { Err(refuse("holds control characters")) } else { Ok(name) }
}

/// Sorts the extents and checks that each lies in the file and none lies in another.
fn check_extents<R: Read + Seek>(
    reader: &mut Reader<R>,
    extents: &mut [Extent],
    data_begin: u64,
) -> Result<(), Fault> {
    let file_bytes = reader.file_bytes();
    extents.sort_unstable_by_key(|extent| extent.offset);
    for extent in extents.iter() {
        let end = data_begin.saturating_add(extent.offset).saturating_add(extent.bytes);
        if end > file_bytes {
            let name = name_at(reader, extent)?;
            return Err(Fault::DataBeyondFile { name, end, file_bytes });
        }
    }
    for pair in extents.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            let (first, second) = (name_at(reader, &pair[0])?, name_at(reader, &pair[1])?);
            return Err(Fault::Overlap { first, second });
        }
    }
    Ok(())
}

fn name_at<R: Read + Seek>(reader: &mut Reader<R>, extent: &Extent) -> Result<String, Fault> {
    reader.seek(extent.described_at)?;
    name(reader, 0)
}

/// Names seen so far, as hashes: of two names with one hash the second is refused, which happens by
/// chance once in 8 billion of the largest files.
struct Names {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Names {
    fn new() -> Self {
        Self { hasher: RandomState::new(), hashes: HashSet::new() }
    }

    fn reserve(&mut self, more: usize) {
        self.hashes.reserve(more);
    }

    fn insert(&mut self, name: &str) -> bool {
        self.hashes.insert(self.hasher.hash_one(name))
    }
}

/// Sums over all tensors, by type.
struct Sums {
    parameters: u64,
    bytes: u64,
    by_type: Vec<TensorFormat>,
    embedding_rows: Option<u64>,
    position_rows: Option<u64>,
    classifier_rows: Option<u64>,
    dense: [bool; 2],
    feed_forward_rows: BTreeSet<u64>,
}

impl Sums {
    fn new() -> Self {
        let empty =
            |name: &str| TensorFormat { name: name.to_owned(), tensors: 0, bytes: 0, matrix_bytes: 0 };
        let by_type = TYPES.iter().map(|tensor_type| empty(tensor_type.name)).collect();
        Self {
            parameters: 0,
            bytes: 0,
            by_type,
            embedding_rows: None,
            position_rows: None,
            classifier_rows: None,
            dense: [false; 2],
            feed_forward_rows: BTreeSet::new(),
        }
    }

    fn add(&mut self, tensor: &Tensor) -> Result<(), Fault> {
        let add = |sum: u64, more: u64| {
            sum.checked_add(more).ok_or_else(|| Fault::ShapeOverflow {
                name: shown(&tensor.name),
                shape: tensor.shape.clone(),
            })
        };
        self.parameters = add(self.parameters, tensor.elements)?;
        self.bytes = add(self.bytes, tensor.bytes)?;
        let format = &mut self.by_type[tensor.type_position];
        format.tensors += 1;
        format.bytes += tensor.bytes;
        if is_matrix(tensor) {
            format.matrix_bytes += tensor.bytes;
        }
        let rows = tensor.shape.get(1).copied();
        match tensor.name.as_str() {
            "token_embd.weight" => self.embedding_rows = rows,
            "position_embd.weight" => self.position_rows = rows,
            CLASSIFIER => self.classifier_rows = Some(rows.unwrap_or(1)),
            // Of as many rows as the model is wide it is only a layer before the classifier.
            POOLER if rows.unwrap_or(1) == 1 => {
                self.classifier_rows.get_or_insert(1);
            }
            name if name.ends_with(FEED_FORWARD) => {
                self.feed_forward_rows.insert(rows.unwrap_or(1));
            }
            name => {
                for (found, prefix) in self.dense.iter_mut().zip(DENSE_PREFIXES) {
                    *found |= name.starts_with(prefix);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Tensors {
        self.by_type.retain(|format| format.tensors > 0);
        self.by_type.sort_by_key(|format| std::cmp::Reverse(format.bytes));
        Tensors {
            parameters: self.parameters,
            bytes: self.bytes,
            formats: self.by_type,
            embedding_rows: self.embedding_rows,
            position_rows: self.position_rows,
            classifier_rows: self.classifier_rows,
            dense: self.dense,
            feed_forward_rows: self.feed_forward_rows,
        }
    }
}

fn is_matrix(tensor: &Tensor) -> bool {
    let has_rows = tensor.shape.iter().skip(1).any(|side| *side > 1);
    has_rows && (tensor.name == OUTPUT || BLOCK_PREFIXES.iter().any(|prefix| tensor.name.starts_with(prefix)))
}
