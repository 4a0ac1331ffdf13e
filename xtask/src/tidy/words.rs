//! Words: no private metaphor where the field has a term, one meaning for each noun, no riddle in prose.
//!
//! It knows the words that the tree once had. A name is an offence as a whole identifier in code; a riddle, in a comment or a document; a
//! word that names no actor, in a comment.

use std::collections::BTreeMap;
use std::path::Path;

use super::purity::code_of;
use super::{Finding, Source};

/// Names that only their author understood, and what stands for them.
const METAPHORS: [(&str, &str); 74] = [
    ("Achieved", "JobOutput"),
    ("Alarm", "Waker"),
    ("Appetite", "MemoryWatch"),
    ("Arrival", "FetchedFile"),
    ("Beat", "Heartbeat"),
    ("Books", "State, or what is written down"),
    ("Carrier", "FileFetcher"),
    ("Chronicle", "UptimeHistory, LifetimeStats"),
    ("Custody", "PrefixCommand"),
    ("Desk", "RequestThread"),
    ("Detour", "Redirect"),
    ("Dice", "Rng"),
    ("Door", "Listener, Acceptor"),
    ("Doors", "ListenAddresses"),
    ("Dress", "WeightView"),
    ("Ear", "FrameReader"),
    ("Ears", "ExitHandlers"),
    ("Errand", "WorkerJob, FetchJob"),
    ("Fame", "UsageRate"),
    ("Farewell", "ExitReason, FinalEvent"),
    ("Fitted", "LoadedLayout"),
    ("Fitter", "LayoutLoader"),
    ("Ground", "Fixture, WorkerContext"),
    ("Guest", "OpenConnection"),
    ("Guests", "OpenConnections"),
    ("Hands", "Executor"),
    ("House", "Fixture, ConnectionContext"),
    ("Journey", "RequestTrace"),
    ("Lie", "BadAnswer"),
    ("Maker", "PackScheduler"),
    ("Manner", "ServeOptions, ProgressFormat"),
    ("Manners", "PromptSettings"),
    ("Mouth", "FrameWriter"),
    ("Noted", "LogEntry"),
    ("Packings", "LayoutRegistry"),
    ("Pledge", "DeferredEviction"),
    ("Rehearsal", "PreparedTrace"),
    ("Riders", "AdapterRegistry"),
    ("Roll", "PendingCalls"),
    ("Seat", "ConnectionPermit"),
    ("Seats", "ConnectionTable"),
    ("Setback", "Backoff"),
    ("Shelf", "LazyStore"),
    ("Signs", "PollResult"),
    ("Stage", "WorkerPhase, AnswerPhase, ConnectionTracker"),
    ("Traffic", "ActivityCounter"),
    ("Wardrobe", "WeightViews"),
    ("Workshop", "Packer"),
    ("appetite", "memory_watch"),
    ("asides", "background_reservations"),
    ("bid_farewell", "begin_unload"),
    ("chronicle", "uptime_history, lifetime_stats"),
    ("crew", "replicas"),
    ("deed", "activity"),
    ("detour", "redirect"),
    ("errand", "job"),
    ("fame", "usage_rate"),
    ("farewell", "exit_reason"),
    ("hindrance", "disabled_reason"),
    ("house", "fixture, context"),
    ("mouth", "frame_writer"),
    ("packings", "layout_registry"),
    ("pledge", "deferred_eviction"),
    ("rehearsal", "dry_run, prepared"),
    ("rehearse", "check_before_takeover"),
    ("riding_bytes", "adapter_bytes"),
    ("rouse", "mark_wanted"),
    ("seats", "connection_table"),
    ("seniority", "oldest_first"),
    ("setback", "backoff"),
    ("stunted", "growth_blocked"),
    ("upkeep", "admin"),
    ("wardrobe", "weight_views"),
    ("workshop", "packer"),
];

/// Nouns that tempt to mean many things: each is the name of one type at most.
const NOUNS: [&str; 13] = [
    "Ask", "Facts", "Keeper", "Kept", "Lease", "Line", "Origin", "Outcome", "Place", "Plan", "Tier", "Turn",
    "Verdict",
];

/// What one reads twice, and the way to say it.
const RIDDLES: [(&str, &str); 12] = [
    ("Be the daemon", "Run the daemon"),
    ("Make the daemon leave", "Stop the daemon"),
    ("Makes the daemon leave", "Stops the daemon"),
    ("Time counts by looks", "Timeouts count polls, not wall time"),
    ("a time to come again", "with `Retry-After`"),
    ("by one at a time over all processes", "only one process at a time"),
    ("for who waits", "for requests that wait"),
    ("for who wants", "for a caller that wants"),
    ("to who packs", "to a worker that packs"),
    ("waits anew", "waits again"),
    ("was due before", "was already next"),
    ("who comes second", "the second one"),
];

