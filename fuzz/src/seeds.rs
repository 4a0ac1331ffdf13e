//! Writes the sound and the malformed files of the core's corpus as seeds for `gguf_inspect`, sound adapters for
//! `gguf_adapter`, the templates of the prompt's corpus for `chat_template`, answers for `answer_reader`, sound requests
//! for `http_request`, models and an adapter for `published_model`, schemas and grammars for `schema`, and sound replies for
//! `worker_frames`.

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/published_model");
    fs::create_dir_all(&folder)?;
    for (name, model) in
        [("qwen2", qwen2()), ("llama", llama_of_pieces()), ("bert", bert()), ("adapter", adapter())]
    {
        fs::write(folder.join(name), model)?;
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
        ("tool-json", "\u{4}{\"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 5}}}"),
        ("tool-tags", "\u{e}{\"properties\": {\"a\": {\"type\": \"string\", \"pattern\": \"^a+$\"}}}"),
        (
            "tool-python",
            "\u{18}{\"properties\": {\"a\": {\"type\": \"array\", \"items\": {\"enum\": [\"b\"]}}}}",
        ),
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

/// The parts that `published_model` reads: a configuration, a tokenizer, its settings, and BF16 weights of zeros, each tensor with
/// its rows and columns; a vector has no columns.
fn published(config: &str, tokenizer: &str, settings: &str, tensors: &[(String, usize, usize)]) -> Vec<u8> {
    let (mut header, mut end) = (String::from("{"), 0);
    for (name, rows, columns) in tensors {
        let begin = end;
        let shape = if *columns == 0 { format!("{rows}") } else { format!("{rows},{columns}") };
        end += rows * (*columns).max(1) * 2;
        let comma = if begin == 0 { "" } else { "," };
        header += &format!(
            r#"{comma}"{name}":{{"dtype":"BF16","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#
        );
    }
    header.push('}');
    let weights = vec![0_u8; end];
    let parts =
        [config.as_bytes(), tokenizer.as_bytes(), settings.as_bytes(), b"", header.as_bytes(), &weights];
    parts.join(&0xff)
}

/// The tensors of a decoder of one block.
fn decoder() -> Vec<(String, usize, usize)> {
    let mut tensors =
        vec![("model.embed_tokens.weight".to_owned(), 4, 4), ("model.norm.weight".to_owned(), 4, 0)];
    for name in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push((format!("model.layers.0.{name}.weight"), 4, 0));
    }
    for name in ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"]
    {
        tensors.push((format!("model.layers.0.{name}_proj.weight"), 4, 4));
    }
    tensors
}

/// A small Qwen2 with BPE over bytes.
fn qwen2() -> Vec<u8> {
    let config = r#"{"architectures":["Qwen2ForCausalLM"],"hidden_size":4,"intermediate_size":4,"num_attention_heads":2,
        "num_hidden_layers":1,"vocab_size":4,"max_position_embeddings":8,"tie_word_embeddings":true}"#;
    let tokenizer = r#"{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
        "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
    published(config, tokenizer, r#"{"eos_token":"ab","chat_template":"{{ messages }}"}"#, &decoder())
}

/// A small Llama with SentencePiece's BPE.
fn llama_of_pieces() -> Vec<u8> {
    let config = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":4,"intermediate_size":4,"num_attention_heads":2,
        "num_hidden_layers":1,"vocab_size":4,"max_position_embeddings":8,"tie_word_embeddings":true}"#;
    let tokenizer = r#"{"added_tokens":[{"id":0,"content":"<unk>","special":true}],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},
        {"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},"decoder":{"type":"Sequence","decoders":[]},
        "model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","merges":["a b"],
        "vocab":{"<unk>":0,"a":1,"b":2,"ab":3}}}"#;
    published(config, tokenizer, r#"{"unk_token":"<unk>"}"#, &decoder())
}

/// A small BERT with WordPiece.
fn bert() -> Vec<u8> {
    let config = r#"{"architectures":["BertModel"],"hidden_size":4,"intermediate_size":4,"num_attention_heads":2,
        "num_hidden_layers":1,"vocab_size":5,"max_position_embeddings":8,"type_vocab_size":2,"hidden_act":"gelu"}"#;
    let tokenizer = r###"{"added_tokens":[{"id":0,"content":"[PAD]","special":true},{"id":1,"content":"[UNK]","special":true},
        {"id":2,"content":"[CLS]","special":true},{"id":3,"content":"[SEP]","special":true}],
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"##a":4}}}"###;
    let mut tensors: Vec<(String, usize, usize)> = [("word", 5), ("token_type", 2), ("position", 8)]
        .map(|(name, rows)| (format!("embeddings.{name}_embeddings.weight"), rows, 4))
        .to_vec();
    for (name, columns) in [
        ("embeddings.LayerNorm", 0),
        ("encoder.layer.0.attention.self.query", 4),
        ("encoder.layer.0.attention.self.key", 4),
        ("encoder.layer.0.attention.self.value", 4),
        ("encoder.layer.0.attention.output.dense", 4),
        ("encoder.layer.0.attention.output.LayerNorm", 0),
        ("encoder.layer.0.intermediate.dense", 4),
        ("encoder.layer.0.output.dense", 4),
        ("encoder.layer.0.output.LayerNorm", 0),
    ] {
        tensors.push((format!("{name}.weight"), 4, columns));
        tensors.push((format!("{name}.bias"), 4, 0));
    }
    published(config, tokenizer, r#"{"cls_token":"[CLS]","sep_token":"[SEP]"}"#, &tensors)
}

/// A small adapter of the model that the target adapts.
fn adapter() -> Vec<u8> {
    let config = r#"{"peft_type":"LORA","r":1,"lora_alpha":2,"bias":"none"}"#;
    let half = |half: &str, rows, columns| {
        (format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"), rows, columns)
    };
    published(config, "", "", &[half("A", 1, 64), half("B", 64, 1)])
}
