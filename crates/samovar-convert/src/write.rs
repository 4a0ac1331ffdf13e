//! Writes the file of a plan: weights in pieces, the header last, all of it or nothing.
//!
//! ```text
//!   shard ─ a few MiB ─► finite? ─► F32 / F16 / BF16 ─► target        a piece after the other, tensor after tensor
//!                            └ beyond F16: this tensor again, as BF16 (of the same size)
//!   header, with the formats that came out ─► gate
//! ```

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;

use fs_err::{File, OpenOptions};
use samovar_core::{Descriptor, format};

use crate::error::Fault;
use crate::gguf::{self, Description, Format, Value};
use crate::number::{self, Number, Refusal};
use crate::plan::{ConversionPlan, describe};
use crate::source::Shard;
use crate::tensor::{NumberSource, Order, Tensor};
use crate::{Converted, FloatFormat, Options};

/// Bytes that are read at once; whole numbers of every format.
const PIECE_BYTES: u64 = 4 << 20;

/// The key that says how most weights are written.
const FILE_TYPE: &str = "general.file_type";
/// Its value where all of them are 32-bit floats.
const ALL_F32: u32 = 0;
/// What people call a model.
const NAME: &str = "general.name";

/// How far a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights that are converted.
    pub done_bytes: u64,
    /// Bytes of all weights.
    pub total_bytes: u64,
}

/// The key that says how most weights are written, with what it says of models.
///
/// *Source:* `enum llama_ftype` of llama.cpp.
pub(crate) const fn file_type(float: FloatFormat) -> (&'static str, Value) {
    let number = match float {
        FloatFormat::F16 | FloatFormat::AsPublished => 1,
        FloatFormat::Bf16 => 32,
    };
    (FILE_TYPE, Value::U32(number))
}

/// Writes the file of a model's plan and checks it.
pub(crate) fn convert(
    plan: &ConversionPlan,
    target: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Converted, Fault> {
    let (descriptor, beyond_f16) = checked(plan, target, options, progress, format::gguf::inspect)?;
    Ok(Converted { bytes: descriptor.file_bytes, descriptor, beyond_f16 })
}

/// Writes the file of an adapter's plan, checks it, and returns its bytes.
pub(crate) fn convert_adapter(
    plan: &ConversionPlan,
    base: &Descriptor,
    target: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, Fault> {
    let gate = |target: &Path| format::gguf::inspect_adapter(target, base);
    let (header, _) = checked(plan, target, &Options::default(), progress, gate)?;
    Ok(header.file_bytes)
}

/// Writes the file of a plan, and returns what the gate says of it and which matrices F16 cannot hold.
fn checked<T>(
    plan: &ConversionPlan,
    target: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    gate: impl FnOnce(&Path) -> Result<T, format::gguf::Error>,
) -> Result<(T, Vec<String>), Fault> {
    let failed = |source| Fault::Write { path: target.to_owned(), source };
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(false).open(target).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > 0 {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is not empty");
        return Err(failed(source));
    }
    let written = write(plan, target, &mut file, options, progress).and_then(|beyond_f16| {
        let passed = gate(target).map_err(|error| Fault::Gate(Box::new(error)))?;
        Ok((passed, beyond_f16))
    });
    if written.is_err() {
        drop(file);
        // The first failure says more than one of cleaning up.
        let _ = fs_err::remove_file(target);
    }
    written
}

/// Writes everything, and returns the matrices that are BF16 because F16 cannot hold them.
fn write(
    plan: &ConversionPlan,
    target: &Path,
    file: &mut File,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<String>, Fault> {
    let failed = |source| Fault::Write { path: target.to_owned(), source };
    let (mut descriptions, data_bytes) = describe(&plan.tensors, options.float);
    let more = more(plan, options, &descriptions);
    // Formats of one size may change places later, so that the header keeps its size.
    let data_begin = gguf::header(&plan.metadata, &more, &descriptions).len() as u64;
    file.set_len(data_begin + data_bytes).map_err(failed)?;
    let total_bytes: u64 = plan.tensors.iter().map(Tensor::source_bytes).sum();
    let mut reader = Shards { plan, open: None };
    let mut buffers = Buffers::default();
    let (mut done_bytes, mut beyond_f16) = (0_u64, Vec::new());
    for (tensor, description) in plan.tensors.iter().zip(&mut descriptions) {
        let mut format = description.format;
        loop {
            file.seek(SeekFrom::Start(data_begin + description.offset)).map_err(failed)?;
            let mut tensor_bytes = 0_u64;
            let mut put = |bytes: &[u8], read_bytes: u64| {
                file.write_all(bytes).map_err(failed)?;
                tensor_bytes += read_bytes;
                match progress(Progress { done_bytes: done_bytes + tensor_bytes, total_bytes }) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Fault::Cancelled),
                }
            };
            match copy(tensor, format, &mut reader, &mut buffers, &mut put)? {
                Ok(()) => break,
                Err(Refusal::Beyond) if format == Format::F16 => format = Format::Bf16,
                Err(Refusal::Beyond | Refusal::NotFinite) => {
                    return Err(Fault::NotFinite(tensor.name.clone()));
                }
            }
        }
        if format != description.format {
            beyond_f16.push(tensor.name.clone());
            description.format = format;
        }
        done_bytes += tensor.source_bytes();
    }
    reader.check_all()?;
    file.rewind().map_err(failed)?;
    file.write_all(&gguf::header(&plan.metadata, &more, &descriptions)).map_err(failed)?;
    Ok(beyond_f16)
}

/// The keys that follow from the options.
fn more(
    plan: &ConversionPlan,
    options: &Options,
    descriptions: &[Description<'_>],
) -> Vec<(&'static str, Value)> {
    let has_bf16 = descriptions.iter().any(|description| description.format == Format::Bf16);
    let has_f16 = descriptions.iter().any(|description| description.format == Format::F16);
    let mut more = vec![match (has_bf16, has_f16) {
        (false, false) => (FILE_TYPE, Value::U32(ALL_F32)),
        (true, false) => file_type(FloatFormat::Bf16),
        _ => file_type(FloatFormat::F16),
    }];
    if let Some(name) = options.name.as_ref().filter(|_| !plan.metadata.has(NAME)) {
        more.push((NAME, Value::Text(name.clone())));
    }
    more
}

/// Memory that is used again for each piece.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    ordered: Vec<u8>,
    encoded: Vec<u8>,
}

/// Takes bytes of the target, and how many bytes of the source they stand for.
type Put<'a> = dyn FnMut(&[u8], u64) -> Result<(), Fault> + 'a;

/// What came of a copy: the inner error is about the numbers, the outer one about files and the caller.
type Copied = Result<Result<(), Refusal>, Fault>;

/// Copies one tensor in a format. The inner result says what its numbers do not allow.
fn copy(
    tensor: &Tensor,
    format: Format,
    shards: &mut Shards<'_>,
    buffers: &mut Buffers,
    put: &mut Put<'_>,
) -> Copied {
    let (shard, begin, number) = match &tensor.origin {
        NumberSource::Stored { shard, begin, number } => (*shard, *begin, *number),
        NumberSource::Made(values) => {
            let source: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            return encode(tensor, Number::F32, &source, format, &mut buffers.encoded, put);
        }
    };
    let total = tensor.source_bytes();
    // Rows that change places are read with all of those that they change places with.
    let together = match tensor.order {
        Order::AsStored => PIECE_BYTES,
        Order::Interleaved { .. } => tensor.together_bytes(),
    };
    let mut at = 0;
    while at < total {
        let count = together.min(total - at);
        shards.read(shard, begin + at, count, &mut buffers.read)?;
        let source = match tensor.order {
            Order::AsStored => &buffers.read,
            Order::Interleaved { .. } => {
                let row_bytes = tensor.shape[1..].iter().product::<u64>() * number.bytes();
                interleave(&buffers.read, row_bytes as usize, &mut buffers.ordered);
                &buffers.ordered
            }
        };
        for piece in source.chunks(PIECE_BYTES as usize) {
            if let Err(refusal) = encode(tensor, number, piece, format, &mut buffers.encoded, put)? {
                return Ok(Err(refusal));
            }
        }
        at += count;
    }
    Ok(Ok(()))
}

fn encode(
    tensor: &Tensor,
    number: Number,
    source: &[u8],
    format: Format,
    encoded: &mut Vec<u8>,
    put: &mut Put<'_>,
) -> Copied {
    encoded.clear();
    if let Err(refusal) = number::encode(number, source, tensor.shift, format, encoded) {
        return Ok(Err(refusal));
    }
    put(encoded, source.len() as u64).map(Ok)
}

/// Rows of the first half of a head and of the second half in turns.
fn interleave(rows: &[u8], row_bytes: usize, ordered: &mut Vec<u8>) {
    ordered.clear();
    let (first, second) = rows.split_at(rows.len() / 2);
    for (first, second) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
        ordered.extend_from_slice(first);
        ordered.extend_from_slice(second);
    }
}

