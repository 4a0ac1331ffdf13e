//! Writes the sound and the malformed files of the core's corpus as seeds for `gguf_inspect`, sound adapters for
//! `gguf_adapter`, the templates of the prompt's corpus for `chat_template`, answers for `answer_reader`, sound requests
//! for `http_request`, schemas and grammars for `schema`, and sound replies for `worker_frames`.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use samovar_core::format::gguf::inspect_reader;
use samovar_core::testing::corpus;
use samovar_core::testing::gguf::{LlamaShape, llama, lora};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf_inspect");
    fs::create_dir_all(&folder)?;
    let malformed = corpus::malformed().into_iter().map(|file| (file.name, file.bytes));
    for (name, bytes) in corpus::valid().into_iter().chain(malformed) {
        fs::write(folder.join(name), bytes)?;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf_adapter");
    fs::create_dir_all(&folder)?;
    let model = llama(LlamaShape::TINY).build();
    let base = inspect_reader(Cursor::new(&model), model.len() as u64).map_err(io::Error::other)?;
    fs::write(folder.join("a-model"), &model)?;
    for rank in [1, 4] {
        fs::write(folder.join(format!("rank-{rank}")), lora(&base, rank).build())?;
    }
    let templates =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/samovar-prompt/tests/corpus/templates");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/chat_template");
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(templates)? {
        let entry = entry?;
        let template = fs::read(entry.path())?;
        fs::write(folder.join(entry.file_name()), [&template[..], b"\0Tell me a story"].concat())?;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/answer_reader");
    fs::create_dir_all(&folder)?;
    for (name, dialect, answer) in [
        ("json", 0, r#"Hm.<c>{"name": "f", "arguments": {"a": "b"}}</c>"#),
        ("thought", 0, r#"<think>so</think><c>{"arguments": "{}", "name": "f"}</c>"#),
        ("bare", 1, r#"{"name": "f", "arguments": {"b": 1}}"#),
        ("array", 2, r#"<c>[{"name": "f", "arguments": {}}, {"name": "g"}]"#),
        ("named", 4, r#"[CALL]f[ARGS]{"a": "\u00e9"}[CALL]g[ARGS]{}"#),
        ("tagged", 5, "<c><f=f><p=a>\nx\n</p><p=b>5</p></f></c>"),
        ("lines", 6, "<all><c>f\n<k>a</k>\n<v>x</v></c><c>g</c></all>"),
        ("python", 7, "<c>[f(a='x', b=[1, None])]</c>"),
        ("names", 9, "<all><f=f><p=a>x</p></f><f=f><p=b>5</p></f></all>"),
        (
            "channels",
            10,
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant to=functions.f<|message|>{}",
        ),
    ] {
        fs::write(folder.join(name), [&[dialect, 3], answer.as_bytes()].concat())?;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/http_request");
    fs::create_dir_all(&folder)?;
    let chat = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true}"#;
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chat}\r\n0\r\n\r\n",
        chat.len()
    );
    let get = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n\r\n";
    let chunks: String = chat.chars().map(|char| format!("1;x=y\r\n{char}\r\n")).collect();
    let byte_by_byte = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n{chunks}0\r\nx-end: 1\r\n\r\n"
    );
    let expecting = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{chat}",
        chat.len()
    );
    let pipelined = format!("{get}{get}GET /healthz HTTP/1.0\r\n\r\n");
    for (name, kind, rest) in [
        ("get", 0, get),
        ("chunked", 0, chunked.as_str()),
        ("byte-by-byte", 0, byte_by_byte.as_str()),
        ("expecting", 0, expecting.as_str()),
        ("pipelined", 0, pipelined.as_str()),
        ("chat", 1, chat),
        ("text", 2, r#"{"model":"demo","prompt":["a",[1,2]],"n":2,"logprobs":2,"max_tokens":2}"#),
    ] {
        fs::write(folder.join(name), [&[kind], rest.as_bytes()].concat())?;
    }
    let schemas =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/samovar-grammar/tests/schemas/real.json");
    let schemas: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fs::read(schemas)?)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/schema");
    fs::create_dir_all(&folder)?;
    for (number, schema) in schemas.values().enumerate() {
        fs::write(folder.join(format!("schema-{number}")), format!("\0{schema}"))?;
    }
    for (name, grammar) in [
        ("gbnf", "\u{1}root ::= list\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= [0-9]+ | list\n"),
        ("lark", "\u{2}start: \"a\" word\nword: /[a-z]+/ | %json { \"type\": \"integer\" }\n"),
        ("regex", "\u{3}[a-z]{1,9}(-[0-9]+)?"),
    ] {
        fs::write(folder.join(name), grammar)?;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/worker_frames");
    fs::create_dir_all(&folder)?;
    // What follows the length of a frame, and the eight numbers that most replies carry.
    const MEASURED: [u8; 8] = [0; 8];
    for (name, reply) in [
        ("progress", vec![0, 0, 0, 0, 0x3f]),
        ("loaded", [&[1_u8, 0, 0, 0][..], &MEASURED, &[1, 4, 1, 2, b'n', b'o']].concat()),
        ("failed", vec![2, 11, 2, b'n', b'o', 0, 0, 0]),
        ("token", [&[3_u8, 1, 1, 2, 1, b'x', 1, 7, 1, b'x', 0, 0, 0, 0, 0][..], &MEASURED].concat()),
        ("done", [&[3_u8, 1, 2, 3, 0, 1, 0, 1][..], &[0; 16], &MEASURED].concat()),
        ("vector", [&[3_u8, 1, 4, 5, 0, 2, 0, 2][..], &[0; 8], &MEASURED].concat()),
        ("tokens", [&[4_u8, 3, 0, 1, 2, 5, 6][..], &MEASURED].concat()),
        ("prefixes", [&[4_u8, 3, 0, 3, 1, 9, 2, 5, 6, 0, 0][..], &MEASURED].concat()),
        ("beat", [&[5_u8, 1, 1][..], &MEASURED].concat()),
    ] {
        fs::write(folder.join(name), [&[1, reply.len() as u8], &reply[..]].concat())?;
    }
    Ok(())
}
