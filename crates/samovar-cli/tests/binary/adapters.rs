//! A name with an adapter, from the configuration file through the daemon and its worker to the answer.

use std::path::Path;

use samovar_core::testing::gguf::lora;
use serde_json::{Map, Value, json};

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

/// Writes an adapter of the demo model's queries as PEFT does, with what its settings say besides.
fn publish(folder: &Path, more: &Value) {
    const RANK: usize = 2;
    const WIDTH: usize = 256;
    let (mut header, mut data, mut seed) = (Map::new(), Vec::new(), 7_u32);
    for block in 0..4 {
        for (half, shape) in [("A", [RANK, WIDTH]), ("B", [WIDTH, RANK])] {
            let begin = data.len();
            for _ in 0..RANK * WIDTH {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                data.extend((f32::from((seed >> 16) as u16) / 65_536.0 - 0.5).to_le_bytes());
            }
            let name = format!("base_model.model.model.layers.{block}.self_attn.q_proj.lora_{half}.weight");
            let place = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
            header.insert(name, place);
        }
    }
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let mut said = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "bias": "none"});
    said.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    fs_err::create_dir_all(folder).expect("a folder");
    fs_err::write(folder.join("adapter_config.json"), said.to_string()).expect("writes");
    fs_err::write(folder.join("adapter_model.safetensors"), bytes).expect("writes");
}

#[test]
fn a_folder_with_an_adapter_is_prepared_in_a_worker_and_attached() {
    let config = "[models.poet]\nsource = 'demo'\nadapters = ['poet']\n[models.odd]\nsource = 'demo'\nadapters = ['odd']\n";
    let home = Home::new().with_config(config);
    publish(&home.path().join("poet"), &json!({}));
    publish(&home.path().join("odd"), &json!({"use_dora": true}));
    let (demo, poet) = (story(&home, "demo"), story(&home, "poet"));
    assert_ne!(demo["text"], poet["text"]);
    assert_eq!(story(&home, "poet")["text"], poet["text"]);
    assert_eq!(home.stats()["pool"]["loads"], 1);
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 1);
    let odd = home.run(&["run", "odd", "Hello"]);
    assert_ne!(odd.code, 0, "{odd:?}");
    assert!(odd.stderr.contains("DoRA") && odd.stderr.contains("merge_and_unload"), "{odd:?}");
    let usage = home.run(&["--json", "df"]).json();
    assert_eq!((&usage["prepared"], &usage["tmp_bytes"]), (&1.into(), &0.into()));
}