/// The shards of a plan, of which one is open.
struct Shards<'a> {
    plan: &'a ConversionPlan,
    open: Option<(usize, File)>,
}

impl Shards<'_> {
    /// Reads so many bytes of a shard into `buffer`.
    fn read(&mut self, shard: usize, begin: u64, count: u64, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        let path = self.plan.folder.join(&self.plan.shards[shard].file);
        let failed = |source| Fault::Read { path: path.clone(), source };
        if self.open.as_ref().is_none_or(|(open, _)| *open != shard) {
            let file = File::open(&path).map_err(failed)?;
            check(&self.plan.shards[shard], &file.metadata().map_err(failed)?)?;
            self.open = Some((shard, file));
        }
        let Some((_, file)) = &mut self.open else { return Err(Fault::Changed(path.display().to_string())) };
        file.seek(SeekFrom::Start(begin)).map_err(failed)?;
        buffer.resize(count as usize, 0);
        file.read_exact(buffer).map_err(failed)
    }

    /// That no shard was written to since it was judged.
    fn check_all(&self) -> Result<(), Fault> {
        for shard in &self.plan.shards {
            let path = self.plan.folder.join(&shard.file);
            let facts = fs_err::metadata(&path).map_err(|source| Fault::Read { path, source })?;
            check(shard, &facts)?;
        }
        Ok(())
    }
}

fn check(shard: &Shard, facts: &std::fs::Metadata) -> Result<(), Fault> {
    let is_same = facts.len() == shard.bytes && facts.modified().ok() == shard.changed;
    if is_same { Ok(()) } else { Err(Fault::Changed(shard.file.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_take_turns() {
        let mut ordered = Vec::new();
        interleave(b"aabbccddeeff", 2, &mut ordered);
        assert_eq!(ordered, b"aaddbbeeccff");
    }
}
