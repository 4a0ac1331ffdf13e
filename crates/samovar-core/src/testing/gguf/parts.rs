//! Sound files taken apart: read back into a writer, and split into several.

use super::{Data, Key, Tensor, Writer, value_type};

/// What a part of a split model is called, by which llama.cpp finds the others: `number` counts from 1.
pub fn part_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

impl Writer {
    /// The model split as llama.cpp's tool does it: the first part has all keys, each has a share of the
    /// tensors in their order and says which part it is.
    pub fn split(&self, count: usize) -> Vec<Self> {
        let share = self.tensors.len().div_ceil(count).max(1);
        let mut shares = self.tensors.chunks(share);
        (0..count)
            .map(|number| {
                let base = if number == 0 {
                    Self { tensors: Vec::new(), ..self.clone() }
                } else {
                    Self { version: self.version, ..Self::default() }
                };
                let part = base
                    .u16("split.no", number as u16)
                    .u16("split.count", count as u16)
                    .i32("split.tensors.count", self.tensor_sum());
                Self { tensors: shares.next().map(<[_]>::to_vec).unwrap_or_default(), ..part }
            })
            .collect()
    }

    /// The same model with an empty first part, as the tool's `--no-tensor-first-split` makes it.
    pub fn split_after_header(&self, count: usize) -> Vec<Self> {
        let tensors = self.tensor_sum();
        let head = Self { tensors: Vec::new(), ..self.clone() };
        let rest = Self { tensors: self.tensors.clone(), version: self.version, ..Self::default() };
        let mut parts = vec![head];
        parts.extend(rest.split(count - 1));
        let number = |(number, part): (usize, Self)| {
            part.u16("split.no", number as u16)
                .u16("split.count", count as u16)
                .i32("split.tensors.count", tensors)
        };
        parts.into_iter().enumerate().map(number).collect()
    }

    fn tensor_sum(&self) -> i32 {
        i32::try_from(self.tensors.len()).expect("a few tensors")
    }

    /// The writer of a file that exists, with its data.
    ///
    /// # Panics
    /// For a file that is not sound, or has nested arrays.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut cursor = Cursor { bytes, at: 0 };
        let magic = cursor.take(4).try_into().expect("four bytes");
        let version = cursor.u32();
        let (tensor_count, key_count) = (cursor.u64(), cursor.u64());
        let keys: Vec<Key> = (0..key_count).map(|_| cursor.key()).collect();
        let mut writer = Self { magic, version, keys, ..Self::default() };
        if let Some(key) = writer.keys.iter().find(|key| key.name == b"general.alignment") {
            writer.alignment =
                u64::from(u32::from_le_bytes(key.value[..].try_into().expect("an alignment is a u32")));
        }
        let mut tensors: Vec<Tensor> = (0..tensor_count).map(|_| cursor.tensor()).collect();
        let data = &bytes[cursor.at.next_multiple_of(writer.alignment as usize)..];
        // Up to where the next begins, so that types need not be known.
        let mut begins: Vec<u64> = tensors.iter().filter_map(|tensor| tensor.offset).collect();
        begins.push(data.len() as u64);
        begins.sort_unstable();
        for tensor in &mut tensors {
            let begin = tensor.offset.take().expect("read above");
            let end = begins[begins.partition_point(|other| *other <= begin)];
            tensor.bytes = end - begin;
            let data = data[begin as usize..end as usize].to_vec();
            writer.tensors.push((tensor.clone(), Data::Given(data)));
        }
        writer
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn string(&mut self) -> Vec<u8> {
        let count = self.u64();
        self.take(count as usize).to_vec()
    }

    fn key(&mut self) -> Key {
        let name = self.string();
        let value_type = self.u32();
        let begin = self.at;
        self.pass(value_type);
        Key { name, value_type, value: self.bytes[begin..self.at].to_vec() }
    }

    fn pass(&mut self, value_type: u32) {
        match value_type {
            value_type::STRING => drop(self.string()),
            value_type::ARRAY => {
                let (element, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.pass(element));
            }
            _ => drop(self.take(width(value_type))),
        }
    }

    fn tensor(&mut self) -> Tensor {
        let name = self.string();
        let dimensions = self.u32();
        let shape = (0..dimensions).map(|_| self.u64()).collect();
        let tensor_type = self.u32();
        Tensor { name, shape, tensor_type, bytes: 0, offset: Some(self.u64()) }
    }
}

fn width(value_type: u32) -> usize {
    match value_type {
        value_type::U8 | 1 | value_type::BOOL => 1,
        value_type::U16 | 3 => 2,
        value_type::U32 | value_type::I32 | value_type::F32 => 4,
        value_type::U64 | value_type::I64 | value_type::F64 => 8,
        other => panic!("a value of type {other}"),
    }
}