/// Words that name no actor.
const NO_ACTORS: [&str; 5] = ["anybody", "everybody", "nobody", "somebody", "whoever"];

/// The page that shows riddles in order to forbid them.
const EXAMPLES: &str = "STYLE.md";

/// Looks through code for names, and through comments and documents for riddles.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let metaphors = BTreeMap::from(METAPHORS);
    let mut findings = Vec::new();
    let mut declared: BTreeMap<&str, &Path> = BTreeMap::new();
    for source in sources {
        let is_rust = source.has_extension("rs");
        let is_prose = source.has_extension("md") && !source.file.ends_with(EXAMPLES);
        if !is_rust && !is_prose {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let mut found = Vec::new();
            if is_rust {
                let code = code_of(line);
                found.extend(identifiers(&code).filter_map(|name| {
                    let better = metaphors.get(name)?;
                    Some(format!("`{name}` is a metaphor: say `{better}`, or what else the field calls it"))
                }));
                if let Some(noun) = declares(&code) {
                    let first = *declared.entry(noun).or_insert(&source.file);
                    if first != source.file {
                        found.push(format!("`{noun}` is a type of {} already: say which", first.display()));
                    }
                }
            }
            let prose = if is_rust { line.split_once("//").map_or("", |(_, comment)| comment) } else { line };
            found.extend(riddle(prose));
            if is_rust {
                found.extend(no_actor(prose));
            }
            findings.extend(found.into_iter().map(|what| Finding::at(&source.file, number + 1, what)));
        }
    }
    findings
}

fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty())
}

/// The one of our nouns that becomes a type here.
fn declares(code: &str) -> Option<&'static str> {
    let mut before = "";
    for name in identifiers(code) {
        if matches!(before, "struct" | "enum" | "trait" | "type") {
            return NOUNS.into_iter().find(|noun| *noun == name);
        }
        before = name;
    }
    None
}

fn riddle(prose: &str) -> Option<String> {
    let (riddle, better) = RIDDLES.iter().find(|(riddle, _)| prose.contains(riddle))?;
    Some(format!("\"{riddle}\" is a riddle: say \"{better}\""))
}

fn no_actor(comment: &str) -> Option<String> {
    // The Unix user of that name is written as code.
    let outside_code = comment.split('`').step_by(2);
    let is_banned = |word: &&str| NO_ACTORS.iter().any(|banned| word.eq_ignore_ascii_case(banned));
    let word = outside_code.flat_map(identifiers).find(is_banned)?;
    Some(format!("\"{word}\" names no actor: say which request, process or user is meant"))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn found(texts: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = texts.iter().map(|(file, text)| source(file, text)).collect();
        check(&sources).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_metaphor_is_found_as_a_name_and_not_in_longer_names_strings_and_comments() {
        let text = "fn f() {\n    let wardrobe = Errand::new();\n}\n";
        let findings = found(&[("crates/a/src/b.rs", text)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("b.rs:2") && findings[0].contains("weight_views"), "{findings:?}");
        let text = "// the crew of a ship\nfn screw(crews: u8) { say(\"an errand\"); }\n";
        assert_eq!(found(&[("crates/a/src/b.rs", text)]), [""; 0]);
    }

    #[test]
    fn a_noun_names_one_type() {
        let (one, other) = ("pub struct Outcome;\n", "enum Outcome {}\nstruct Outcomes;\n");
        let findings = found(&[("crates/a/src/a.rs", one), ("crates/b/src/b.rs", other)]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("b.rs:1") && findings[0].contains("a.rs"), "{findings:?}");
        assert_eq!(found(&[("crates/a/src/a.rs", one), ("crates/b/src/b.rs", "use a::Outcome;\n")]), [""; 0]);
    }

    #[test]
    fn a_comment_names_an_actor() {
        for word in NO_ACTORS {
            let [comment, code, user] =
                [format!("// Whom {word} tells."), format!("let {word} = 1;"), format!("// As `{word}`.")];
            let findings = found(&[("crates/a/src/b.rs", comment.as_str())]);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(found(&[("crates/a/src/b.rs", code.as_str())]), [""; 0]);
            assert_eq!(found(&[("crates/a/src/b.rs", user.as_str())]), [""; 0]);
        }
    }

    #[test]
    fn riddles_are_found_in_documents_and_comments() {
        for (riddle, _) in RIDDLES {
            let (comment, string) = (format!("let a = 1; // {riddle}"), format!("say({riddle:?});"));
            assert_eq!(found(&[("docs/a.md", riddle)]).len(), 1, "{riddle}");
            assert_eq!(found(&[("crates/a/src/b.rs", comment.as_str())]).len(), 1, "{riddle}");
            assert_eq!(found(&[("crates/a/src/b.rs", string.as_str())]), [""; 0]);
            assert_eq!(found(&[(EXAMPLES, riddle)]), [""; 0]);
        }
    }
}
