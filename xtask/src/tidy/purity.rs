//! Purity: `decide/` in the pool is a function of state, event and time, so it may touch nothing else.

use super::{Finding, Source};

const DECIDE: &str = "crates/samovar-pool/src/decide";

/// What must not appear there, and why not.
const FORBIDDEN: [(&str, &str); 24] = [
    ("async", "deciding never waits: return an effect"),
    (".await", "deciding never waits: return an effect"),
    ("tokio", "the runtime belongs to owner.rs and effects.rs"),
    ("futures", "the runtime belongs to owner.rs and effects.rs"),
    ("mpsc", "channels belong to owner.rs"),
    ("oneshot", "channels belong to owner.rs"),
    ("Instant", "time comes in as `now`"),
    ("SystemTime", "time comes in as `now`"),
    ("Clock", "time comes in as `now`"),
    ("sleep", "time comes in as `now`; ask to be woken by an effect"),
    ("thread", "deciding happens where it is called"),
    ("Mutex", "the state has one owner"),
    ("RwLock", "the state has one owner"),
    ("Atomic", "the state has one owner"),
    ("RefCell", "the state is passed as `&mut`"),
    ("OnceLock", "no globals"),
    ("static", "no globals"),
    ("fs", "files are read by effects"),
    ("fs_err", "files are read by effects"),
    ("env", "configuration comes in with the state"),
    ("rand", "same seed, same events, same effects"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("tracing", "reasons are data in a decision, recorded by an effect"),
];

/// Looks at every line of `decide/` that ships, without its comments and strings.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let pure = |source: &&Source| source.is_shipped_rust() && source.file.starts_with(DECIDE);
    sources.iter().filter(pure).flat_map(check_file).collect()
}

fn check_file(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines_before_tests() {
        let code = code_of(line);
        for (word, reason) in FORBIDDEN {
            if has_word(&code, word) {
                findings.push(Finding::at(&source.file, number, format!("`{word}` in decide/: {reason}")));
            }
        }
    }
    findings
}

/// A line without its comment and without what stands in quotes.
pub(super) fn code_of(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect::<Vec<_>>().join(" ").replace("'static", " ")
}

/// Whether `word` stands in `code` by itself; `Atomic` also matches `AtomicU64`.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = word.starts_with('.') || !before.is_some_and(is_part);
        let ends = word == "Atomic" || !after.is_some_and(is_part);
        starts && ends
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        check(&[source(file, text)]).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn waiting_clocks_and_unordered_maps_are_found_with_their_line() {
        let text =
            "//! Admission.\nuse std::collections::HashMap;\nlet now = Instant::now();\nasync fn step() {}\n";
        let found = found("crates/samovar-pool/src/decide/admission.rs", text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("admission.rs:2") && found[0].contains("BTreeMap"), "{found:?}");
    }

    #[test]
    fn comments_strings_and_longer_words_are_no_offence() {
        let text = "// an async thread\nlet thread_count = 1; let s = \"HashMap\"; fn f(x: &'static str, offset: u64) {}\n";
        assert_eq!(found("crates/samovar-pool/src/decide/queue.rs", text), Vec::<String>::new());
    }

    #[test]
    fn only_what_ships_in_decide_is_pure() {
        let text = "use tokio::time;\n";
        assert!(found("crates/samovar-pool/src/owner.rs", text).is_empty());
        assert!(found("crates/samovar-pool/src/decide/tests.rs", text).is_empty());
        let tests = "fn pure() {}\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }\n";
        assert!(found("crates/samovar-pool/src/decide/ledger.rs", tests).is_empty());
    }
}
