//! The catalogue of mistakes: what people mistype in commands, settings, names and requests, with the exit code, the message
//! and the hint that they get. `mistakes.txt` is read by a person's eye; `SAMOVAR_TEST_BLESS=1` writes it anew.
#![allow(clippy::disallowed_methods, reason = "a variable of the tests alone")]

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Done, Home};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/binary/mistakes.txt");
/// Words of libraries and of the system that no user should see.
const NOT_OURS: [&str; 8] = [
    "(os error",
    "digit found in string",
    "failed to query",
    "failed to open file",
    "use '--",
    "For more information",
    "panicked",
    "called `",
];

/// Commands that need no daemon and start none.
const COMMANDS: &[&[&str]] = &[
    &["rnu", "x"],
    &["Tell me a story about a fox"],
    &["help", "rnu"],
    &["run", "--temprature", "1", "x"],
    &["run", "-t", "9", "x"],
    &["run", "-t", "warm", "x"],
    &["run", "-t", "-1", "x"],
    &["run", "-n", "abc", "x"],
    &["run", "-n", "-1", "x"],
    &["run", "-n", "0", "x"],
    &["run", "-n"],
    &["run", "--top-p", "0", "x"],
    &["run", "--top-k", "1.5", "x"],
    &["run", "--seed", "now", "x"],
    &["run", "--timeout", "soon", "x"],
    &["run", "--timeout", "-5", "x"],
    &["run", "--keep-alive", "forever", "x"],
    &["run", "--context", "4", "--no-daemon", "x"],
    &["run", "--context", "many", "x"],
    &["run", "--raw", "-s", "be brief", "x"],
    &["run", "--raw", "--think", "off", "x"],
    &["run", "--think", "hard", "x"],
    &["run", "--thinking-budget", "-1", "x"],
    &["run", "--schema", "a.json", "--regex", "a+", "x"],
    &["run", "--schema", "none.json", "x"],
    &["run", "--schema", "text.gguf", "x"],
    &["run", "--schema", "-"],
    &["run", "--grammar", "weights", "x"],
    &["run", "--grammar", "none.lark", "x"],
    &["run", ""],
    &["run", "Tell me", "a story"],
    &["run", "What's", "up"],
    &["run", "-5 apples"],
    &["run", "~/x.gguf", "Hello"],
    &["run", "ftp://host/x.gguf", "Hello"],
    &["run", "https://huggingface.co/models", "Hello"],
    &["run", "hf.co/org", "Hello"],
    &["run", "hf://org", "Hello"],
    &["run", "https://host", "Hello"],
    &["run", "https://user:secret@host/x.gguf", "Hello"],
    &["run", "https://host/x.gguf#md5=abc", "Hello"],
    &["run", "models/big/x", "Hello"],
    &["run", "org/name:", "Hello"],
    &["run", "weights", "Hello"],
    &["chat", "--modle", "demo"],
    &["embed"],
    &["embed", "demo"],
    &["embed", "demo", ""],
    &["embed", "demo", "--dimensions", "0", "x"],
    &["embed", "demo", "--query", "--document", "x"],
    &["embed", "demo", "--truncate=middle", "x"],
    &["embed", "demo", "--skip", "few", "x"],
    &["embed", "demo", "--format", "csv", "x"],
    &["embed", "demo", "--file", "none.txt"],
    &["embed", "demo", "--file", "folder.gguf"],
    &["embed", "demo", "--file", "weights", "x"],
    &["embed", "demo", "--file", "weights", "--input", "jsonl"],
    &["rerank", "demo"],
    &["rerank", "demo", ""],
    &["rerank", "demo", "a query"],
    &["rerank", "demo", "a query", "--top", "0"],
    &["tokenize"],
    &["tokenize", "demo", "--count", "--pieces", "x"],
    &["serve", "--port", "70000"],
    &["serve", "--port", "-1"],
    &["serve", "--port", "1", "--listen", "127.0.0.1:1"],
    &["serve", "--listen", "host.example:7266"],
    &["serve", "--listen", "*:7266"],
    &["serve", "--budget", "lots"],
    &["serve", "--budget", "150%"],
    &["serve", "--idle-exit", "never"],
    &["pull"],
    &["pull", "nobody"],
    &["pull", "qwen2.5:7b"],
    &["pull", "./model.gguf"],
    &["pull", "org/name/x.safetensors"],
    &["pull", "org/name"],
    &["rm"],
    &["rm", "nobody"],
    &["rm", "org/name"],
    &["rm", "./x.gguf"],
    &["rm", "--all", "demo"],
    &["show"],
    &["show", "nobody"],
    &["show", "dmo"],
    &["show", "./none.gguf"],
    &["show", "./text.gguf"],
    &["stop"],
    &["stop", "--all", "demo"],
    &["why"],
    &["why", "demo"],
    &["ps", "demo"],
    &["list", "demo"],
    &["stats", "--jsn"],
    &["usage", "--since", "soon"],
    &["usage", "--by", "week"],
    &["config", "--templat"],
    &["config", "--template", "--reload"],
    &["doctor", "--fast"],
    &["gc", "--max-size", "big"],
    &["gc", "--max-age", "never"],
    &["verify", "nobody"],
    &["adopt", "--from", "/nowhere"],
    &["migrate"],
    &["migrate", "olama"],
    &["migrate", "ollama"],
    &["migrate", "ollama", "--from", "folder.gguf"],
    &["migrate", "llama-swap"],
    &["migrate", "llama-swap", "--from", "text.gguf"],
    &["migrate", "llama-server"],
    &["migrate", "llama-server", "--from", "empty.gguf"],
    &["migrate", "lmstudio", "--from", "/nowhere"],
    &["link", "codx"],
    &["link", "--write"],
    &["link", "codex", "--write", "--check"],
    &["link", "open-webui", "--write"],
    &["link", "langchain", "--write"],
    &["link", "zed", "--write", "--file", "text.gguf"],
    &["export", "demo"],
    &["import"],
    &["import", "/nowhere"],
    &["completions"],
    &["completions", "basch"],
    &["plan"],
    &["plan", "--trace", "none.log"],
    &["plan", "--trace", "none.log", "--policy", "best"],
    &["plan", "--trace", "none.log", "--budget", "much"],
    &["shutdown", "--grace", "later"],
    &["warm"],
    &["pin"],
    &["ps", "--config", "/nowhere/samovar.toml"],
    &["ps", "--socket", ""],
];

