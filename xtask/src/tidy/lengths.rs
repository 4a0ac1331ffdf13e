//! Lengths: a file beyond a few hundred lines usually has a second noun in it.

use super::{Finding, Source};

/// Lines without tests that a file should stay under.
const AIM: usize = 400;
/// Lines without tests from which on a file smells.
const SMELL: usize = 600;

/// Notes the long files; where to cut them is a person's judgement.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources.iter().filter(|source| source.is_shipped_rust()).filter_map(note).collect()
}

fn note(source: &Source) -> Option<Finding> {
    let lines = source.lines_before_tests().count();
    let what = match lines {
        0..=AIM => return None,
        _ if lines <= SMELL => format!("{lines} lines without tests; aim under {AIM}"),
        _ => format!("{lines} lines without tests: find the second noun in it"),
    };
    Some(Finding::note(&source.file, what))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn tests_do_not_count_and_long_files_are_noted() {
        let long = format!("{}#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(AIM), "y\n".repeat(900));
        assert!(check(&[source("crates/a/src/b.rs", &long)]).is_empty());
        let found = check(&[source("crates/a/src/b.rs", &"x\n".repeat(SMELL + 1))]);
        assert!(found[0].is_note && found[0].what.contains("second noun"), "{found:?}");
    }
}
