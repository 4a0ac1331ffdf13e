//! Models in safetensors on the second engine: run as they are, in a worker within its sandbox.
#![cfg(all(target_os = "linux", feature = "candle"))]

#[path = "../../../samovar-candle/tests/support/published.rs"]
mod published;

use serde_json::json;

use crate::home::Home;

fn home_of(folder: &tempfile::TempDir) -> Home {
    let path = folder.path().to_str().expect("UTF-8");
    Home::new().with_config(&format!("[models.fox]\nsource = '{path}'\nengine = 'candle'\n"))
}

#[test]
fn any_number_of_commands_load_a_published_model_once() {
    let folder = published::published_decoder("LlamaForCausalLM", &json!({}));
    let home = home_of(&folder);
    for _ in 0..3 {
        let done = home.run(&["run", "fox", "Once there was", "--max-tokens", "8"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(!done.stdout.trim().is_empty(), "{done:?}");
    }
    assert_eq!(home.stats()["pool"]["loads"], 1);
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 0);
}

#[test]
fn a_published_embedder_makes_vectors_in_its_worker() {
    let folder = published::published_encoder("BertModel");
    let done = home_of(&folder).run(&["embed", "fox", "once there was a fox"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("embedding"), "{done:?}");
}
