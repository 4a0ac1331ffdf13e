//! The built-in model lies in the tree in both forms: what is converted is, bit by bit, what was written as GGUF.

use std::ops::ControlFlow;
use std::path::Path;

use samovar_convert::{FloatFormat, Options, convert, judge};

use crate::written::Written;

#[test]
fn the_demo_model_comes_out_as_its_own_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo-model");
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("converted.gguf");
    for float in [FloatFormat::F16, FloatFormat::AsPublished] {
        let options = Options { float, name: Some("Samovar demo".to_owned()) };
        let plan = judge(&folder).unwrap();
        convert(&plan, &target, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let (found, wanted) = (Written::read(&target), Written::read(&folder.join("demo.gguf")));
        assert_eq!(found.tensors.len(), wanted.tensors.len());
        for (name, tensor) in &wanted.tensors {
            assert!(found.tensors[name] == *tensor, "{name} differs");
        }
        // What only a person says of a model, and a role that llama.cpp finds by itself.
        let unsaid = [
            "general.description",
            "general.license",
            "general.size_label",
            "general.languages",
            "tokenizer.ggml.eot_token_id",
        ];
        for (key, value) in wanted.keys.iter().filter(|(key, _)| !unsaid.contains(&key.as_str())) {
            assert!(found.keys.get(key) == Some(value), "{key} differs");
        }
        fs_err::remove_file(&target).unwrap();
    }
}
