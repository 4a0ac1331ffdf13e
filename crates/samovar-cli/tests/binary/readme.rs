//! README's commands, typed line by line by a shell in a fresh home.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use samovar_testhub::Hub;

use crate::home::{Done, Home, MODEL_FILE, Running};
use crate::store::in_the_hubs_cache;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
/// What a test cannot type: it would install packages, or build and test itself.
const NOT_HERE: [&str; 3] = ["./dev demo", "./dev test", "cargo install --path crates/samovar-cli --locked"];
/// What the others begin with.
const KNOWN: [&str; 3] = ["samovar ", "for note in ", "curl "];
/// Where README's server listens.
const ADDRESS: &str = "127.0.0.1:7266";

#[test]
fn every_command_works_when_it_is_typed_line_by_line() {
    let hub = Hub::start_blocking();
    let model = fs_err::read(MODEL_FILE).expect("the demo model");
    hub.add_repo("Qwen/Qwen2.5-7B-Instruct-GGUF").put("qwen2.5-7b-instruct-q4_k_m.gguf", model);
    let home = Home::new().with_variable("HF_ENDPOINT", &hub.endpoint());
    for name in ["qwen2.5-7b-instruct-q4_k_m.gguf", "model.gguf"] {
        fs_err::copy(MODEL_FILE, home.path().join(name)).expect("copies");
    }
    fs_err::create_dir(home.path().join("notes")).expect("directory");
    fs_err::write(home.path().join("notes/one.txt"), "A fox met a bird.\n").expect("file");
    in_the_hubs_cache(&home);
    let mut server: Option<(Running, String)> = None;
    let mut typed = 0;
    for line in commands() {
        let told = line.as_str();
        assert!(!told.contains('#'), "an interactive zsh reads no remarks: {told}");
        if NOT_HERE.contains(&told) {
            continue;
        }
        assert!(KNOWN.iter().any(|begin| told.starts_with(begin)), "README has a new command: {told}");
        typed += 1;
        if told == "samovar serve" {
            server = Some(serve(&home, &line));
            continue;
        }
        if told.starts_with("curl ") && !has_curl() {
            println!("skipped: there is no curl to type {told}");
            continue;
        }
        let address = server.as_ref().map_or(ADDRESS, |(_, address)| address.as_str());
        let done = finish(home.typed(&line.replace(ADDRESS, address)));
        assert_eq!(done.code, 0, "{told}: {done:?}");
        assert!(!done.stderr.contains("error: ") && !done.stdout.contains("\"error\""), "{told}: {done:?}");
        if ["samovar run", "curl"].iter().any(|begin| told.starts_with(begin)) {
            assert!(!done.stdout.trim().is_empty(), "{told}: {done:?}");
        }
    }
    assert!(typed >= 8, "{typed} commands");
    let (daemon, _) = server.expect("README starts a server");
    assert_eq!(home.daemon_pid(), i32::try_from(daemon.child.id()).ok(), "it is the daemon now");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.finish().code, 0);
}

/// The commands of README's `sh` blocks, each with the lines that it goes on in.
fn commands() -> Vec<String> {
    let text = fs_err::read_to_string(README).expect("README.md");
    assert!(!text.contains("```console") && !text.contains("```bash"), "commands are in ```sh blocks");
    let mut commands: Vec<String> = Vec::new();
    let (mut is_inside, mut goes_on) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_inside = line == "```sh";
            continue;
        }
        if !is_inside || line.trim().is_empty() {
            continue;
        }
        match commands.last_mut().filter(|_| goes_on) {
            Some(command) => {
                command.push('\n');
                command.push_str(line);
            }
            None => commands.push(line.to_owned()),
        }
        goes_on = line.ends_with('\\');
    }
    commands
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// README's server on a port that is free, in the background as in a terminal of its own; gives its address.
fn serve(home: &Home, line: &str) -> (Running, String) {
    // In the shell's place, so that signals reach it.
    let child = home.typed(&format!("exec {line}")).env("SAMOVAR_SERVER_LISTEN", "127.0.0.1:0").spawn();
    let daemon = Running { child: child.expect("starts") }.greeted();
    let address = home.stats()["listen"].as_str().expect("an address").to_owned();
    (daemon, address)
}

/// Runs a command to its end, with a line for those that read one.
fn finish(mut command: Command) -> Done {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading.
    stdin.write_all(b"Hello\n").ok();
    drop(stdin);
    Running { child }.finish()
}
