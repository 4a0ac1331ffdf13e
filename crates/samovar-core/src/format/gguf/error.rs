//! Why a file is refused: what, where, and which limit.

use std::io;
use std::path::PathBuf;

use super::limits;
use super::lookalike::Lookalike;
use crate::error::{ErrorKind, Failure};

/// A refused file.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// The file, when it has a name.
    pub path: Option<PathBuf>,
    /// Why. Part of the message, so no source of its own.
    pub fault: Fault,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "cannot use {}: {}", path.display(), self.fault),
            None => write!(f, "cannot use this model: {}", self.fault),
        }
    }
}

/// Why a file is refused. Offsets are bytes from the file's beginning.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    // ── the file ──
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// It is a pipe, a socket or a device.
    #[error("it is not an ordinary file")]
    NotAFile,
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The operating system could not read it.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It does not begin with `GGUF`.
    #[error("not a GGUF file: {0}")]
    NotGguf(Lookalike),
    /// It was written for a big-endian machine.
    #[error("it is a big-endian GGUF file")]
    BigEndian,
    /// A version that is not read here.
    #[error("GGUF version {0} is not supported, versions 2 and 3 are")]
    Version(u32),
    /// The file ends inside the header.
    #[error("the file ends too early: {needed} bytes are needed at offset {at}, {left} are left")]
    Truncated {
        /// Where more was expected.
        at: u64,
        /// How much.
        needed: u64,
        /// How much there is.
        left: u64,
    },
    /// What is read ends before the size that it was said to have: it is the beginning of a file, or
    /// the file became shorter.
    #[error("it ends before offset {}, where the header goes on", at.saturating_add(*needed))]
    Cut {
        /// Where more was expected.
        at: u64,
        /// How much: with the first `at + needed` bytes of the file, reading gets further.
        needed: u64,
    },
    /// The header goes on and on.
    #[error("the header has more than {} bytes", limits::HEADER_BYTES)]
    HeaderTooLarge,

    // ── keys and values ──
    /// More keys or tensors than allowed.
    #[error("the header announces {count} {what}, {limit} is the limit")]
    TooMany {
        /// Keys or tensors.
        what: &'static str,
        /// How many are announced.
        count: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// More keys or tensors than could lie in the file.
    #[error("the header announces {count} {what}, but only {left} bytes follow")]
    CountBeyondFile {
        /// Keys or tensors.
        what: &'static str,
        /// How many are announced.
        count: u64,
        /// Bytes that follow.
        left: u64,
    },
    /// A key without a name.
    #[error("a key at offset {at} is empty")]
    EmptyKey {
        /// Where.
        at: u64,
    },
    /// A key of more bytes than allowed.
    #[error("a key at offset {at} has {bytes} bytes, {} is the limit", limits::KEY_BYTES)]
    KeyTooLong {
        /// Where.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// A key of other characters than printable ASCII.
    #[error("a key at offset {at} holds other characters than printable ASCII")]
    KeyNotAscii {
        /// Where.
        at: u64,
    },
    /// A key that stands twice.
    #[error("the key {key:?} stands twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value of a type that does not exist.
    #[error("the value of {key:?} has the unknown type {value_type}")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type's number.
        value_type: u32,
    },
    /// Text that is longer than allowed.
    #[error("{subject} has {bytes} bytes (at offset {at}), {limit} is the limit")]
    StringTooLong {
        /// Whose text.
        subject: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// Where its length stands.
        at: u64,
    },
    /// Text that goes past the end of the file.
    #[error("{subject} has {bytes} bytes, but only {left} follow")]
    StringBeyondFile {
        /// Whose text.
        subject: String,
        /// Its length.
        bytes: u64,
        /// Bytes that follow.
        left: u64,
    },
    /// Text that is not UTF-8.
    #[error("{subject} is not UTF-8 at offset {at}")]
    NotUtf8 {
        /// Whose text.
        subject: String,
        /// Where.
        at: u64,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("the value of {key:?} is neither true nor false but {byte}")]
    NotBool {
        /// The key.
        key: String,
        /// The byte.
        byte: u8,
    },
    /// An array of arrays.
    #[error("the value of {key:?} is an array of arrays")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// An array of more elements than allowed.
    #[error("the array {key:?} has {count} elements, {} is the limit", limits::ARRAY_ELEMENTS)]
    ArrayTooLong {
        /// The key.
        key: String,
        /// Its length.
        count: u64,
    },
    /// An array that goes past the end of the file.
    #[error("the array {key:?} has {count} elements, but only {left} bytes follow")]
    ArrayBeyondFile {
        /// The key.
        key: String,
        /// Its length.
        count: u64,
        /// Bytes that follow.
        left: u64,
    },

    // ── what the values say ──
    /// A key that every model needs.
    #[error("the key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A value of another type than its key wants.
    #[error("the value of {key:?} is of type {found}, not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A number outside its range.
    #[error("the value of {key:?} is {value}, it must be {range}")]
    OutOfRange {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it may be.
        range: String,
    },
    /// An alignment that is no power of two.
    #[error("the alignment {0} is not a power of two")]
    Alignment(u64),
    /// The file holds something else than a model's weights.
    #[error("it holds {0}, not a model")]
    NotAModel(&'static str),
    /// One of several parts of a model.
    #[error("it is part {number} of a model split into {count} files")]
    Split {
        /// Which part, from 1.
        number: u32,
        /// How many.
        count: u32,
    },
    /// Not the part that belongs here.
    #[error("part {number} of {count} is expected, this is {found}")]
    WrongPart {
        /// What it is.
        found: String,
        /// Which part belongs here, from 1.
        number: usize,
        /// How many files were given.
        count: usize,
    },
    /// Split information that contradicts itself.
    #[error("its split information contradicts itself: {0}")]
    SplitLies(String),

    // ── adapters ──
    /// The file holds something else than an adapter.
    #[error("it is no LoRA adapter but {0}")]
    NotAnAdapter(String),
    /// An adapter for another kind of model.
    #[error("it is an adapter for {found} models, and this model is of {expected}")]
    AdapterOfOther {
        /// What it adapts.
        found: String,
        /// What the model is.
        expected: String,
    },
    /// A tensor that is no half of a pair.
    #[error("the tensor {name:?} is no part of an adapter")]
    AdapterTensor {
        /// Its name.
        name: String,
    },
    /// A pair of which one half is missing.
    #[error("of the pair for {name:?}, {missing} is missing")]
    AdapterHalf {
        /// The model's tensor.
        name: String,
        /// Which half.
        missing: &'static str,
    },
    /// A half that fits neither the other half nor the model.
    #[error("what it adds to {name:?} has the shape {shape:?}, but {expected} is needed")]
    AdapterShape {
        /// The model's tensor.
        name: String,
        /// The half's shape.
        shape: Vec<u64>,
        /// What would fit.
        expected: String,
    },
    /// An adapter of a kind that is not applied here.
    #[error("it {0}, which is not supported")]
    AdapterUnsupported(String),

    // ── the vocabulary ──
    /// A vocabulary without entries.
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    /// More entries than allowed.
    #[error("the vocabulary has {count} entries, {} is the limit", limits::VOCABULARY)]
    VocabularyTooLarge {
        /// How many.
        count: u64,
    },
    /// An array beside the vocabulary that has another length.
    #[error("the array {key:?} has {count} elements, the vocabulary has {vocabulary}")]
    TokenizerLength {
        /// The key.
        key: &'static str,
        /// Its length.
        count: u64,
        /// The vocabulary's length.
        vocabulary: u64,
    },
    /// Two entries with the same text.
    #[error("the vocabulary holds {text:?} twice")]
    DuplicateToken {
        /// The text.
        text: String,
    },
    /// A byte token that does not name a byte.
    #[error("token {token} is a byte token, but its text {text:?} is not of the form <0x41>")]
    ByteToken {
        /// Its id.
        token: u64,
        /// Its text.
        text: String,
    },
    /// A score that is not a number.
    #[error("token {token} has a score that is not a number")]
    Score {
        /// Its id.
        token: u64,
    },
    /// A special token outside the vocabulary that every prompt would need.
    #[error("{key:?} is {id}, the vocabulary has {vocabulary} entries, and nothing else could stand for it")]
    SpecialToken {
        /// The key.
        key: &'static str,
        /// The id.
        id: u64,
        /// The vocabulary's length.
        vocabulary: u64,
    },

    // ── tensors ──
    /// A tensor's name that is empty, too long or holds control characters.
    #[error("the name of tensor {index} (at offset {at}) {reason}")]
    TensorName {
        /// Which tensor, from 0.
        index: u64,
        /// Where.
        at: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A tensor that is described twice.
    #[error("the tensor {name:?} stands twice")]
    DuplicateTensor {
        /// Its name.
        name: String,
    },
    /// A tensor with too many dimensions or none.
    #[error("the tensor {name:?} has {count} dimensions, 1 to {} are allowed", limits::DIMENSIONS)]
    Dimensions {
        /// Its name.
        name: String,
        /// How many.
        count: u32,
    },
    /// A tensor with a dimension of zero.
    #[error("the tensor {name:?} has the shape {shape:?}, which holds nothing")]
    ZeroDimension {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor of more elements than can be counted.
    #[error("the tensor {name:?} has the shape {shape:?}, which is more than can be counted")]
    ShapeOverflow {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor of a type that no engine computes with.
    #[error("the tensor {name:?} has type {tensor_type}, with which no engine can compute")]
    TensorType {
        /// Its name.
        name: String,
        /// The type's number.
        tensor_type: u32,
    },
    /// A row that is not made of whole blocks.
    #[error("the tensor {name:?} has rows of {row} elements, its type has blocks of {block}")]
    RowNotInBlocks {
        /// Its name.
        name: String,
        /// Elements of a row.
        row: u64,
        /// Elements of a block.
        block: u64,
    },
    /// Data that does not begin at a multiple of the alignment.
    #[error("the data of tensor {name:?} begins at {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// Its name.
        name: String,
        /// Its offset in the data.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Data past the end of the file.
    #[error("the data of tensor {name:?} ends at byte {end}, the file has {file_bytes}")]
    DataBeyondFile {
        /// Its name.
        name: String,
        /// Where its data ends.
        end: u64,
        /// The file's size.
        file_bytes: u64,
    },
    /// Two tensors in the same place.
    #[error("the data of tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
    },
}

impl Fault {
    /// How the caller must react.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing => ErrorKind::NotFound,
            Self::Read(_) => ErrorKind::Storage,
            Self::Split { .. } | Self::AdapterUnsupported(_) => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidModel,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing => "check the path; relative paths start at the current directory".to_owned(),
            Self::Directory => "give the model file in it, one that ends in .gguf".to_owned(),
            Self::NotAFile => "give an ordinary file".to_owned(),
            Self::Read(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "check the file's permissions".to_owned()
            }
            Self::Read(_) => "check the disk and the file's permissions".to_owned(),
            Self::NotGguf(lookalike) => lookalike.hint().to_owned(),
            Self::Empty
            | Self::Truncated { .. }
            | Self::Cut { .. }
            | Self::DataBeyondFile { .. }
            | Self::CountBeyondFile { .. }
            | Self::StringBeyondFile { .. }
            | Self::ArrayBeyondFile { .. } => {
                "the file seems to be incomplete: download or copy it again".to_owned()
            }
            Self::BigEndian => "look for the little-endian version of this file".to_owned(),
            Self::Version(_) | Self::TensorType { .. } => {
                "convert the model again with a current llama.cpp, or look for a newer file".to_owned()
            }
            Self::NotAModel(_) => "give the model that it belongs to".to_owned(),
            Self::Split { .. } => {
                "name all of it: hf://organisation/name, or the folder as file:///folder, is copied into the store; or join the parts with llama.cpp's `llama-gguf-split --merge`"
                    .to_owned()
            }
            Self::WrongPart { .. } => {
                "all files of one model belong together, each once, in their order: get them again".to_owned()
            }
            Self::NotAnAdapter(_) => {
                "give a LoRA adapter in GGUF, made with llama.cpp's `convert_lora_to_gguf.py`".to_owned()
            }
            Self::AdapterOfOther { .. } | Self::AdapterShape { .. } => {
                "use the adapter with the base model that it was trained for".to_owned()
            }
            Self::AdapterUnsupported(_) => "merge the adapter into the model's weights instead".to_owned(),
            _ => "the file is damaged, hostile or badly converted: get it from another source".to_owned(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.fault.kind(), error.to_string()).with_hint(error.fault.hint()).with_param("model")
    }
}
