//! `cargo x clients`: the official clients of `OpenAI`'s, Anthropic's and Ollama's APIs, frameworks and agents (`LangChain`, `litellm`,
//! `openai-agents`, `llm`, Codex, Claude Code) against the built server with real models, and `OpenAI`'s Python client's own tests of what is
//! served; then schemathesis with the daemon's own `OpenAPI` document. What cannot be had here is said, and its part is skipped.
//!
//! ```text
//!   brought   Python packages, npm packages, a model, the Python client's source: once, below target/test-tools
//!   checks    tools/clients/*.py, *.mjs, and the client's own tests less those in tools/clients/openai_python.txt
//! ```
//!
//! Every check runs, also after one that failed.

mod brought;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bench::stream;
use crate::bench::subject::Server;
use crate::process;
use crate::tree::Tree;

/// The name by which the clients' own tests call the model that makes vectors.
const EMBEDDER: &str = "text-embedding-3-small";
/// The name of the model that writes text.
const WRITER: &str = "smollm2";
/// The names by which the clients' own tests call it. Their answers are as long as the context lets them be.
const OTHER_NAMES_OF_WRITER: [&str; 2] = ["gpt-6-astra", "gpt-3.5-turbo-instruct"];
const OTHER_NAMES_CONTEXT_TOKENS: u32 = 256;
/// The name of the model that agents ask: small and fast, with a context that holds their prompts.
const AGENT: &str = "agent";
const AGENT_CONTEXT_TOKENS: u32 = 65_536;
/// The Python client's own tests.
const EMBEDDER_TESTS: [&str; 1] = ["tests/api_resources/test_embeddings.py"];
const WRITER_TESTS: [&str; 2] =
    ["tests/api_resources/chat/test_completions.py", "tests/api_resources/test_completions.py"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder with the program, laid out as cargo's `target/release`; without it, it is built
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs all of them.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let tools = tree.target()?.join("test-tools");
    let (embedder, reference) = (tools.join("minilm/minilm-f32.gguf"), tools.join("minilm/reference.json"));
    for file in [&embedder, &reference] {
        ensure!(file.is_file(), "{} is missing: run `./dev test` once, which brings it", file.display());
    }
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => tree.build()?,
    };
    let python = brought::python(tree.root(), &tools)?.to_string_lossy().into_owned();
    let writer = brought::text_model(&tools, &python)
        .inspect_err(|error| println!("skipped: no real model that writes text: {error:#}"))
        .ok();
    let home = tempfile::tempdir()?;
    let agent = home.path().join("agent.gguf");
    brought::agent_model(tree.root(), &agent, AGENT_CONTEXT_TOKENS)?;
    fs_err::write(home.path().join("samovar.toml"), settings(&embedder, writer.as_deref(), &agent)?)?;
    let server = serve(&programs.join("samovar"), home.path())?;
    let mut clients = Clients { tree, url: &server.url, python, failed: Vec::new() };
    let reference = reference.to_string_lossy();
    let socket = home.path().join("run/samovar.sock").to_string_lossy().into_owned();

    clients.python("embeddings.py", &[&reference]);
    let mut own_tests = EMBEDDER_TESTS.to_vec();
    if let Some(file) = &writer {
        for script in [
            "answers.py",
            "answers_langchain.py",
            "answers_litellm.py",
            "anthropic_client.py",
            "openai_agents.py",
            "llm_program.py",
        ] {
            clients.python(script, &[WRITER]);
        }
        clients.python("ollama_client.py", &[&socket, WRITER, EMBEDDER, &file.to_string_lossy()]);
        clients.python("ollama_langchain.py", &[WRITER, EMBEDDER]);
        own_tests.extend(WRITER_TESTS);
    }
    let outcome = clients.own_tests(&tools, &own_tests);
    clients.note("the Python client's own tests", outcome);
    match brought::node(&tools)? {
        Some(folder) => {
            clients.node(&folder, "embeddings.mjs", &[&reference]);
            if writer.is_some() {
                clients.node(&folder, "answers.mjs", &[WRITER]);
                clients.node(&folder, "ollama_client.mjs", &[&socket, WRITER, EMBEDDER]);
            }
        }
        None => println!("skipped: no npm, so no client for Node.js was asked"),
    }
    match brought::agents(&tools) {
        Ok(Some(programs)) => {
            for (script, program) in [("codex.py", "codex"), ("claude_code.py", "claude")] {
                clients.python(script, &[AGENT, &programs.join(program).to_string_lossy()]);
            }
        }
        Ok(None) => println!("skipped: no npm, so no agent was asked"),
        Err(error) => println!("skipped: no agents: {error:#}"),
    }
    // Last, since it empties the cache and the disk.
    clients.python("openapi_schemathesis.py", &[&socket]);
    ensure!(clients.failed.is_empty(), "failed: {}", clients.failed.join(", "));
    Ok(())
}

