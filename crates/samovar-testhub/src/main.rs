//! The test hub as a program, for other processes: `samovar-testhub --dir models`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use samovar_testhub::{Content, FileSpec, Hub, Rule};

/// A model hub for tests. Says `endpoint http://127.0.0.1:PORT` on its first line, then serves until it is ended.
#[derive(Debug, Parser)]
struct Args {
    /// Port of the loopback interface; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Every DIR/org/name becomes a repository.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The repository that the files belong to.
    #[arg(long, default_value = "org/name")]
    repo: String,
    /// A file of the repository: its path there, and the file on disk or `pattern:BYTES`.
    #[arg(long, value_name = "PATH=FILE")]
    file: Vec<String>,
    /// A file of the plain area.
    #[arg(long, value_name = "PATH=FILE")]
    plain: Vec<String>,
    /// The repository's files need this token.
    #[arg(long, value_name = "TOKEN")]
    gated: Option<String>,
    /// Only this token learns that the repository exists.
    #[arg(long, value_name = "TOKEN")]
    private: Option<String>,
    /// A lie, as JSON: `{"lie": "wrong_bytes", "path": "model.gguf", "times": {"only": 1}}`.
    #[arg(long, value_name = "JSON")]
    lie: Vec<String>,
    /// Sends large files itself instead of redirecting to another port.
    #[arg(long)]
    no_cdn: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let hub = Hub::bind(args.port).context("the hub cannot listen")?;
    hub.set_cdn(!args.no_cdn);
    if let Some(directory) = &args.dir {
        hub.add_directory(directory)?;
    }
    if !args.file.is_empty() {
        let repo = hub.add_repo(&args.repo);
        let files = args.file.iter().map(|text| read(text)).collect::<anyhow::Result<Vec<_>>>()?;
        repo.put_all(files.iter().map(|(path, content)| (path.as_str(), FileSpec::new(content.clone()))));
        if let Some(token) = &args.gated {
            repo.gated(token);
        }
        if let Some(token) = &args.private {
            repo.private(token);
        }
    }
    for text in &args.plain {
        let (path, content) = read(text)?;
        hub.add_plain(&path, content);
    }
    for text in &args.lie {
        let rule: Rule = serde_json::from_str(text).with_context(|| format!("{text} is no lie"))?;
        hub.lie(rule);
    }
    let mut out = std::io::stdout();
    writeln!(out, "endpoint {}", hub.endpoint())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

fn read(text: &str) -> anyhow::Result<(String, Content)> {
    let (path, file) = text.split_once('=').with_context(|| format!("{text} is not PATH=FILE"))?;
    let content = match file.strip_prefix("pattern:") {
        Some(size) => Content::pattern(size.parse().with_context(|| format!("{size} is no size"))?, 1),
        None => Content::disk(file.as_ref())?,
    };
    Ok((path.to_owned(), content))
}
