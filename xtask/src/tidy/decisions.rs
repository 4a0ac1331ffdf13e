//! Decisions: an ADR is numbered in sequence, has its parts, and fits on a page.

use super::{Finding, Source};

const FOLDER: &str = "docs/adr";
/// A page.
const PAGE_BYTES: usize = 3_500;
const PARTS: [&str; 3] = ["## Context", "## Decision", "## Consequences"];

/// Reads every file of docs/adr in order.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let decisions =
        sources.iter().filter(|source| source.file.starts_with(FOLDER) && source.has_extension("md"));
    decisions.enumerate().flat_map(|(n, source)| check_decision(n + 1, source)).collect()
}

fn check_decision(number: usize, source: &Source) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let name = source.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(&format!("{number:04}-")) {
        wrong.push(format!("expected {number:04}-title.md: numbers run in sequence"));
    }
    if source.text.len() > PAGE_BYTES {
        wrong.push(format!("{} bytes; a decision fits on a page ({PAGE_BYTES})", source.text.len()));
    }
    for part in PARTS.iter().filter(|part| !source.text.contains(**part)) {
        wrong.push(format!("no `{part}`"));
    }
    wrong.into_iter().map(|what| Finding::in_file(&source.file, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn gaps_missing_parts_and_long_texts_are_found() {
        let good = PARTS.join("\n");
        let long = format!("{good}{}", "x".repeat(PAGE_BYTES));
        assert!(check(&[source("docs/adr/0001-floors.md", &good)]).is_empty());
        assert_eq!(check(&[source("docs/adr/0002-gap.md", &good)]).len(), 1);
        assert_eq!(check(&[source("docs/adr/0001-long.md", &long)]).len(), 1);
        assert_eq!(check(&[source("docs/adr/0001-empty.md", "")]).len(), PARTS.len());
    }
}
