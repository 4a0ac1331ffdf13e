//! Reads the weights of a published model, one tensor at a time, as the numbers that are computed with. Nothing is mapped: each
//! tensor is read and converted, and takes twice its room for that moment.

use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use fs_err::File;
use samovar_convert::{PublishedModel, PublishedTensor};
use samovar_core::port::LoadControl;

use crate::error::Error;

/// The element types that are read, by their names in safetensors.
const KINDS: [(&str, DType); 4] =
    [("F32", DType::F32), ("F16", DType::F16), ("BF16", DType::BF16), ("F64", DType::F64)];

/// The element type of this name.
pub(crate) fn dtype_of(kind: &str) -> Option<DType> {
    KINDS.into_iter().find(|(name, _)| *name == kind).map(|(_, dtype)| dtype)
}

/// Reads tensors for a device.
pub(crate) struct WeightReader<'a> {
    model: &'a PublishedModel,
    device: &'a Device,
    dtype: DType,
    control: &'a LoadControl,
    total_bytes: u64,
    reading: RefCell<Reading>,
}

/// How far it is.
#[derive(Default)]
struct Reading {
    file: Option<(PathBuf, File)>,
    read_bytes: u64,
    held_bytes: u64,
}

impl<'a> WeightReader<'a> {
    /// For a device that computes with numbers of this type.
    pub(crate) fn new(
        model: &'a PublishedModel,
        device: &'a Device,
        dtype: DType,
        control: &'a LoadControl,
    ) -> Self {
        let (_, total_bytes) = model.weight_files();
        Self { model, device, dtype, control, total_bytes, reading: RefCell::default() }
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.model.tensor(name).is_some()
    }

    /// The first of these prefixes with which there is a tensor of this name; else the first.
    pub(crate) fn prefix<'p>(&self, prefixes: &[&'p str], name: &str) -> &'p str {
        let found = prefixes.iter().find(|prefix| self.has(&format!("{prefix}{name}")));
        found.or(prefixes.first()).copied().unwrap_or_default()
    }

    /// Bytes of all tensors that were read, as they are held.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.reading.borrow().held_bytes
    }

    /// A tensor of this shape.
    pub(crate) fn tensor(&self, name: &str, shape: &[u64]) -> Result<Tensor, Error> {
        let found = self.find(name)?;
        if found.shape != shape {
            return Err(disagree(name, found.shape, shape));
        }
        self.read(name, &found, shape)
    }

    /// The same, if there is one.
    pub(crate) fn optional(&self, name: &str, shape: &[u64]) -> Result<Option<Tensor>, Error> {
        if self.has(name) { self.tensor(name, shape).map(Some) } else { Ok(None) }
    }

    /// So many rows of a table, which may have more.
    pub(crate) fn table(&self, name: &str, rows: u64, width: u64) -> Result<Tensor, Error> {
        let found = self.find(name)?;
        match found.shape {
            [stored, columns] if *stored >= rows && *columns == width => {
                self.read(name, &found, &[rows, width])
            }
            other => Err(disagree(name, other, &[rows, width])),
        }
    }

    /// Rows of a table, however many there are.
    pub(crate) fn rows(&self, name: &str) -> Option<u64> {
        self.model.tensor(name)?.shape.first().copied()
    }

    fn find(&self, name: &str) -> Result<PublishedTensor<'a>, Error> {
        let missing = || Error::Disagree { detail: format!("there is no tensor {name:?}") };
        self.model.tensor(name).ok_or_else(missing)
    }

    /// Reads the beginning of a tensor, as much as the shape has.
    fn read(&self, name: &str, found: &PublishedTensor<'_>, shape: &[u64]) -> Result<Tensor, Error> {
        if self.control.is_cancelled() {
            return Err(Error::LoadCancelled);
        }
        let dtype = dtype_of(found.kind).ok_or_else(|| Error::UnknownModel {
            what: format!("models with weights of the type {}", found.kind),
        })?;
        let elements: u64 = shape.iter().product();
        let mut bytes = vec![0; elements as usize * dtype.size_in_bytes()];
        self.fill(found, &mut bytes)?;
        let shape: Vec<usize> = shape.iter().map(|side| *side as usize).collect();
        let stored = Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu)?;
        drop(bytes);
        let wide = stored.to_dtype(DType::F32)?;
        // A sum is no number if one of its parts is none.
        if !wide.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::WeightsNotFinite(name.to_owned()));
        }
        let tensor = wide.to_dtype(self.dtype)?.to_device(self.device)?;
        let mut reading = self.reading.borrow_mut();
        reading.read_bytes += elements * dtype.size_in_bytes() as u64;
        reading.held_bytes += elements * self.dtype.size_in_bytes() as u64;
        let fraction = reading.read_bytes as f32 / self.total_bytes.max(1) as f32;
        drop(reading);
        self.control.report(fraction.min(1.0));
        Ok(tensor)
    }

    fn fill(&self, found: &PublishedTensor<'_>, bytes: &mut [u8]) -> Result<(), Error> {
        let fault = |source| Error::Read { path: found.path.clone(), source };
        let mut reading = self.reading.borrow_mut();
        let is_open = reading.file.as_ref().is_some_and(|(path, _)| *path == found.path);
        if !is_open {
            reading.file = Some((found.path.clone(), File::open(&found.path).map_err(fault)?));
        }
        let Some((_, file)) = reading.file.as_mut() else { return Err(Error::Gone) };
        file.seek(SeekFrom::Start(found.begin)).map_err(fault)?;
        file.read_exact(bytes).map_err(fault)
    }
}

fn disagree(name: &str, found: &[u64], wanted: &[u64]) -> Error {
    let detail = format!("the tensor {name:?} has the shape {found:?}, and config.json says {wanted:?}");
    Error::Disagree { detail }
}
