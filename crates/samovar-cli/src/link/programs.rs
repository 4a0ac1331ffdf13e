//! What each program is told, in the form of its own settings.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{ClientProgram, Edit, FileForm, KEY_VARIABLE, LinkTarget, NO_KEY, Wanted, YOUR_KEY};

/// The name under which programs show this one.
const NAME: &str = "Samovar";
/// The same as an identifier.
const ID: &str = "samovar";

pub(super) fn wanted(program: ClientProgram, target: &LinkTarget) -> Wanted {
    let mut wanted = match program {
        ClientProgram::OpenWebui => open_webui(target),
        ClientProgram::Continue => continue_(target),
        ClientProgram::Zed => zed(target),
        ClientProgram::Codex => codex(target),
        ClientProgram::ClaudeCode => claude_code(target),
        ClientProgram::Opencode => opencode(target),
        ClientProgram::Aider => aider(target),
        ClientProgram::Langchain => langchain(target),
        ClientProgram::Litellm => litellm(target),
    };
    if target.is_tls {
        let place = authority_variable(program).unwrap_or("the system's list of authorities");
        wanted.notes.push(format!(
            "the daemon's certificate must be made for {}; {} trusts an authority of your own by {place}",
            target.server_name(),
            program.title(),
        ));
    }
    wanted
}

/// The variable that names a file with authorities that the program trusts besides those of its system, if it reads one.
const fn authority_variable(program: ClientProgram) -> Option<&'static str> {
    match program {
        ClientProgram::Continue | ClientProgram::ClaudeCode | ClientProgram::Opencode => {
            Some("NODE_EXTRA_CA_CERTS")
        }
        ClientProgram::Codex => Some("CODEX_CA_CERTIFICATE"),
        ClientProgram::OpenWebui
        | ClientProgram::Aider
        | ClientProgram::Langchain
        | ClientProgram::Litellm => Some("SSL_CERT_FILE"),
        ClientProgram::Zed => None,
    }
}

fn file(path: &str, form: FileForm, edits: Vec<Edit>) -> Wanted {
    Wanted { file: Some(PathBuf::from(path)), form, edits, text: String::new(), notes: Vec::new() }
}

/// Settings for a file that the user must name.
fn anywhere(form: FileForm, edits: Vec<Edit>) -> Wanted {
    Wanted { file: None, form, edits, text: String::new(), notes: Vec::new() }
}

