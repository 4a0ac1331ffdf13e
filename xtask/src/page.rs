//! `cargo x page`: the page for people in Chromium, against a scripted daemon and the built one. `cargo x test` runs the part of it that
//! takes less than a minute, without the built daemon. It never changes the page.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::tree::Tree;
use crate::{clients, process};

/// The first version of Node.js on which playwright starts; Debian 12 has an older one.
const OLDEST_NODE: u32 = 20;

/// The folder that npm installs into, and the file that says what.
const PACKAGES: &str = "node_modules";
const LOCK: &str = "package-lock.json";
const NPM_INSTALL: [&str; 5] = ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
/// Where no registry answers, npm tries for many minutes by itself.
const NPM_PATIENCE: [&str; 2] = ["--fetch-timeout=60000", "--fetch-retries=1"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder with the program, laid out as cargo's `target/release`; without it, it is built
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs all of it.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let Some(folder) = tests(tree)? else { return Ok(()) };
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => tree.build()?,
    };
    let program = programs.join("samovar");
    let home = tempfile::tempdir()?;
    let key = key(&program, home.path())?;
    let server = clients::serve(&program, home.path())?;
    process::run_quietly(&folder, "node", &["run.mjs", "--long", &server.url, &key])
}

/// Runs the short part.
pub(crate) fn short(tree: &Tree) -> Result<()> {
    tests(tree)?.map_or(Ok(()), |folder| process::run(&folder, "node", &["run.mjs"]))
}

/// The folder of the tests, with what they need, after the types of the page's modules were checked; `None` where it cannot be had.
fn tests(tree: &Tree) -> Result<Option<PathBuf>> {
    let folder = tree.root().join("dashboard/tests");
    let tools = tree.target()?.join("test-tools/page");
    if let Err(error) = install(&folder, &tools) {
        println!("skipped: the page was not tried in a browser: {error:#}");
        return Ok(None);
    }
    link(&tools.join(PACKAGES), &folder.join(PACKAGES))?;
    process::run(&folder, "npm", &["run", "--silent", "types"])?;
    Ok(Some(folder))
}

/// Has npm install the packages of the tests into `tools`, unless the same ones are installed.
fn install(folder: &Path, tools: &Path) -> Result<()> {
    let version = process::output("node", &["--version"]).context("it needs Node.js with npm")?;
    ensure!(
        major(&version).is_some_and(|major| major >= OLDEST_NODE),
        "it needs Node.js {OLDEST_NODE} or later, and here is {}",
        version.trim()
    );
    // npm empties its folder before it installs, so what was broken off has no mark.
    let mark = tools.join(PACKAGES).join("installed.json");
    let wanted = fs_err::read_to_string(folder.join(LOCK))?;
    if !fs_err::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        fs_err::create_dir_all(tools)?;
        for file in ["package.json", LOCK] {
            fs_err::copy(folder.join(file), tools.join(file))?;
        }
        process::run(tools, "npm", &[&NPM_INSTALL[..], &NPM_PATIENCE].concat())?;
        fs_err::write(&mark, wanted)?;
    }
    Ok(())
}

/// Has `from` lead to `to`: Node.js looks for packages beside the files that import them.
fn link(to: &Path, from: &Path) -> Result<()> {
    if fs_err::read_link(from).is_ok_and(|leads_to| leads_to == to) {
        return Ok(());
    }
    match fs_err::symlink_metadata(from) {
        Ok(there) if there.is_dir() => fs_err::remove_dir_all(from)?,
        Ok(_) => fs_err::remove_file(from)?,
        Err(_) => {}
    }
    Ok(fs_err::os::unix::fs::symlink(to, from)?)
}

/// The first number of what `node --version` prints.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// A key for everything, of a daemon with this home.
fn key(program: &Path, home: &Path) -> Result<String> {
    let (program, home) = (program.to_string_lossy(), home.to_string_lossy());
    let add = ["--home", &home, "key", "add", "page", "--scope", "infer,manage,admin", "--json"];
    let said: serde_json::Value = serde_json::from_str(&process::output(&program, &add)?)?;
    said["key"].as_str().map(str::to_owned).context("`samovar key add --json` shows no key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_node_begins_with_its_number() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v18.19.0"), Some(18));
        assert_eq!(major("not a version"), None);
    }

    #[test]
    fn a_link_takes_the_place_of_an_older_one_and_of_a_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let (from, first, second) = (home.path().join("from"), home.path().join("1"), home.path().join("2"));
        fs_err::create_dir_all(from.join("below")).expect("a folder");
        for to in [&first, &first, &second] {
            link(to, &from).expect("leads there");
            assert_eq!(&fs_err::read_link(&from).expect("a link"), to);
        }
    }
}
