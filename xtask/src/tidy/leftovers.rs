//! Leftovers: nothing undone, nothing for debugging, no path of one machine.

use std::path::Path;

use super::{Finding, Source};

/// Words that mean "not finished", spelled in halves so that this file does not find itself.
const UNDONE: [(&str, &str); 6] = [
    (concat!("TO", "DO"), "finish it, or open an issue"),
    (concat!("FIX", "ME"), "finish it, or open an issue"),
    (concat!("todo", "!("), "finish it, or open an issue"),
    (concat!("unimplemented", "!("), "finish it, or open an issue"),
    (concat!("dbg", "!("), "left over from debugging"),
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
];

/// What an ignored test may be: a process that another test makes of its own program, or a part of the soak.
const STARTED: &str = "= \"started by ";

/// Folders at the root of a system whose names are the same everywhere.
const EVERYWHERE: [&str; 12] =
    ["/bin", "/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/run", "/srv", "/tmp", "/usr", "/var"];

/// Looks through every text of the tree; `root` is where this checkout stands.
pub(super) fn check(sources: &[Source], root: &Path) -> Vec<Finding> {
    let places = places_of_this_machine(root);
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            let what = undone(source, line).or_else(|| machine_path(line, &places));
            findings.extend(what.map(|what| Finding::at(&source.file, number + 1, what)));
        }
    }
    findings
}

fn undone(source: &Source, line: &str) -> Option<String> {
    let is_code = ["rs", "py", "sh", "toml"].iter().any(|extension| source.has_extension(extension));
    let (word, reason) = UNDONE.iter().find(|(word, _)| is_code && line.contains(word))?;
    if line.contains(STARTED) {
        return None;
    }
    Some(format!("`{word}`: {reason}"))
}

/// The checkout, the folder it stands in, and root's home: true on this machine alone.
fn places_of_this_machine(root: &Path) -> Vec<String> {
    let parent = root.parent().and_then(Path::to_str).unwrap_or_default();
    let mut places = vec![concat!("/ro", "ot/").to_owned()];
    for place in [root.to_str().unwrap_or_default(), parent] {
        if place.len() > 1 && !EVERYWHERE.contains(&place) {
            places.push(place.to_owned());
        }
    }
    places
}

fn machine_path(line: &str, places: &[String]) -> Option<String> {
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}');
    let names = |place: &String| {
        line.match_indices(place.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + place.len()..].chars().next();
            let ends =
                place.ends_with('/') || !after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            !before.is_some_and(is_path) && ends
        })
    };
    let place = places.iter().find(|place| names(place))?;
    Some(format!("`{place}` is a path of one machine"))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn found(text: &str) -> usize {
        check(&[source("crates/a/src/b.rs", text)], Path::new("/place/checkout")).len()
    }

    #[test]
    fn unfinished_work_is_found() {
        for (word, _) in UNDONE {
            assert_eq!(found(&format!("fn f() {{ {word} }}")), 1, "{word}");
        }
        assert_eq!(found("fn method() { mastodon() }"), 0);
    }

    #[test]
    fn an_ignored_test_says_who_starts_it() {
        let ignored = |reason: &str| format!("{} = \"{reason}\"]", concat!("#[", "ignore"));
        assert_eq!(found(&ignored("slow")), 1);
        assert_eq!(found(&ignored("started by the test above")), 0);
    }

    #[test]
    fn paths_of_this_machine_are_found_and_parts_of_others_are_not() {
        assert_eq!(found("open(\"/place/checkout/a\")"), 1);
        assert_eq!(found("see /place/other"), 1);
        assert_eq!(found("see ./marketplace/place/other and /placement"), 0);
        assert_eq!(found("write to /tmp/x and /etc/hosts"), 0);
    }

    #[test]
    fn a_checkout_in_a_folder_that_every_system_has_forbids_only_itself() {
        assert_eq!(places_of_this_machine(Path::new("/tmp/checkout"))[1..], ["/tmp/checkout"]);
    }
}
