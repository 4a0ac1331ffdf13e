//! The hub as a program: it says where it is, serves a folder, and is driven over HTTP.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test")]

use crate::client;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use client::{ask_with, get};
use samovar_core::Digest;
use serde_json::json;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_folder_is_served_and_counted_for_other_processes() {
    let folder = tempfile::tempdir().unwrap();
    let repo = folder.path().join("acme/tiny");
    fs_err::create_dir_all(repo.join("sub")).unwrap();
    fs_err::write(repo.join("model.gguf"), "GGUF and so on").unwrap();
    fs_err::write(repo.join("sub/notes.txt"), "hello\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_samovar-testhub"))
        .arg("--dir")
        .arg(folder.path())
        .args(["--repo", "acme/pattern", "--file", "p.gguf=pattern:5000", "--no-cdn"])
        .args(["--lie", r#"{"lie": {"late": {"by_ms": 1}}, "times": {"only": 1}}"#])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _program = Program(child);
    let origin = line.strip_prefix("endpoint http://").unwrap().trim().parse().unwrap();

    let tree = get(origin, "/api/models/acme/tiny/tree/main?recursive=true").json();
    assert_eq!(tree[0]["path"], "model.gguf");
    assert_eq!(tree[0]["lfs"]["oid"], json!(Digest::of_bytes(b"GGUF and so on")));
    assert_eq!(get(origin, "/acme/tiny/resolve/main/model.gguf").body, b"GGUF and so on");
    assert_eq!(get(origin, "/acme/pattern/resolve/main/p.gguf").body.len(), 5000);
    let counts = get(origin, "/_counts").json();
    assert_eq!(counts["sent"]["files"], json!({"acme/pattern/p.gguf": 5000, "acme/tiny/model.gguf": 14}));
    assert_eq!(counts["told"], json!([1]));
    assert_eq!(ask_with(origin, "POST", "/_counts", &[], "").status, 200);
    assert_eq!(get(origin, "/_counts").json()["sent"]["body_bytes"], 0);
}
