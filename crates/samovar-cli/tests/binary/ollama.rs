//! Names that were created by Ollama's API, from the command line's side; and the port at which Ollama's clients look.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use samovar_testhub::Hub;
use serde_json::Value;

use crate::daemon::first_object;
use crate::home::Home;

fn listed(home: &Home) -> Vec<Value> {
    home.run(&["list", "--json"]).json()["models"].as_array().expect("models").clone()
}

#[test]
fn a_created_name_is_listed_run_shown_and_removed_and_outlives_the_daemon() {
    let home = Home::new();
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let body =
        r#"{"model":"poet","from":"demo","system":"Rhyme.","parameters":{"num_predict":3},"stream":false}"#;
    assert_eq!(home.status_of("POST", "/api/create", body), 200);
    let row = listed(&home).into_iter().find(|row| row["name"] == "poet").expect("is listed");
    assert_eq!((&row["kind"], &row["from"]), (&"created".into(), &"created from demo".into()));
    let done = home.run(&["run", "poet", "Hello"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(home.stats()["pool"]["loads"], 1, "it shares the model's instance");
    let shown = home.run(&["show", "poet", "--json"]).json();
    assert_eq!((&shown["name"], &shown["parent"]), (&"poet".into(), &"demo".into()));
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert!(listed(&home).iter().any(|row| row["name"] == "poet"), "without a daemon");
    let done = home.run(&["run", "--no-daemon", "poet", "Hello"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = home.run(&["rm", "poet"]);
    assert_eq!((done.code, done.stdout.trim()), (0, "removed the name poet"), "{done:?}");
    assert!(listed(&home).iter().all(|row| row["name"] != "poet"));
    assert_ne!(home.run(&["rm", "poet"]).code, 0);
    assert!(listed(&home).iter().any(|row| row["name"] == "demo"), "the model behind it stays");
}

#[test]
fn serve_listens_where_ollamas_clients_look() {
    let home = Home::new().with_variable("OLLAMA_HOST", "127.0.0.1:0");
    let mut serve = home.spawn(&["serve", "--json", "--listen", "127.0.0.1:0", "--as-ollama"]);
    let listening = first_object(serve.child.stdout.as_mut().expect("piped"));
    assert_ne!(listening["ollama"], listening["listen"]);
    let mut stream = TcpStream::connect(listening["ollama"].as_str().expect("address")).expect("connects");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    assert!(answer.ends_with("Ollama is running"), "{answer}");
    serve.signal(Signal::TERM);
    assert_eq!(serve.finish().code, 0);
}

#[test]
fn serve_says_that_ollama_itself_has_its_port() {
    let ollama = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = ollama.local_addr().expect("address").to_string();
    let home = Home::new().with_variable("SAMOVAR_SERVER_OLLAMA_ADDRESS", &address);
    let serve = home.spawn(&["serve", "--listen", "127.0.0.1:0"]);
    let (mut stream, _) = ollama.accept().expect("is asked");
    // All of the question is read, so that closing the connection loses nothing of the answer.
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a question");
        question.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"version\":\"0.30.1\"}").expect("answers");
    drop(stream);
    let done = serve.finish();
    assert_ne!(done.code, 0, "{done:?}");
    assert!(
        done.stderr.contains(&format!(
            "cannot listen on {address} for Ollama's clients: Ollama itself has this port"
        )),
        "{done:?}"
    );
    assert!(done.stderr.contains("hint: stop Ollama first"), "{done:?}");
}

/// Sends a pull to the owner's socket.
fn pull(home: &Home, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(home.socket()).expect("connects");
    let length = body.len();
    let request = format!(
        "POST /api/pull HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sends");
    stream
}

#[test]
fn a_pull_that_its_client_leaves_is_taken_up_and_two_at_once_are_one_download() {
    const FILE: &str = "test/big/big-Q4_K_M.gguf";
    const BODY: &str = r#"{"model":"hf.co/test/big"}"#;
    let hub = Hub::start_blocking();
    hub.add_repo("test/big").put("big-Q4_K_M.gguf", vec![7; 64 << 20]);
    hub.hold_after(FILE, 40 << 20);
    let home = Home::new().with_variable("HF_ENDPOINT", &hub.endpoint());
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let left = pull(&home, BODY);
    assert!(hub.wait_until_held(FILE));
    drop(left);
    hub.release_all();
    let before = hub.sent().of(FILE);
    let (by_command, by_api) = std::thread::scope(|scope| {
        let command = scope.spawn(|| home.run(&["pull", "test/big"]));
        let mut answer = String::new();
        pull(&home, BODY).read_to_string(&mut answer).expect("answers");
        (command.join().expect("ends"), answer)
    });
    assert_eq!(by_command.code, 0, "{by_command:?}");
    assert!(by_api.contains(r#"{"status":"success"}"#), "{by_api}");
    let again = hub.sent().of(FILE) - before;
    assert!(again < 48 << 20, "{again} bytes were sent again");
}
