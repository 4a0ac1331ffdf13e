//! A writer of small GGUF files, sound or deliberately not; of split ones, and of adapters.

mod bert;
mod changed;
mod llama;
mod lora;
mod parts;

pub use bert::{CLS, SEP, bert, reranker};
pub use llama::{LlamaShape, byte_pairs, hybrid, llama, windowed, with_specials, wordy};
pub use lora::lora;
pub use parts::part_name;

/// Value types as numbers in the file.
pub mod value_type {
    #![allow(missing_docs, reason = "the names are the documentation")]
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// The tensor type of 32-bit floats.
pub const F32: u32 = 0;
/// The tensor type of blocks of 32 numbers with four bits each and one scale.
pub const Q4_0: u32 = 2;
/// Weights repeat after so many, so that a file of any size is made quickly.
const PERIOD: usize = 1 << 16;

/// A GGUF file in the making. Everything it is told is written, true or not.
#[derive(Clone, Debug)]
pub struct Writer {
    magic: [u8; 4],
    version: u32,
    keys: Vec<Key>,
    key_count: Option<u64>,
    tensors: Vec<(Tensor, Data)>,
    tensor_count: Option<u64>,
    alignment: u64,
    missing_bytes: usize,
}

#[derive(Clone, Debug)]
struct Key {
    name: Vec<u8>,
    value_type: u32,
    value: Vec<u8>,
}

/// A tensor's description. The data of each follows that of the one before unless `offset` says otherwise.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name, as bytes.
    pub name: Vec<u8>,
    /// Sides, the innermost first.
    pub shape: Vec<u64>,
    /// The type's number.
    pub tensor_type: u32,
    /// Bytes of data to write.
    pub bytes: u64,
    /// The offset to claim.
    pub offset: Option<u64>,
}

/// What a tensor's data is.
#[derive(Clone, Debug)]
enum Data {
    /// Small pseudo-random floats that differ from tensor to tensor; of norms, ones.
    Made(usize),
    Given(Vec<u8>),
}

impl Data {
    fn write(&self, tensor: &Tensor, noise: &[u8], bytes: &mut Vec<u8>) {
        let count = tensor.bytes as usize;
        match self {
            Self::Given(data) => bytes.extend(data.iter().take(count)),
            Self::Made(_) if tensor.shape.len() == 1 => {
                bytes.extend(1.0_f32.to_le_bytes().iter().cycle().take(count));
            }
            Self::Made(index) => {
                let begin = index * 4096 % noise.len();
                bytes.extend(noise[begin..].iter().chain(noise).cycle().take(count));
            }
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            keys: Vec::new(),
            key_count: None,
            tensors: Vec::new(),
            tensor_count: None,
            alignment: 32,
            missing_bytes: 0,
        }
    }
}

impl Writer {
    /// A file that says version `version`.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// A file that begins with other bytes than `GGUF`.
    #[must_use]
    pub fn magic(mut self, magic: [u8; 4]) -> Self {
        self.magic = magic;
        self
    }

    /// Claims another number of keys than there are.
    #[must_use]
    pub fn claim_keys(mut self, count: u64) -> Self {
        self.key_count = Some(count);
        self
    }

    /// Claims another number of tensors than there are.
    #[must_use]
    pub fn claim_tensors(mut self, count: u64) -> Self {
        self.tensor_count = Some(count);
        self
    }

    /// Leaves the last bytes of the file out.
    #[must_use]
    pub fn cut(mut self, bytes: usize) -> Self {
        self.missing_bytes = bytes;
        self
    }

    /// A key with a value of any type and bytes; replaces a key of the same name.
    #[must_use]
    pub fn raw(mut self, name: impl AsRef<[u8]>, value_type: u32, value: impl Into<Vec<u8>>) -> Self {
        let key = Key { name: name.as_ref().to_vec(), value_type, value: value.into() };
        match self.keys.iter_mut().find(|other| other.name == key.name) {
            Some(other) => *other = key,
            None => self.keys.push(key),
        }
        self
    }

    /// Writes the last key once more.
    #[must_use]
    pub fn repeat_last_key(mut self) -> Self {
        self.keys.extend(self.keys.last().cloned());
        self
    }

