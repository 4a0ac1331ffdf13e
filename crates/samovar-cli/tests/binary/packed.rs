//! Packed weights of the built-in model on the real engine in workers: made on request, mapped by the next load, of no
//! influence on the answer, and told of. On a CPU without a packer the same commands say so.

use serde_json::Value;

use crate::home::Home;

fn ask(home: &Home) -> Value {
    let question = "What day comes after Friday?";
    home.run(&["--json", "run", "-n", "12", "-t", "0", question]).json()["text"].clone()
}

fn layout(home: &Home) -> Value {
    let models = home.run(&["--json", "ps"]).json();
    models["models"][0]["options"]["layout"].clone()
}

fn home_with(layout: &str) -> Home {
    Home::new().with_variable("SAMOVAR_DEFAULTS_LAYOUT", layout)
}

/// Whether the built-in model can be packed here; what is said where it can not.
fn is_packed(home: &Home) -> bool {
    let packed = home.run(&["--json", "pack", "demo"]);
    if packed.code == 0 {
        return true;
    }
    assert!(packed.stderr.contains("packs nothing"), "{packed:?}");
    assert_eq!(home.run(&["--json", "show", "demo"]).json()["packed"]["layout"], "mapped");
    false
}

#[test]
fn what_is_packed_on_request_is_mapped_by_the_next_load_and_says_the_same() {
    let home = home_with("packed");
    let said = ask(&home);
    assert_eq!(layout(&home), "mapped");
    if !is_packed(&home) {
        return;
    }
    // A loaded model stays as it is.
    assert_eq!((ask(&home), layout(&home)), (said.clone(), Value::from("mapped")));
    home.run(&["stop", "demo"]);
    assert_eq!((ask(&home), layout(&home)), (said.clone(), Value::from("packed")));
    let stats = home.run(&["--json", "stats"]).json();
    assert_eq!((&stats["packed"]["made"], &stats["packed"]["loads"]["packed"]), (&1.into(), &1.into()));
    let shown = home.run(&["show", "demo"]).stdout;
    assert!(shown.contains("packed: its settings say so"), "{shown}");
    let why = home.run(&["why", "demo"]).stdout;
    assert!(why.contains("its layout is packed"), "{why}");
    // The next daemon finds it.
    home.run(&["shutdown"]);
    home.wait_until_daemon_is_gone();
    assert_eq!((ask(&home), layout(&home)), (said, Value::from("packed")));
}

#[test]
fn auto_goes_by_what_was_measured() {
    let home = home_with("auto");
    if !is_packed(&home) {
        return;
    }
    let packed = home.run(&["--json", "show", "demo"]).json()["packed"].clone();
    let speeds = packed["speeds"].as_array().expect("speeds").clone();
    assert!(speeds.iter().any(|speed| speed["layout"] == "mapped"), "{packed}");
    assert!(speeds.iter().any(|speed| speed["layout"] == "packed"), "{packed}");
    ask(&home);
    assert_eq!(layout(&home), packed["layout"], "{packed}");
}
