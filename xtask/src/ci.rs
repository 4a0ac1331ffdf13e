//! `cargo x ci`: everything that must pass before a change is merged.

use anyhow::{Result, bail};

use crate::tree::Tree;
use crate::{docs, process, test, tidy};

/// A named check.
type Step = (&'static str, fn(&Tree) -> Result<()>);

const STEPS: [Step; 6] = [
    ("format", format),
    ("tidy", tidy::run),
    ("lints", lints),
    ("reference", docs::check),
    ("documentation tests", test::documentation),
    ("tests", test::tests),
];

/// Runs every step, also after one has failed, and names those that did.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    let failed = failures(tree, &STEPS);
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn failures(tree: &Tree, steps: &[Step]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for (name, step) in steps {
        println!("── {name}");
        if let Err(error) = step(tree) {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    failed
}

fn format(tree: &Tree) -> Result<()> {
    process::run(tree.root(), "cargo", &["fmt", "--all", "--check"])
}

fn lints(tree: &Tree) -> Result<()> {
    let strict = ["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    process::run(tree.root(), "cargo", &strict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_does_not_hide_the_next() {
        let tree = Tree::at(std::path::Path::new("."));
        let steps: [Step; 3] =
            [("first", |_| bail!("no")), ("second", |_| Ok(())), ("third", |_| bail!("no"))];
        assert_eq!(failures(&tree, &steps), ["first", "third"]);
    }
}
