//! The tests that SECURITY.md names exist: a promise is worth what checks it.

use std::path::{Path, PathBuf};

use super::{Finding, Source};

const PAGE: &str = "SECURITY.md";
/// Above the table whose last column names tests.
const HEADING: &str = "## Attacks";

/// Looks for every test that a row of the table names.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(page) = sources.iter().find(|source| source.file == Path::new(PAGE)) else { return Vec::new() };
    if !page.text.lines().any(|line| line.starts_with(HEADING)) {
        return vec![Finding::in_file(
            &page.file,
            format!("no table of tests follows a heading `{HEADING}`"),
        )];
    }
    let rows = page.text.lines().enumerate().skip_while(|(_, line)| !line.starts_with(HEADING));
    let mut findings = Vec::new();
    for (number, row) in rows {
        let cell = row.strip_prefix("| ").and_then(|row| row.split(" | ").nth(2)).unwrap_or_default();
        let missing = named(cell).into_iter().filter(|(package, test)| !exists(sources, package, test));
        findings.extend(missing.map(|(package, test)| {
            Finding::at(&page.file, number + 1, format!("{package} has no test called {test}"))
        }));
    }
    findings
}

/// Packages and what a cell names of them: `worker: fake/lies, hangs`, or without a package where it is that of the name
/// before. Commands are left alone.
fn named(cell: &str) -> Vec<(&str, &str)> {
    let (mut named, mut package) = (Vec::new(), "");
    for span in cell.split('`').skip(1).step_by(2).filter(|span| !span.starts_with("cargo ")) {
        let (of, tests) = span.split_once(": ").unwrap_or((package, span));
        package = of;
        named.extend(tests.split(", ").map(|test| (of, test)));
    }
    named
}

/// Whether a file or folder of this name has tests: within the package, or as a package of its own.
fn exists(sources: &[Source], package: &str, test: &str) -> bool {
    let has_tests = |source: &&Source| {
        source.has_extension("rs")
            && ["#[test]", "#[tokio::test"].iter().any(|mark| source.text.contains(mark))
    };
    sources.iter().filter(has_tests).any(|source| {
        let place = source.file.with_extension("");
        let is_called = |name: &str| place.iter().any(|part| part == name);
        place.starts_with(folder(test))
            || place.starts_with(folder(package)) && test.split('/').all(is_called)
    })
}

fn folder(package: &str) -> PathBuf {
    let name = if package == "samovar" { package.to_owned() } else { format!("samovar-{package}") };
    Path::new("crates").join(name)
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_test_that_has_gone_is_missed_and_one_that_is_there_is_not() {
        let page = "| x | y | `no: test` |\n## Attacks and tests\n| attack | defence | tests |\n|---|---|---|\n\
                    | a | b | `worker: fake/lies, hangs`, `health`, `prompt`, `cargo x soak homes` |\n\
                    | c | d | `worker: fake/truths`, `empty`, fuzzing |\n";
        let sources = [
            source(PAGE, page),
            source("crates/samovar-worker/tests/fake/lies.rs", "#[test]\n"),
            source("crates/samovar-worker/tests/fake/hangs.rs", "#[tokio::test(start_paused = true)]\n"),
            source("crates/samovar-worker/src/health.rs", "#[test]\n"),
            source("crates/samovar-worker/src/empty.rs", ""),
            source("crates/samovar-prompt/src/renderer.rs", "#[test]\n"),
        ];
        let found: Vec<_> = check(&sources).into_iter().map(|finding| (finding.line, finding.what)).collect();
        let missing = |test: &str| (Some(6), format!("worker has no test called {test}"));
        assert_eq!(found, [missing("fake/truths"), missing("empty")]);
        assert_eq!(check(&[source(PAGE, "## Tests\n")]).len(), 1, "a page without the table");
    }
}
