//! Links: what the documentation points to in this repository exists.

use std::path::Path;

use super::{Finding, Source};

/// Follows every relative link of every Markdown file.
pub(super) fn check(sources: &[Source], root: &Path) -> Vec<Finding> {
    let pages = sources.iter().filter(|source| source.has_extension("md"));
    pages.flat_map(|page| check_page(page, root)).collect()
}

fn check_page(page: &Source, root: &Path) -> Vec<Finding> {
    let folder = root.join(page.file.parent().unwrap_or(Path::new("")));
    let mut findings = Vec::new();
    let mut is_code = false;
    for (number, line) in page.text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        let dead = targets(line).filter(|target| !is_code && !folder.join(target).exists());
        findings.extend(
            dead.map(|it| Finding::at(&page.file, number + 1, format!("the link to {it} leads nowhere"))),
        );
    }
    findings
}

/// The files that a line links to, without fragments; addresses on the web are left alone.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inner = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let files = inner.map(|link| link.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:"))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_dead_link_is_found_and_a_live_one_is_not() {
        let root = tempfile::tempdir().expect("temporary folder");
        fs_err::create_dir_all(root.path().join("docs")).expect("folder");
        fs_err::write(root.path().join("docs/a.md"), "").expect("file");
        let text =
            "[a](a.md#part) [b](b.md)\n[web](https://example.com/b.md) [here](#part)\n```\n[c](c.md)\n```\n";
        let found = check(&[source("docs/page.md", text)], root.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("b.md") && found[0].line == Some(1), "{found:?}");
    }
}
