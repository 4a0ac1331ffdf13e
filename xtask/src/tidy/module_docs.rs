//! Module docs: every file of Rust begins with a sentence that says what it is.

use super::{Finding, Source};

/// Finds files whose first line is not `//! …`.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let undocumented = |source: &&Source| source.is_shipped_rust() && !begins_with_docs(&source.text);
    let found = sources.iter().filter(undocumented);
    found
        .map(|source| {
            Finding::in_file(&source.file, "begin with `//! ` and one sentence: what is this file?")
        })
        .collect()
}

fn begins_with_docs(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 10)
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_file_without_a_sentence_is_found() {
        let sources = [
            source("crates/a/src/good.rs", "//! The ledger of one device.\n"),
            source("crates/a/src/bad.rs", "use std::fmt;\n//! late\n"),
            source("crates/a/src/empty.rs", "//!\n"),
        ];
        assert_eq!(check(&sources).len(), 2);
    }
}
