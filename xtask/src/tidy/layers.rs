//! Layers: `decide/` in the pool is `act/` on `view/` on `state/`, and each names only those below it.

use super::purity::{code_of, has_word};
use super::{Finding, Source};

/// Folders, and what none of their lines may name: modules and types of the layers above.
const LAYERS: [(&str, &[&str]); 2] = [
    ("crates/samovar-pool/src/decide/state", &["view", "View", "act", "Turn"]),
    ("crates/samovar-pool/src/decide/view", &["act", "Turn"]),
];

/// Looks at every line of the lower layers that ships, without its comments and strings.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, above) in LAYERS {
        let within = |source: &&Source| source.is_shipped_rust() && source.file.starts_with(folder);
        for source in sources.iter().filter(within) {
            for (number, line) in source.lines_before_tests() {
                let code = code_of(line);
                for word in above.iter().filter(|word| has_word(&code, word)) {
                    let what = format!("`{word}` is of a layer above {folder}: call downwards only");
                    findings.push(Finding::at(&source.file, number, what));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn found(file: &str, text: &str) -> usize {
        check(&[source(file, text)]).len()
    }

    #[test]
    fn a_lower_layer_that_names_a_higher_one_is_found() {
        let decide = "crates/samovar-pool/src/decide";
        assert_eq!(found(&format!("{decide}/state/ledger.rs"), "use crate::decide::view::View;\n"), 2);
        assert_eq!(found(&format!("{decide}/view/demand.rs"), "use super::super::act::Turn;\n"), 2);
        assert_eq!(found(&format!("{decide}/view/eviction/lru.rs"), "fn f(turn: &Turn) {}\n"), 1);
    }

    #[test]
    fn what_is_below_and_what_is_said_in_comments_is_no_offence() {
        let decide = "crates/samovar-pool/src/decide";
        assert_eq!(found(&format!("{decide}/act/replicas.rs"), "use crate::decide::view::View;\n"), 0);
        assert_eq!(
            found(&format!("{decide}/view/replicas.rs"), "use crate::decide::state::Phase; // act later\n"),
            0
        );
        assert_eq!(found(&format!("{decide}/state/fair_queue.rs"), "let review = actual;\n"), 0);
        assert_eq!(found("crates/samovar-pool/src/pressure/mod.rs", "fn act() {}\n"), 0);
    }
}