/// The server and what was found out about it.
struct Clients<'a> {
    tree: &'a Tree,
    url: &'a str,
    python: String,
    failed: Vec<String>,
}

impl Clients<'_> {
    /// Runs a program of `tools/clients` by Python.
    fn python(&mut self, script: &str, arguments: &[&str]) {
        let path = format!("tools/clients/{script}");
        let arguments = [&[path.as_str(), self.url][..], arguments].concat();
        let outcome = process::run(self.tree.root(), &self.python, &arguments);
        self.note(script, outcome);
    }

    /// Runs a program of `tools/clients` by Node.js.
    fn node(&mut self, folder: &Path, script: &str, arguments: &[&str]) {
        // Modules are found from where the program lies.
        let from = self.tree.root().join("tools/clients").join(script);
        let outcome = fs_err::copy(from, folder.join(script))
            .map_err(Into::into)
            .and_then(|_| process::run(folder, "node", &[&[script, self.url][..], arguments].concat()));
        self.note(script, outcome);
    }

    /// The Python client's own tests in these files; of those that cannot pass it is made sure that they fail.
    fn own_tests(&self, tools: &Path, files: &[&str]) -> Result<()> {
        let source = brought::openai_source(tools, &self.python)?;
        let folder = self.tree.root().join("tools/clients");
        let known = format!("OWN_TESTS={}", folder.join("openai_python.txt").display());
        let (plugin, base_url) =
            (format!("PYTHONPATH={}", folder.display()), format!("TEST_API_BASE_URL={}/v1", self.url));
        let environment = [base_url.as_str(), &known, &plugin, &self.python];
        // Without its own options: they need another plugin, and take every warning for an error.
        let pytest = ["-m", "pytest", "-q", "-p", "own_tests", "-o", "addopts=", "-W", "default"];
        process::run(&source, "env", &[&environment[..], &pytest, files].concat())
    }

    /// Takes down how a check came out.
    fn note(&mut self, name: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            println!("FAILED: {name}: {error:#}");
            self.failed.push(name.to_owned());
        }
    }
}

/// `samovar.toml` with the models under the names that the clients use.
fn settings(embedder: &Path, writer: Option<&Path>, agent: &Path) -> Result<String> {
    let mut settings = format!("[models.\"{EMBEDDER}\"]\nsource = \"{}\"\n", embedder.display());
    writeln!(settings, "[models.\"{AGENT}\"]\nsource = \"{}\"", agent.display())?;
    writeln!(settings, "context_tokens = {AGENT_CONTEXT_TOKENS}")?;
    if let Some(file) = writer {
        writeln!(settings, "[models.\"{WRITER}\"]\nsource = \"{}\"", file.display())?;
        for name in OTHER_NAMES_OF_WRITER {
            writeln!(settings, "[models.\"{name}\"]\nsource = \"{}\"", file.display())?;
            writeln!(settings, "context_tokens = {OTHER_NAMES_CONTEXT_TOKENS}")?;
        }
    }
    Ok(settings)
}

/// The server in a home of its own, without any setting from the environment.
pub(crate) fn serve(program: &Path, home: &Path) -> Result<Server> {
    let address = stream::free_address()?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SAMOVAR_")) {
        command.env_remove(name);
    }
    let child = command
        .arg("--home")
        .arg(home)
        .args(["serve", "--listen", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {} serve", program.display()))?;
    Server::wait_for(child, &address, "/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_has_all_of_its_names_and_a_short_context_under_the_others() {
        let agent = Path::new("/a.gguf");
        let text = settings(Path::new("/e.gguf"), Some(Path::new("/w.gguf")), agent).expect("writes");
        assert_eq!(text.matches("source = \"/w.gguf\"").count(), 3, "{text}");
        assert_eq!(text.matches("context_tokens = 256").count(), 2, "{text}");
        let alone = settings(Path::new("/e.gguf"), None, agent).expect("writes");
        assert!(alone.contains(EMBEDDER) && !alone.contains(WRITER), "{alone}");
    }
}
