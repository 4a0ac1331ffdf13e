//! Packed weights on the real engine in workers: made on request, mapped by the next load, and told of. On a CPU
//! without a packer the same commands say so.

use samovar_core::testing::gguf::{LlamaShape, llama};
use serde_json::Value;

use crate::home::Home;

/// A home, and a small model in a number format that processors pack.
struct Fixture {
    home: Home,
    model: String,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn with(layout: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("m.gguf");
        fs_err::write(&model, llama(LlamaShape::TINY).in_q4_0().build()).expect("a file");
        let home = Home::new().with_variable("SAMOVAR_DEFAULTS_LAYOUT", layout);
        Self { home, model: model.to_str().expect("UTF-8").to_owned(), _folder: folder }
    }

    fn ask(&self) -> Value {
        let question = "What day comes after Friday?";
        let answer = self.home.run(&["--json", "run", &self.model, "-n", "12", "-t", "0", question]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.json()["text"].clone()
    }

    fn layout(&self) -> Value {
        let models = self.home.run(&["--json", "ps"]).json();
        models["models"][0]["options"]["layout"].clone()
    }

    /// Whether the model can be packed here; what is said where it can not.
    fn is_packed(&self) -> bool {
        let packed = self.home.run(&["--json", "pack", &self.model]);
        if packed.code == 0 {
            return true;
        }
        assert!(
            packed.stderr.contains("packs nothing") || packed.stderr.contains("is packed on"),
            "{packed:?}"
        );
        assert_eq!(self.home.run(&["--json", "show", &self.model]).json()["packed"]["layout"], "mapped");
        let should_be = cfg!(target_feature = "avx2");
        assert!(!should_be, "Q4_0 is packed on such a CPU: {packed:?}");
        false
    }
}

#[test]
fn what_is_packed_on_request_is_mapped_by_the_next_load_and_by_the_next_daemon() {
    let fixture = Fixture::with("packed");
    let home = &fixture.home;
    fixture.ask();
    assert_eq!(fixture.layout(), "mapped");
    if !fixture.is_packed() {
        return;
    }
    // A loaded model stays as it is.
    fixture.ask();
    assert_eq!(fixture.layout(), "mapped");
    home.run(&["stop", &fixture.model]);
    let said = fixture.ask();
    assert_eq!(fixture.layout(), "packed");
    let stats = home.run(&["--json", "stats"]).json();
    assert_eq!((&stats["packed"]["made"], &stats["packed"]["loads"]["packed"]), (&1.into(), &1.into()));
    let shown = home.run(&["show", &fixture.model]).stdout;
    assert!(shown.contains("packed: its settings say so"), "{shown}");
    let why = home.run(&["why", &fixture.model]).stdout;
    assert!(why.contains("its layout is packed"), "{why}");
    home.run(&["shutdown"]);
    home.wait_until_daemon_is_gone();
    assert_eq!((fixture.ask(), fixture.layout()), (said, Value::from("packed")));
}

#[test]
fn auto_goes_by_what_was_measured() {
    let fixture = Fixture::with("auto");
    if !fixture.is_packed() {
        return;
    }
    let packed = fixture.home.run(&["--json", "show", &fixture.model]).json()["packed"].clone();
    let speeds = packed["speeds"].as_array().expect("speeds").clone();
    assert!(speeds.iter().any(|speed| speed["layout"] == "mapped"), "{packed}");
    assert!(speeds.iter().any(|speed| speed["layout"] == "packed"), "{packed}");
    fixture.ask();
    assert_eq!(fixture.layout(), packed["layout"], "{packed}");
}

#[test]
fn the_built_in_model_says_why_it_is_not_packed_or_is() {
    let home = Home::new();
    let packed = home.run(&["--json", "pack", "demo"]);
    let shown = home.run(&["--json", "show", "demo"]).json();
    assert!(packed.code == 0 || shown["packed"]["layout"] == "mapped", "{packed:?} {shown}");
    assert!(packed.code == 0 || packed.stderr.contains("packs nothing"), "{packed:?}");
}