fn set(path: &[&'static str], value: impl Into<Value>) -> Edit {
    Edit::Set(path.to_vec(), value.into())
}

/// A key that stands in the file itself, because the program reads no variable for it.
fn key_in_file(path: &[&'static str], target: &LinkTarget) -> Edit {
    if target.needs_key { Edit::Secret(path.to_vec(), YOUR_KEY) } else { set(path, NO_KEY) }
}

/// Adds what a person must do where the daemon asks for a key.
fn with_key_note(mut wanted: Wanted, target: &LinkTarget) -> Wanted {
    if target.needs_key {
        wanted.notes.push(format!(
            "the daemon asks for a key: `samovar key add NAME` makes one, and {KEY_VARIABLE} must hold it"
        ));
    }
    wanted
}

/// The same, where the key stands in the file itself, under this name.
fn with_own_key_note(mut wanted: Wanted, name: &str, target: &LinkTarget) -> Wanted {
    if target.needs_key {
        wanted.notes.push(format!(
            "the daemon asks for a key: `samovar key add NAME` makes one; {name} must hold it in the place of {YOUR_KEY}. A key that stands there already stays"
        ));
    }
    wanted
}

/// Variables of its container or process; once it has run, its own settings count more.
fn open_webui(target: &LinkTarget) -> Wanted {
    let mut edits = vec![
        set(&["OPENAI_API_BASE_URL"], target.openai()),
        key_in_file(&["OPENAI_API_KEY"], target),
        set(&["ENABLE_OLLAMA_API"], "false"),
        set(&["DEFAULT_MODELS"], target.chat.as_str()),
        set(&["TASK_MODEL_EXTERNAL"], target.chat.as_str()),
    ];
    if let Some(embedder) = &target.embedder {
        edits.push(set(&["RAG_EMBEDDING_ENGINE"], "openai"));
        edits.push(set(&["RAG_EMBEDDING_MODEL"], embedder.as_str()));
        edits.push(set(&["RAG_OPENAI_API_BASE_URL"], target.openai()));
        edits.push(key_in_file(&["RAG_OPENAI_API_KEY"], target));
    }
    let mut wanted = with_own_key_note(anywhere(FileForm::Env, edits), "OPENAI_API_KEY", target);
    wanted.notes.extend([
        "these are variables of Open WebUI's process or container; values that were changed on its pages count more".to_owned(),
        "from a container, 127.0.0.1 is the container: run it with --network host, or let the daemon listen for it".to_owned(),
        "users are told apart by server.client_header = \"x-openwebui-user-id\" and ENABLE_FORWARD_USER_INFO_HEADERS=true"
            .to_owned(),
    ]);
    wanted
}

fn continue_(target: &LinkTarget) -> Wanted {
    let key = target.key("${{ secrets.SAMOVAR_API_KEY }}");
    let item = |name: String, model: &str, roles: Value| {
        Edit::Item(
            "models",
            "name",
            vec![
                ("name", name.into()),
                ("provider", "openai".into()),
                ("model", model.into()),
                ("apiBase", target.openai().into()),
                ("apiKey", key.as_str().into()),
                ("roles", roles),
            ],
        )
    };
    let mut edits = vec![
        Edit::Needed("name", "Local".into()),
        Edit::Needed("version", "0.0.1".into()),
        Edit::Needed("schema", "v1".into()),
        item(format!("{NAME}: {}", target.chat), &target.chat, json!(["chat", "edit", "apply"])),
    ];
    if let Some(embedder) = &target.embedder {
        edits.push(item(format!("{NAME}: {embedder}"), embedder, json!(["embed"])));
    }
    let mut wanted = with_key_note(file(".continue/config.yaml", FileForm::Yaml, edits), target);
    if target.needs_key {
        wanted.notes.push(format!(
            "Continue reads {KEY_VARIABLE} from the file ~/.continue/.env, not from its environment"
        ));
    }
    wanted
}

fn zed(target: &LinkTarget) -> Wanted {
    let model = json!({
        "name": target.chat,
        "display_name": target.chat,
        "max_tokens": target.context_tokens,
        "capabilities": {
            "tools": target.has_tools,
            "images": false,
            "parallel_tool_calls": target.has_tools,
            "prompt_cache_key": false,
        },
    });
    let provider = ["language_models", "openai_compatible", NAME];
    let mut wanted = file(
        ".config/zed/settings.json",
        FileForm::Json,
        vec![
            set(&[provider[0], provider[1], provider[2], "api_url"], target.openai()),
            set(&[provider[0], provider[1], provider[2], "available_models"], json!([model])),
        ],
    );
    wanted.notes.push(if target.needs_key {
        format!("the daemon asks for a key: `samovar key add NAME` makes one; Zed asks for it once, or reads {KEY_VARIABLE} when it starts")
    } else {
        format!("Zed asks for a key once: write anything, or set {KEY_VARIABLE} to anything before it starts")
    });
    wanted
}

fn codex(target: &LinkTarget) -> Wanted {
    let mut edits = vec![
        set(&["model"], target.chat.as_str()),
        set(&["model_provider"], ID),
        set(&["model_context_window"], target.context_tokens),
        set(&["model_providers", ID, "name"], NAME),
        set(&["model_providers", ID, "base_url"], target.openai()),
        set(&["model_providers", ID, "wire_api"], "responses"),
    ];
    if target.needs_key {
        edits.push(set(&["model_providers", ID, "env_key"], KEY_VARIABLE));
    }
    with_key_note(file(".codex/config.toml", FileForm::Toml, edits), target)
}

/// It asks for three sizes of model by name; all of them are this one.
fn claude_code(target: &LinkTarget) -> Wanted {
    let env = |name: &'static str, value: String| set(&["env", name], value);
    let mut edits = vec![
        env("ANTHROPIC_BASE_URL", target.url()),
        key_in_file(&["env", "ANTHROPIC_AUTH_TOKEN"], target),
        env("ANTHROPIC_MODEL", target.chat.clone()),
    ];
    for name in
        ["ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"]
    {
        edits.push(env(name, target.chat.clone()));
    }
    edits.push(env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()));
    let wanted = file(".claude/settings.json", FileForm::Json, edits);
    let mut wanted = with_own_key_note(wanted, "ANTHROPIC_AUTH_TOKEN", target);
    wanted.notes.push(format!(
        "its first prompt has more than 10000 tokens; the model has {} tokens of context",
        target.context_tokens
    ));
    wanted
}

fn opencode(target: &LinkTarget) -> Wanted {
    let model = json!({
        target.chat.as_str(): {
            "name": target.chat,
            "tool_call": target.has_tools,
            "limit": { "context": target.context_tokens, "output": target.context_tokens / 2 },
        },
    });
    let edits = vec![
        set(&["$schema"], "https://opencode.ai/config.json"),
        set(&["model"], format!("{ID}/{}", target.chat)),
        set(&["provider", ID, "npm"], "@ai-sdk/openai-compatible"),
        set(&["provider", ID, "name"], NAME),
        set(&["provider", ID, "options", "baseURL"], target.openai()),
        set(&["provider", ID, "options", "apiKey"], target.key("{env:SAMOVAR_API_KEY}")),
        set(&["provider", ID, "models"], model),
    ];
    with_key_note(file(".config/opencode/opencode.json", FileForm::Json, edits), target)
}

fn aider(target: &LinkTarget) -> Wanted {
    let mut edits = vec![
        set(&["model"], format!("openai/{}", target.chat)),
        set(&["openai-api-base"], target.openai()),
        set(&["show-model-warnings"], false),
    ];
    if !target.needs_key {
        edits.push(set(&["openai-api-key"], target.key("")));
    }
    let mut wanted = file(".aider.conf.yml", FileForm::Yaml, edits);
    if target.needs_key {
        wanted.notes.push("the daemon asks for a key: AIDER_OPENAI_API_KEY must hold it".to_owned());
    }
    wanted
}

fn langchain(target: &LinkTarget) -> Wanted {
    let key = if target.needs_key {
        format!("os.environ[\"{KEY_VARIABLE}\"]")
    } else {
        format!("{:?}", target.key(""))
    };
    let import = if target.needs_key { "import os\n\n" } else { "" };
    let (url, chat) = (target.openai(), &target.chat);
    let mut text = format!(
        "{import}from langchain_openai import ChatOpenAI, OpenAIEmbeddings\n\n\
         chat = ChatOpenAI(model={chat:?}, base_url={url:?}, api_key={key})\n"
    );
    if let Some(embedder) = &target.embedder {
        // Without it, the library sends token ids of a vocabulary that is not the model's.
        _ = write!(
            text,
            "embeddings = OpenAIEmbeddings(\n    model={embedder:?}, base_url={url:?}, api_key={key}, check_embedding_ctx_length=False\n)\n",
        );
    }
    Wanted {
        file: None,
        form: FileForm::Python,
        edits: Vec::new(),
        text,
        notes: vec!["needs the package langchain-openai".to_owned()],
    }
}

fn litellm(target: &LinkTarget) -> Wanted {
    let key = target.key("os.environ/SAMOVAR_API_KEY");
    let item = |model: &str, mode: &str| {
        let params =
            json!({ "model": format!("openai/{model}"), "api_base": target.openai(), "api_key": key });
        Edit::Item(
            "model_list",
            "model_name",
            vec![
                ("model_name", model.into()),
                ("litellm_params", params),
                ("model_info", json!({ "mode": mode })),
            ],
        )
    };
    let mut edits = vec![item(&target.chat, "chat")];
    edits.extend(target.embedder.as_ref().map(|embedder| item(embedder, "embedding")));
    let mut wanted = with_key_note(anywhere(FileForm::Yaml, edits), target);
    wanted.notes.push("this is the configuration of its proxy: litellm --config config.yaml".to_owned());
    wanted
}