/// Commands that ask a daemon, which is offline.
const QUESTIONS: &[&[&str]] = &[
    &["run", "nobody", "Hello"],
    &["run", "dmo", "Hello"],
    &["run", "qwen2.5:7b", "Hello"],
    &["run", "Tell", "me", "a", "story"],
    &["run", "./none.gguf", "Hello"],
    &["run", "./none.gguf", "tell", "me", "a", "story"],
    &["run", "./text.gguf", "Hello"],
    &["run", "./empty.gguf", "Hello"],
    &["run", "./folder.gguf", "Hello"],
    &["run", "org/name", "Hello"],
    &["run", "org/name:Q4_K_M", "Hello"],
    &["run", "--json", "nobody", "Hello"],
    &["chat", "nobody"],
    &["embed", "demo", "A text"],
    &["embed", "nobody", "A text"],
    &["rerank", "demo", "A query", "A document"],
    &["tokenize", "nobody", "A text"],
    &["tokenize", "demo", "--detokenize", "one"],
    &["tokenize", "demo", "--detokenize", "4000000000"],
    &["warm", "nobody"],
    &["warm", "./none.gguf"],
    &["stop", "nobody"],
    &["why", "nobody"],
    &["prepare", "nobody"],
    &["pack", "nobody"],
    &["pin", "nobody"],
];

/// Lines of a chat.
const LINES: &[&str] = &[
    "/foo",
    "/stat",
    "/lod c.json",
    "/thought",
    "/save",
    "/load",
    "/save none/c.md",
    "/load none.json",
    "/load text.gguf",
    "/model nobody",
    "/model ./none.gguf",
];

/// Configuration files.
const SETTINGS: &[&str] = &[
    "budget = 1",
    "log = 'debug'",
    "default_modle = 'x'",
    "[pool\n",
    "[pol]\nx = 1",
    "[pool]\nbudget_byte = '1GB'",
    "[pool]\nbudget_bytes = 'lots'",
    "[pool]\nbudget_bytes = '150%'",
    "[pool]\nqueue_total = -1",
    "[pool]\nsoft_ratio = 85",
    "[pool]\neviction_policy = 'fifo'",
    "[pool]\nclient_weights = ['alice']",
    "[pool]\nprobe_idle = 'often'",
    "[server]\nlisten = 'everywhere'",
    "[server]\nlisten = 7266.5",
    "[server]\nsocket = '~/s'",
    "[cache]\nenabled = false",
    "[cache]\npreload_models = 'demo'",
    "[sources]\nhub_token = 'x'",
    "[sources]\nhub_endpoint = 'h.example'",
    "[sources]\noffline = 'yes'",
    "[fleet]\nredis = 1",
    "[defaults]\ncontext_tokens = 4",
    "[defaults]\nlayout = 'fast'",
    "[defaults]\nspeculation = 'on'",
    "[defaults]\nsource = 'demo'",
    "[models]\ntiny = 'x'",
    "[models.a]\nslots = 2",
    "[models.a]\nsorce = 'demo'",
    "[models.a]\nsource = 'other'",
    "[models.a]\nsource = 'ftp://h/x'",
    "[models.a]\nsource = 'demo'\nneeds = 'b'",
    "[models.a]\nsource = 'demo'\nchat_template = 'gema'",
    "[models.a]\nsource = 'demo'\nadapters = ['']",
    "[models.a]\nsource = 'demo'\nthinking = 'hard'",
    "[models.a]\nsource = 'demo'\npooling = 'max'",
    "[models.a]\nsource = 'demo'\nquery_prompt = ''",
    "[models.a]\nsource = 'demo'\ndraft = ''",
    "[models.a]\nsource = 'demo'\ntemperature = 9",
    "[models.a]\nsource = 'demo'\nstop = '###'",
    "[models.a]\nsource = 'demo'\nmax_tokens = 0",
    "[defaults]\npooling = 'mean'",
    "[models.'a/b/c']\nsource = 'demo'",
    "[models.qwen2.5-7b]\nsource = 'demo'",
    "[models.qwen:7b]\nsource = 'demo'",
];

