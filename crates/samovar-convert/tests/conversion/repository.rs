//! A published model of random weights, written to a folder of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use samovar_convert::{Converted, FloatFormat, Options, convert, judge};
use samovar_core::Failure;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::written::Written;

/// The rows of every vocabulary here.
pub(crate) const VOCABULARY: u64 = 16;
/// Width of the models.
pub(crate) const WIDTH: u64 = 8;
/// Width of their feed-forward layers.
pub(crate) const WIDE: u64 = 16;

/// A folder in the making.
pub(crate) struct Repository {
    place: TempDir,
    tensors: BTreeMap<String, (Vec<u64>, Vec<f32>)>,
    /// Of the numbers of weights.
    state: u32,
}

impl Repository {
    /// A folder with this `config.json`.
    pub(crate) fn new(config: &Value) -> Self {
        let repository = Self {
            place: TempDir::new().expect("built by the test"),
            tensors: BTreeMap::new(),
            state: 0x9e37_79b9,
        };
        repository.file("config.json", &config.to_string())
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Where the converted file is written.
    pub(crate) fn target(&self) -> PathBuf {
        self.path().join("converted.gguf")
    }

    pub(crate) fn file(self, name: &str, contents: &str) -> Self {
        let path = self.path().join(name);
        fs_err::create_dir_all(path.parent().expect("built by the test")).expect("built by the test");
        fs_err::write(path, contents).expect("built by the test");
        self
    }

    /// Adds a tensor of random numbers that BF16 and F16 both hold exactly.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64]) -> Self {
        let numbers = (0..shape.iter().product::<u64>()).map(|_| self.number()).collect();
        self.tensors.insert(name.to_owned(), (shape.to_vec(), numbers));
        self
    }

    /// Sets the first number of a tensor.
    pub(crate) fn with(mut self, name: &str, number: f32) -> Self {
        self.tensors.get_mut(name).expect("built by the test").1[0] = number;
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.tensors.remove(name).expect("built by the test");
        self
    }

    /// The numbers of a tensor, as they are published.
    pub(crate) fn numbers(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    fn number(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let number = f64::from(self.state % 2001) / 1000.0 - 1.0;
        f32::from_bits((number as f32).to_bits() & 0xffff_0000)
    }

    /// Writes the weights as one file.
    pub(crate) fn whole(self) -> Self {
        let names: Vec<&String> = self.tensors.keys().collect();
        self.write("model.safetensors", &names);
        self
    }

    /// Writes the weights as those of an adapter.
    pub(crate) fn into_adapter(self) -> Self {
        let names: Vec<&String> = self.tensors.keys().collect();
        self.write("adapter_model.safetensors", &names);
        self
    }

    /// Writes the weights as two files with an index, which says of each tensor where it is.
    pub(crate) fn in_two(self) -> Self {
        let names: Vec<&String> = self.tensors.keys().collect();
        let (first, second) = names.split_at(names.len() / 2);
        let mut map = Map::new();
        for (number, part) in [(1, first), (2, second)] {
            let file = format!("model-0000{number}-of-00002.safetensors");
            self.write(&file, part);
            map.extend(part.iter().map(|name| ((*name).clone(), Value::from(file.clone()))));
        }
        let index = json!({"metadata": {}, "weight_map": map});
        fs_err::write(self.path().join("model.safetensors.index.json"), index.to_string())
            .expect("built by the test");
        self
    }

    fn write(&self, file: &str, names: &[&String]) {
        let tensors = names.iter().map(|name| {
            let (shape, numbers) = &self.tensors[*name];
            (name.as_str(), shape.as_slice(), numbers.as_slice())
        });
        fs_err::write(self.path().join(file), safetensors(tensors)).expect("built by the test");
    }

    /// Where the weights of a whole model have a tensor.
    pub(crate) fn place(&self, name: &str) -> (u64, u64) {
        let (header, _) = self.header();
        let place = |index: usize| header[name]["data_offsets"][index].as_u64().expect("built by the test");
        (place(0), place(1))
    }

    /// Has the weights of a whole model say that a tensor is elsewhere.
    pub(crate) fn placed(self, name: &str, place: [u64; 2]) -> Self {
        let (mut header, data) = self.header();
        header[name]["data_offsets"] = json!(place);
        let header = header.to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs_err::write(self.path().join("model.safetensors"), bytes).expect("built by the test");
        self
    }

    /// What the weights of a whole model say, and their data.
    fn header(&self) -> (Value, Vec<u8>) {
        let bytes = fs_err::read(self.path().join("model.safetensors")).expect("built by the test");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("built by the test")) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).expect("built by the test");
        (header, bytes[8 + length..].to_vec())
    }

    /// Adds a layer in a folder of its own, as sentence-transformers has them.
    pub(crate) fn layer(mut self, place: &str, rows: u64, columns: u64) -> Self {
        let numbers: Vec<f32> = (0..rows * columns).map(|_| self.number()).collect();
        let settings = json!({"in_features": columns, "out_features": rows, "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity"});
        let repository = self.file(&format!("{place}/config.json"), &settings.to_string());
        let shape = [rows, columns];
        let tensor = ("linear.weight", shape.as_slice(), numbers.as_slice());
        let path = repository.path().join(place).join("model.safetensors");
        fs_err::write(path, safetensors([tensor])).expect("built by the test");
        repository
    }

    /// Converts the model to F16.
    pub(crate) fn converted(&self) -> (Converted, Written) {
        let converted = self.try_convert().expect("built by the test");
        (converted, Written::read(&self.target()))
    }

    pub(crate) fn try_convert(&self) -> Result<Converted, Failure> {
        let options = Options { float: FloatFormat::F16, name: None };
        convert(&judge(self.path())?, &self.target(), &options, &mut |_| ControlFlow::Continue(()))
    }

    /// Why it is not converted, and that nothing is left.
    pub(crate) fn refusal(&self) -> Failure {
        let failure = self.try_convert().expect_err("refused");
        assert!(!self.target().exists(), "something is left after {failure:?}");
        failure
    }
}

/// What models of all architectures have in their configuration, with what this one has besides.
pub(crate) fn config(class: &str, more: &Value) -> Value {
    let mut config = json!({
        "architectures": [class], "hidden_size": WIDTH, "intermediate_size": WIDE, "num_attention_heads": 2,
        "num_hidden_layers": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 32
    });
    config
        .as_object_mut()
        .expect("built by the test")
        .extend(more.as_object().expect("built by the test").clone());
    config
}

/// A file of tensors as BF16.
fn safetensors<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64], &'a [f32])>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, numbers) in tensors {
        let begin = data.len();
        data.extend(numbers.iter().flat_map(|number| ((number.to_bits() >> 16) as u16).to_le_bytes()));
        let place = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.to_owned(), place);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