    /// Leaves a key out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.keys.retain(|key| key.name != name.as_bytes());
        self
    }

    /// Leaves all tensors out.
    #[must_use]
    pub fn without_tensors(mut self) -> Self {
        self.tensors.clear();
        self
    }

    /// A key with text.
    #[must_use]
    pub fn text(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.raw(name, value_type::STRING, string(value.as_ref()))
    }

    /// A key with a u16.
    #[must_use]
    pub fn u16(self, name: &str, value: u16) -> Self {
        self.raw(name, value_type::U16, value.to_le_bytes())
    }

    /// A key with a u32.
    #[must_use]
    pub fn u32(self, name: &str, value: u32) -> Self {
        self.raw(name, value_type::U32, value.to_le_bytes())
    }

    /// A key with an i32.
    #[must_use]
    pub fn i32(self, name: &str, value: i32) -> Self {
        self.raw(name, value_type::I32, value.to_le_bytes())
    }

    /// A key with an f32.
    #[must_use]
    pub fn f32(self, name: &str, value: f32) -> Self {
        self.raw(name, value_type::F32, value.to_le_bytes())
    }

    /// A key with a truth value.
    #[must_use]
    pub fn boolean(self, name: &str, value: bool) -> Self {
        self.raw(name, value_type::BOOL, [u8::from(value)])
    }

    /// A key with an array: its elements' type, the length to claim, and the elements' bytes.
    #[must_use]
    pub fn array(self, name: &str, element: u32, count: u64, elements: &[u8]) -> Self {
        let value = [&element.to_le_bytes()[..], &count.to_le_bytes(), elements].concat();
        self.raw(name, value_type::ARRAY, value)
    }

    /// A key with an array of strings.
    #[must_use]
    pub fn strings<T: AsRef<[u8]>>(self, name: &str, values: &[T]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| string(value.as_ref())).collect();
        self.array(name, value_type::STRING, values.len() as u64, &elements)
    }

    /// A key with an array of f32.
    #[must_use]
    pub fn f32s(self, name: &str, values: &[f32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(name, value_type::F32, values.len() as u64, &elements)
    }

    /// A key with an array of i32.
    #[must_use]
    pub fn i32s(self, name: &str, values: &[i32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(name, value_type::I32, values.len() as u64, &elements)
    }

    /// A tensor of 32-bit floats.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[u64]) -> Self {
        let bytes = shape.iter().product::<u64>() * 4;
        let name = name.as_bytes().to_vec();
        self.raw_tensor(Tensor { name, shape: shape.to_vec(), tensor_type: F32, bytes, offset: None })
    }

    /// A tensor with whatever description.
    #[must_use]
    pub fn raw_tensor(mut self, tensor: Tensor) -> Self {
        let data = Data::Made(self.tensors.len());
        self.tensors.push((tensor, data));
        self
    }

    /// The same with matrices in `Q4_0` whose rows are whole blocks, which most processors compute faster when packed.
    #[must_use]
    pub fn in_q4_0(mut self) -> Self {
        for (index, (tensor, data)) in self.tensors.iter_mut().enumerate() {
            if tensor.shape.len() > 1 {
                let blocks = tensor.shape.iter().product::<u64>() / 32;
                let made = q4_0(blocks, index as u32);
                (tensor.tensor_type, tensor.bytes, *data) = (Q4_0, made.len() as u64, Data::Given(made));
            }
        }
        self
    }

    /// Changes the last tensor's description.
    #[must_use]
    pub fn last_tensor(mut self, change: impl FnOnce(&mut Tensor)) -> Self {
        if let Some((tensor, _)) = self.tensors.last_mut() {
            change(tensor);
        }
        self
    }

    /// Lays the data out for another alignment, which is also written as a key.
    #[must_use]
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = u64::from(alignment);
        self.u32("general.alignment", alignment)
    }

    /// The header alone, without data.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for key in &self.keys {
            bytes.extend(string(&key.name));
            bytes.extend(key.value_type.to_le_bytes());
            bytes.extend(&key.value);
        }
        let mut next_offset = 0;
        for (tensor, _) in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            bytes.extend(tensor.shape.iter().flat_map(|side| side.to_le_bytes()));
            bytes.extend(tensor.tensor_type.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(next_offset).to_le_bytes());
            next_offset += tensor.bytes.next_multiple_of(self.alignment);
        }
        bytes
    }

    /// The whole file. Weights that were not given are small pseudo-random floats, the same each time;
    /// norms are ones.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let noise = noise();
        for (tensor, data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
            let end = bytes.len() + tensor.bytes as usize;
            data.write(tensor, &noise, &mut bytes);
            bytes.resize(end, 0);
        }
        bytes.truncate(bytes.len() - self.missing_bytes);
        bytes
    }
}

/// Floats around zero with a spread of 0.3, from a linear congruential generator.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(state.to_le_bytes()[3]) / 255.0 - 0.5
    };
    (0..PERIOD).flat_map(|_| next().to_le_bytes()).collect()
}

/// Blocks of numbers around zero: a scale of 1/16 as a 16-bit float, and 32 times four bits from the same generator.
fn q4_0(blocks: u64, seed: u32) -> Vec<u8> {
    const SCALE: [u8; 2] = 0x2c00_u16.to_le_bytes();
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..blocks).flat_map(|_| SCALE.into_iter().chain(std::array::from_fn::<u8, 16, _>(|_| next()))).collect()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}
