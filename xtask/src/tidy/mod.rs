//! `cargo x tidy`: the house rules that a compiler cannot check.
//!
//! ```text
//!   floors       which crate may depend on which, and which crate is home to a dependency
//!   purity       the pool decides without doing anything
//!   file_names   no drawer where everything goes
//!   lengths      a long file has a second noun in it (reported, not refused)
//!   module_docs  every file says what it is
//!   leftovers    nothing undone, no path of one machine
//!   decisions    each ADR under a page
//!   links        a link in the documentation leads somewhere
//! ```
//!
//! A rule reads the tree and returns findings; it never changes a file.

mod decisions;
mod file_names;
mod floors;
mod leftovers;
mod lengths;
mod links;
mod module_docs;
mod purity;

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
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        self.file.extension().is_some_and(|it| it == extension)
    }

    /// Whether the file is Rust that ships: under some `src/`, and not made of tests alone.
    fn is_shipped_rust(&self) -> bool {
        let parts: Vec<&str> = self.file.iter().filter_map(|part| part.to_str()).collect();
        let is_test = parts.iter().any(|part| matches!(*part, "tests" | "tests.rs" | "benches" | "examples"));
        self.has_extension("rs") && parts.contains(&"src") && !is_test
    }

    /// Lines with their numbers up to the tests at the end of the file.
    fn lines_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = |(_, line): &(usize, &str)| {
            line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
        };
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line)).take_while(move |line| !tests(line))
    }
}

/// Checks every rule and prints what it found; fails when something is more than a note.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    let sources = sources(tree)?;
    let mut findings = floors::check(&tree.metadata()?);
    findings.extend(purity::check(&sources));
    findings.extend(file_names::check(&tree.files()?));
    findings.extend(lengths::check(&sources));
    findings.extend(module_docs::check(&sources));
    findings.extend(leftovers::check(&sources, tree.root()));
    findings.extend(decisions::check(&sources));
    findings.extend(links::check(&sources, tree.root()));
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
            sources.push(Source { file, text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
fn source(file: &str, text: &str) -> Source {
    Source { file: PathBuf::from(file), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stop_where_the_tests_begin() {
        let source = source("crates/a/src/b.rs", "one\ntwo\n#[cfg(test)]\nmod tests {\n");
        assert_eq!(source.lines_before_tests().collect::<Vec<_>>(), [(1, "one"), (2, "two")]);
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