/// Variables of the environment.
const VARIABLES: &[(&str, &str)] = &[
    ("SAMOVAR_POOL_QUEUE_TOTAL", "many"),
    ("SAMOVAR_POOL_SANDBOX", "maybe"),
    ("SAMOVAR_SERVER_LISTEN", "everywhere"),
    ("SAMOVAR_DEFAULTS_SLOTS", "0"),
    ("SAMOVAR_POOL_BUDGT_BYTES", "1GB"),
    ("SAMOVAR_NONSENSE", "1"),
];

/// Requests over the network: method, path, body.
const REQUESTS: &[(&str, &str, &str)] = &[
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "qwen2.5:7b", "messages": [{"role": "user", "content": "hi"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "./x.gguf", "messages": [{"role": "user", "content": "hi"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "org/name", "messages": [{"role": "user", "content": "hi"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "my model", "messages": [{"role": "user", "content": "hi"}]}"#,
    ),
    ("POST", "/v1/chat/completions", r#"{"messages": [{"role": "user", "content": "hi"}]}"#),
    ("POST", "/v1/chat/completions", r#"{"model": "demo"}"#),
    ("POST", "/v1/chat/completions", r#"{"model": "demo", "messages": []}"#),
    ("POST", "/v1/chat/completions", r#"{"model": "demo", "messages": "hi"}"#),
    ("POST", "/v1/chat/completions", r#"{"model": "demo", "messages": [{"content": "hi"}]}"#),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "response_format": {"type": "yaml"}}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "response_format": {"type": "json_object"}, "grammar": "root ::= \"x\""}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "functions": [{"name": "f"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "web_search"}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "get weather"}}]}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "tool_choice": "required"}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "enormous"}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "thinking_budget_tokens": -2}"#,
    ),
    (
        "POST",
        "/v1/chat/completions",
        r#"{"model": "demo", "messages": [{"role": "tool", "tool_call_id": "call_1", "content": "hi"}]}"#,
    ),
    ("POST", "/v1/chat/completions", "{"),
    ("POST", "/v1/chat/completions", "[]"),
    ("POST", "/v1/completions", r#"{"model": "demo"}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "temperature": 9}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "top_p": 0}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "max_tokens": "many"}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "max_tokens": -7}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "n": 0}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "n": 100000}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "best_of": 3}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "stop": 5}"#),
    (
        "POST",
        "/v1/completions",
        r#"{"model": "demo", "prompt": "x", "grammar": {"type": "yacc", "value": "x"}}"#,
    ),
    (
        "POST",
        "/v1/completions",
        r#"{"model": "demo", "prompt": "x", "response_format": {"type": "json_object"}}"#,
    ),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "store": true}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "timeout": "soon"}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "keep_alive": "forever"}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "context_tokens": 0}"#),
    ("POST", "/v1/completions", r#"{"model": "demo", "prompt": "x", "context_tokens": 9000}"#),
    ("GET", "/v1/models/nobody", ""),
    ("GET", "/v1/chat/completions", ""),
    ("POST", "/v1/embeddings", "{}"),
    ("POST", "/chat/completions", "{}"),
    ("POST", "/api/chat", "{}"),
    ("POST", "/admin/unload", r#"{"all": true}"#),
];

#[test]
fn every_mistake_gets_the_message_and_the_hint_of_the_catalogue() {
    let mut said = String::new();
    commands(&mut said);
    settings(&mut said);
    questions(&mut said);
    requests(&mut said);
    for line in said.lines() {
        for words in NOT_OURS {
            assert!(!line.contains(words), "{words:?} is not ours to say: {line}");
        }
    }
    let count = said.matches("\n\n").count();
    assert!(count >= 60, "{count} mistakes");
    if std::env::var_os("SAMOVAR_TEST_BLESS").is_some_and(|bless| bless == "1") {
        fs_err::write(CATALOGUE, &said).expect("the catalogue");
        return;
    }
    let known = fs_err::read_to_string(CATALOGUE).unwrap_or_default();
    let differing = said.split("\n\n").zip(known.split("\n\n")).find(|(said, known)| said != known);
    if let Some((said, known)) = differing {
        panic!("the catalogue says\n{known}\n\nand now it is\n{said}\n\nSAMOVAR_TEST_BLESS=1 writes it anew");
    }
    assert!(said == known, "the catalogue has more or fewer mistakes; SAMOVAR_TEST_BLESS=1 writes it anew");
}

fn furnished(home: Home) -> Home {
    let write = |name: &str, text: &str| fs_err::write(home.path().join(name), text).expect("file");
    write("weights", "a file without an ending");
    write("text.gguf", "this is not a model at all, it only has the name of one");
    write("empty.gguf", "");
    fs_err::create_dir(home.path().join("folder.gguf")).expect("directory");
    home.with_variable("SAMOVAR_SOURCES_OFFLINE", "1")
}

fn commands(said: &mut String) {
    let home = furnished(Home::new());
    for line in COMMANDS {
        note(said, &home, &shown(line), &home.run(line));
    }
    assert!(home.daemon_pid().is_none(), "none of them starts a daemon");
    for (name, value) in VARIABLES {
        let home = Home::new().with_variable(name, value);
        let done = home.run(&["config"]);
        // What is in force is not what is looked at here.
        let done = Done { stdout: String::new(), ..done };
        note(said, &home, &format!("{name}={value} samovar config"), &done);
    }
}

fn settings(said: &mut String) {
    for text in SETTINGS {
        let home = Home::new().with_config(text);
        let done = home.run(&["config"]);
        assert_eq!((done.code, done.stdout.as_str()), (64, ""), "{text}: {done:?}");
        note(
            said,
            &home,
            &format!("samovar config    # samovar.toml: {}", text.trim_end().replace('\n', " ⏎ ")),
            &done,
        );
    }
}

fn questions(said: &mut String) {
    let home = furnished(Home::new());
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    for line in QUESTIONS {
        note(said, &home, &shown(line), &home.run(line));
    }
    for line in LINES {
        let done = home.run_with_input(&["chat"], format!("{line}\n").as_bytes());
        note(said, &home, &format!("samovar chat    # {line}"), &done);
    }
}

fn requests(said: &mut String) {
    let home = furnished(Home::new());
    let (daemon, address) = home.serve();
    for (method, path, body) in REQUESTS {
        let answer = ask(&address, method, path, body);
        let (head, text) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).expect("a status");
        let object: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {answer}"));
        // The owner's routes answer with the failure itself.
        let error = if object["error"].is_object() { &object["error"] } else { &object };
        let code = error["code"].as_str().or(error["kind"].as_str()).unwrap_or("-");
        // Those of Ollama's API have nothing but a text.
        let message = error["message"].as_str().or(object["error"].as_str());
        let message = same(&home, message.unwrap_or("-"));
        writeln!(said, "> {method} {path} {body}\n{status} {code}: {message}\n").expect("text");
    }
    daemon.signal(Signal::TERM);
    daemon.finish();
}

fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}

/// A command line as it is typed.
fn shown(line: &[&str]) -> String {
    let quoted = |word: &&str| {
        let needs_quotes = word.is_empty() || word.contains([' ', '\'', '*', '~']);
        if needs_quotes { format!("{word:?}") } else { (*word).to_owned() }
    };
    format!("samovar {}", line.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

fn note(said: &mut String, home: &Home, typed: &str, done: &Done) {
    let printed = same(home, &format!("{}{}", done.stdout, done.stderr));
    writeln!(said, "$ {typed}\nexit {}\n{}\n", done.code, printed.trim_end()).expect("text");
}

/// The text without what differs from one time to the next: places, processes, the version.
fn same(home: &Home, text: &str) -> String {
    let place = home.path().to_str().expect("UTF-8");
    let real = fs_err::canonicalize(home.path()).expect("a home");
    // The real place first: the other may be a part of it.
    let text = text.replace(real.to_str().expect("UTF-8"), "HOME").replace(place, "HOME");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut parts = text.split("process ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = if rest.len() < part.len() { "PID" } else { "" };
        format!("{text}process {number}{rest}")
    })
}
