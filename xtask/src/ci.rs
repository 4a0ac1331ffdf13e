//! `cargo x ci`: everything that must pass before a change is merged.

use anyhow::Result;

use crate::steps::{self, Step};
use crate::tree::Tree;
use crate::{docs, examples, ordinary, page, process, test, tidy};

const STEPS: [Step; 9] = [
    ("format", format),
    ("tidy", tidy::run),
    ("lints", lints),
    ("reference", docs::check),
    ("documentation tests", test::documentation),
    ("examples", examples::run),
    ("page", page::short),
    ("tests as an ordinary user", ordinary::run),
    ("tests", test::tests),
];

/// Runs every step.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    steps::run(tree, &STEPS)
}

fn format(tree: &Tree) -> Result<()> {
    process::run(tree.root(), "cargo", &["fmt", "--all", "--check"])
}

fn lints(tree: &Tree) -> Result<()> {
    let strict = ["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    process::run(tree.root(), "cargo", &strict)
}
