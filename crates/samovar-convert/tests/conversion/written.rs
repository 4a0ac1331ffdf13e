//! A GGUF file that was written, read again without a check: the gate has checked it.

use std::collections::BTreeMap;
use std::path::Path;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Flag(bool),
    Text(String),
    List(Vec<Value>),
}

/// A tensor: its sides (the innermost first), its type and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<u64>,
    pub(crate) format: u32,
    pub(crate) numbers: Vec<f32>,
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) keys: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Names in their order.
    pub(crate) order: Vec<String>,
}

impl Written {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs_err::read(path).expect("built by the test");
        let mut reader = Reader { bytes: &bytes, at: 8 };
        let (tensor_count, key_count) = (reader.u64(), reader.u64());
        let keys = (0..key_count)
            .map(|_| {
                let name = reader.text();
                let kind = reader.u32();
                (name, reader.value(kind))
            })
            .collect();
        let described: Vec<(String, Vec<u64>, u32, u64)> = (0..tensor_count)
            .map(|_| {
                let name = reader.text();
                let sides = reader.u32();
                let shape = (0..sides).map(|_| reader.u64()).collect();
                (name, shape, reader.u32(), reader.u64())
            })
            .collect();
        let data = reader.at.next_multiple_of(32);
        let order = described.iter().map(|(name, ..)| name.clone()).collect();
        let tensors = described
            .into_iter()
            .map(|(name, shape, format, offset)| {
                let count = shape.iter().product::<u64>() as usize;
                let begin = data + offset as usize;
                let width = if format == 0 { 4 } else { 2 };
                let numbers = bytes[begin..begin + count * width].chunks(width);
                let numbers = numbers.map(|number| of(format, number)).collect();
                (name, Tensor { shape, format, numbers })
            })
            .collect();
        Self { keys, tensors, order }
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.keys.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.keys.get(key) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.keys.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        let Some(Value::List(list)) = self.keys.get(key) else { panic!("{key} is no list") };
        let text = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => panic!("{key} has {other:?}"),
        };
        list.iter().map(text).collect()
    }

    /// The numbers of a row of a tensor.
    pub(crate) fn row(&self, name: &str, row: usize) -> &[f32] {
        let tensor = &self.tensors[name];
        let width = tensor.shape[0] as usize;
        &tensor.numbers[row * width..(row + 1) * width]
    }
}

fn of(format: u32, bytes: &[u8]) -> f32 {
    match format {
        0 => f32::from_le_bytes(bytes.try_into().expect("built by the test")),
        1 => half(u16::from_le_bytes(bytes.try_into().expect("built by the test"))),
        30 => {
            f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().expect("built by the test"))) << 16)
        }
        other => panic!("the type {other}"),
    }
}

/// The value of an F16, by its definition.
fn half(bits: u16) -> f32 {
    let (exponent, mantissa) = (i32::from((bits >> 10) & 0x1f), f32::from(bits & 0x3ff));
    let magnitude = if exponent == 0 {
        mantissa * 2_f32.powi(-24)
    } else {
        (1.0 + mantissa / 1024.0) * 2_f32.powi(exponent - 15)
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes[self.at..self.at + N].try_into().expect("built by the test");
        self.at += N;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let count = self.u64() as usize;
        let text =
            String::from_utf8(self.bytes[self.at..self.at + count].to_vec()).expect("built by the test");
        self.at += count;
        text
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 => Value::Number(f64::from(self.take::<1>()[0])),
            4 => Value::Number(f64::from(self.u32())),
            5 => Value::Number(f64::from(i32::from_le_bytes(self.take()))),
            6 => Value::Number(f64::from(f32::from_le_bytes(self.take()))),
            7 => Value::Flag(self.take::<1>()[0] == 1),
            8 => Value::Text(self.text()),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                Value::List((0..count).map(|_| self.value(kind)).collect())
            }
            other => panic!("the type {other}"),
        }
    }
}
