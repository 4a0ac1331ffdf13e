//! A name with an adapter, from the configuration file through the daemon and its worker to the answer.

use std::path::Path;

use samovar_core::testing::gguf::lora;
use serde_json::Value;

use crate::home::{Home, MODEL_FILE};

const CONFIG: &str = "[models.poet]\nsource = 'demo'\nadapters = ['./poet.gguf:0.5']\n[models.lost]\nsource = 'demo'\nadapters = ['lost.gguf']\n";

fn home() -> Home {
    let home = Home::new().with_config(CONFIG);
    let base = samovar_core::format::gguf::inspect(Path::new(MODEL_FILE)).expect("the demo model");
    fs_err::write(home.path().join("poet.gguf"), lora(&base, 2).build()).expect("writes");
    home
}

fn story(home: &Home, model: &str) -> Value {
    home.run(&["run", "--json", "-t", "0", "-n", "16", model, "Once upon a time"]).json()
}

#[test]
fn a_name_with_an_adapter_answers_differently_and_shares_the_model() {
    let home = home();
    let (demo, poet) = (story(&home, "demo"), story(&home, "poet"));
    assert_eq!((&poet["model"], &poet["tier"]), (&"poet".into(), &"hit".into()), "{poet}");
    assert_ne!(demo["text"], poet["text"]);
    assert_eq!(story(&home, "poet")["text"], poet["text"]);
    assert_eq!(story(&home, "demo")["text"], demo["text"]);
    assert_eq!(home.stats()["pool"]["loads"], 1);
    let show = home.run(&["show", "poet"]);
    let line = format!("{}:0.5", home.path().join("./poet.gguf").display());
    assert!(show.stdout.contains(&line), "{show:?}");
    let body = r#"{"model": "poet", "prompt": "Once", "max_tokens": 4}"#;
    assert_eq!(home.status_of("POST", "/v1/completions", body), 200);
}

#[test]
fn an_adapter_that_is_not_there_is_told_when_its_name_is_used() {
    let home = home();
    let done = home.run(&["run", "lost", "Hello"]);
    assert_eq!(done.code, 66, "{done:?}");
    assert!(done.stderr.contains("lost.gguf") && done.stderr.contains("hint:"), "{done:?}");
    assert!(!done.stderr.contains("did you mean"), "the name is not what is wrong: {done:?}");
    assert_eq!(home.run(&["run", "-n", "2", "demo", "Hello"]).code, 0);
    let list = home.run(&["list"]);
    assert!(list.stdout.contains("poet") && list.stderr.contains("lost cannot be used"), "{list:?}");
    let wrong = Home::new().with_config("[models.a]\nsource = 'demo'\nadapters = ['']\n").run(&["config"]);
    assert!(wrong.stderr.contains("path:scale") && wrong.stderr.contains("samovar.toml:3"), "{wrong:?}");
}
