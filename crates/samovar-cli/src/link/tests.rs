//! What each program is told, as files that can be read again.

use serde_json::json;

use super::*;
use crate::migrate::yaml;

fn target() -> LinkTarget {
    LinkTarget {
        address: "0.0.0.0:7266".parse().expect("an address"),
        host: None,
        is_tls: false,
        certificate: None,
        chat: "org/writer:Q4_K_M".to_owned(),
        context_tokens: 8192,
        has_tools: true,
        embedder: Some("embedder".to_owned()),
        needs_key: false,
    }
}

fn text(program: ClientProgram) -> String {
    wanted(program, &target()).applied("").expect("a new file")
}

#[test]
fn every_program_is_told_the_address_and_the_model() {
    for program in ClientProgram::value_variants() {
        let text = text(*program);
        assert!(text.contains("http://127.0.0.1:7266"), "{program:?}: {text}");
        assert!(text.contains("org/writer:Q4_K_M"), "{program:?}: {text}");
        let again = wanted(*program, &target()).applied(&text).expect("the same file");
        assert_eq!(again, text, "{program:?}");
        assert!(!check::asks(*program, &target()).is_empty(), "{program:?}");
        assert!(!program.word().is_empty() && !program.title().is_empty());
    }
}

#[test]
fn files_have_the_shape_that_programs_read() {
    let json = |program| serde_json::from_str::<Value>(&text(program)).expect("JSON");
    let zed = &json(ClientProgram::Zed)["language_models"]["openai_compatible"]["Samovar"];
    assert_eq!(zed["api_url"], "http://127.0.0.1:7266/v1");
    assert_eq!(zed["available_models"][0]["max_tokens"], 8192);
    let claude = &json(ClientProgram::ClaudeCode)["env"];
    assert_eq!(claude["ANTHROPIC_BASE_URL"], "http://127.0.0.1:7266");
    assert_eq!(claude["ANTHROPIC_DEFAULT_HAIKU_MODEL"], "org/writer:Q4_K_M");
    let opencode = json(ClientProgram::Opencode);
    assert_eq!(opencode["model"], "samovar/org/writer:Q4_K_M");
    assert_eq!(opencode["provider"]["samovar"]["models"]["org/writer:Q4_K_M"]["limit"]["context"], 8192);
    let codex: toml_edit::DocumentMut = text(ClientProgram::Codex).parse().expect("TOML");
    assert_eq!(codex["model_provider"].as_str(), Some("samovar"));
    assert_eq!(codex["model_providers"]["samovar"]["wire_api"].as_str(), Some("responses"));
    let yaml = |program| yaml::parse(&text(program)).expect("YAML");
    let models = &yaml(ClientProgram::Continue)["models"];
    assert_eq!(models[0]["roles"], json!(["embed"]), "the latest stands first");
    assert_eq!(models[1]["apiBase"], "http://127.0.0.1:7266/v1");
    assert_eq!(yaml(ClientProgram::Aider)["model"], "openai/org/writer:Q4_K_M");
    assert_eq!(
        yaml(ClientProgram::Litellm)["model_list"][1]["litellm_params"]["model"],
        "openai/org/writer:Q4_K_M"
    );
    assert!(text(ClientProgram::OpenWebui).contains("RAG_EMBEDDING_MODEL=embedder\n"));
    assert!(text(ClientProgram::Langchain).contains("check_embedding_ctx_length=False"));
}

#[test]
fn no_key_is_ever_written_where_the_daemon_asks_for_one() {
    let target = LinkTarget { needs_key: true, ..target() };
    for program in ClientProgram::value_variants() {
        let text = wanted(*program, &target).applied("").expect("a new file");
        let stand_in = ["SAMOVAR_API_KEY", "YOUR_KEY"].iter().any(|word| text.contains(word));
        let notes = wanted(*program, &target).notes.join(" ");
        assert!(stand_in || notes.contains("API_KEY"), "{program:?}: {text}");
    }
}

#[test]
fn a_response_that_is_cut_at_its_length_is_one_as_well() {
    let asked = check::asks(ClientProgram::Codex, &target());
    assert_eq!(asked[0].awaits, ["response.completed", "response.incomplete"]);
}

#[test]
fn a_key_that_a_file_has_stays() {
    let asking = LinkTarget { needs_key: true, ..target() };
    for (program, name) in
        [(ClientProgram::ClaudeCode, "ANTHROPIC_AUTH_TOKEN"), (ClientProgram::OpenWebui, "OPENAI_API_KEY")]
    {
        let open = text(program);
        let stand_in = wanted(program, &asking).applied(&open).expect("valid");
        assert!(open.contains(NO_KEY) && stand_in.contains(YOUR_KEY), "{stand_in}");
        let mine = stand_in.replace(YOUR_KEY, "sk-mine");
        assert_eq!(wanted(program, &asking).applied(&mine).expect("valid"), mine);
        let notes = wanted(program, &asking).notes.join(" ");
        assert!(notes.contains(name) && notes.contains("samovar key add NAME"), "{notes}");
        let again = wanted(program, &target()).applied(&mine).expect("valid");
        assert!(!again.contains("sk-mine"), "a daemon without keys gets none: {again}");
    }
    let secret = Edit::Secret(vec!["env", "A"], YOUR_KEY);
    let other = jsonc::apply("{\"env\": {\"A\": {}}}", &[secret]).expect("valid");
    assert_eq!(other, "{\"env\": {\"A\": {}}}");
}

#[test]
fn a_daemon_with_tls_is_asked_by_the_name_of_its_certificate() {
    let named =
        LinkTarget { host: Some("models.example".to_owned()), is_tls: true, needs_key: true, ..target() };
    assert_eq!(named.openai(), "https://models.example:7266/v1");
    assert_eq!(LinkTarget { is_tls: true, ..target() }.url(), "https://127.0.0.1:7266");
    let six = "[::]:1".parse().expect("an address");
    let six = LinkTarget { address: six, is_tls: true, ..target() };
    assert_eq!((six.url().as_str(), six.server_name().as_str()), ("https://[::1]:1", "::1"));
    for program in ClientProgram::value_variants() {
        let wanted = wanted(*program, &named);
        let text = wanted.applied("").expect("a new file");
        assert!(text.contains("https://models.example:7266") && !text.contains("http://"), "{text}");
        assert!(wanted.notes.join(" ").contains("made for models.example"), "{program:?}");
    }
}

#[test]
fn what_codex_has_stays() {
    let before = "# mine\nmodel = \"gpt-5\" # big\n\n[mcp_servers.x]\ncommand = \"y\"\n";
    let after = wanted(ClientProgram::Codex, &target()).applied(before).expect("valid");
    assert!(after.starts_with("# mine\nmodel = \"org/writer:Q4_K_M\" # big\n"), "{after}");
    assert!(
        after.contains("[mcp_servers.x]\ncommand = \"y\"\n") && after.contains("[model_providers.samovar]\n")
    );
    assert!(wanted(ClientProgram::Codex, &target()).applied("model = [\n").is_err());
    assert!(wanted(ClientProgram::Codex, &target()).applied("model_providers = 1\n").is_err());
}
