//! `cargo x tidy`: the house rules that a compiler cannot check.
//!
//! ```text
//!   floors       which crate may depend on which, and which crate is home to a dependency
//!   purity       the pool decides without doing anything
//!   layers       what it decides with calls downwards only
//!   file_names   no drawer where everything goes
//!   lengths      a long file has a second noun in it (reported, not refused)
//!   module_docs  every file says what it is
//!   leftovers    nothing undone, no path of one machine
//!   decisions    each ADR under a page
//!   links        a link in the documentation leads somewhere
//!   named_tests  the tests that SECURITY.md names exist
//!   words        no private metaphors, one meaning for each noun, no riddles
//! ```
//!
//! A rule reads the tree and returns findings; it never changes a file.

mod decisions;
mod file_names;
mod floors;
mod layers;
mod leftovers;
mod lengths;
mod links;
mod module_docs;
mod named_tests;
mod purity;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::tree::Tree;

/// A place where the tree breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    /// Counted from one; `None` when the whole file is meant.
    line: Option<usize>,
    what: String,
    /// A smell to look at, which does not fail the check.
    is_note: bool,
}

impl Finding {
    fn in_file(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line: None, what: what.into(), is_note: false }
    }

    fn at(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::in_file(file, what) }
    }

    fn note(file: &Path, what: impl Into<String>) -> Self {
        Self { is_note: true, ..Self::in_file(file, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_note { "note" } else { "error" };
        match self.line {
            Some(line) => write!(f, "{kind}: {}:{line}: {}", self.file.display(), self.what),
            None => write!(f, "{kind}: {}: {}", self.file.display(), self.what),
        }
    }
}

/// A text file of the tree.
struct Source {
    file: PathBuf,
    text: String,
    /// Whether some other file declares it under `#[cfg(test)]`.
    is_test_module: bool,
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        self.file.extension().is_some_and(|it| it == extension)
    }

    /// Whether the file is Rust that ships: under some `src/`, and not made of tests alone.
    fn is_shipped_rust(&self) -> bool {
        let parts: Vec<&str> = self.file.iter().filter_map(|part| part.to_str()).collect();
        let is_test = parts.iter().any(|part| matches!(*part, "tests" | "tests.rs" | "benches" | "examples"));
        self.has_extension("rs") && parts.contains(&"src") && !is_test && !self.is_test_module
    }

    /// Lines with their numbers up to the module of tests at the end of the file.
    fn lines_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len()).find(|at| tested_module(&lines[*at..]).is_some_and(|it| it.contains('{')));
        lines.into_iter().enumerate().map(|(n, line)| (n + 1, line)).take(end.unwrap_or(usize::MAX))
    }

    /// Files or folders, without extension, of modules that this file declares for tests alone.
    fn test_modules(&self) -> Vec<PathBuf> {
        let lines: Vec<&str> = self.text.lines().collect();
        let stem = self.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_root = matches!(stem, "mod" | "lib" | "main");
        let folder = if is_root { self.file.with_file_name("") } else { self.file.with_extension("") };
        let declared = (0..lines.len()).filter_map(|at| tested_module(&lines[at..])?.strip_suffix(';'));
        declared.map(|name| folder.join(name.trim())).collect()
    }
}

/// What follows `mod ` after `#[cfg(test)]` and other attributes, when the lines begin so.
fn tested_module<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let (first, rest) = lines.split_first()?;
    if !(first.starts_with("#[cfg(test)]") || first.starts_with("#[cfg(all(test")) {
        return None;
    }
    let item = rest.iter().find(|line| !line.starts_with("#["))?;
    item.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ")
}

/// Checks every rule and prints what it found; fails when something is more than a note.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    let sources = sources(tree)?;
    let mut findings = floors::check(&tree.metadata()?);
    findings.extend(purity::check(&sources));
    findings.extend(layers::check(&sources));
    findings.extend(file_names::check(&tree.files()?));
    findings.extend(lengths::check(&sources));
    findings.extend(module_docs::check(&sources));
    findings.extend(leftovers::check(&sources, tree.root()));
    findings.extend(decisions::check(&sources));
    findings.extend(links::check(&sources, tree.root()));
    findings.extend(named_tests::check(&sources));
    findings.extend(words::check(&sources));
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.is_note).count();
    if errors > 0 {
        bail!("tidy: {errors} broken rules");
    }
    println!("tidy: {} files in order, {} notes", sources.len(), findings.len());
    Ok(())
}

fn sources(tree: &Tree) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in tree.files()? {
        if let Some(text) = tree.text(&file)? {
            sources.push(Source { file, text, is_test_module: false });
        }
    }
    mark_test_modules(&mut sources);
    Ok(sources)
}

fn mark_test_modules(sources: &mut [Source]) {
    let rust = sources.iter().filter(|source| source.has_extension("rs"));
    let declared: Vec<PathBuf> = rust.flat_map(Source::test_modules).collect();
    for source in sources {
        source.is_test_module = declared
            .iter()
            .any(|module| source.file.starts_with(module) || source.file.with_extension("") == *module);
    }
}

#[cfg(test)]
fn source(file: &str, text: &str) -> Source {
    Source { file: PathBuf::from(file), text: text.to_owned(), is_test_module: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stop_where_the_tests_begin() {
        let text = "#[cfg(test)]\nmod simulation;\ntwo\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n}\n";
        let source = source("crates/a/src/b.rs", text);
        assert_eq!(source.lines_before_tests().last(), Some((3, "two")));
    }

    #[test]
    fn modules_declared_for_tests_are_not_shipped() {
        let mut sources = [
            source("crates/a/src/decide/mod.rs", "#[cfg(test)]\nmod world;\nmod queue;\n"),
            source("crates/a/src/decide/world/act.rs", ""),
            source("crates/a/src/decide/world.rs", ""),
            source("crates/a/src/decide/queue.rs", "#[cfg(test)]\npub(crate) mod cases;\n"),
            source("crates/a/src/decide/queue/cases.rs", ""),
        ];
        mark_test_modules(&mut sources);
        assert_eq!(sources.map(|source| source.is_shipped_rust()), [true, false, false, true, false]);
    }

    #[test]
    fn test_files_are_not_shipped() {
        assert!(source("crates/a/src/b.rs", "").is_shipped_rust());
        assert!(!source("crates/a/tests/b.rs", "").is_shipped_rust());
        assert!(!source("crates/a/src/b/tests.rs", "").is_shipped_rust());
        assert!(!source("README.md", "").is_shipped_rust());
    }

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let finding = Finding::at(Path::new("a.rs"), 3, "too much");
        assert_eq!(finding.to_string(), "error: a.rs:3: too much");
    }
}
