//! `cargo x test`: checks the house rules, and runs the documentation's examples, the example programs and all tests.

use anyhow::Result;

use crate::steps::{self, Step};
use crate::tree::Tree;
use crate::{examples, ordinary, process, tidy};

/// The tests come last, so that their summary is the last thing printed when all is well.
const STEPS: [Step; 5] = [
    ("tidy", tidy::run),
    ("documentation tests", documentation),
    ("examples", examples::run),
    ("tests as an ordinary user", ordinary::run),
    ("tests", tests),
];

/// Runs every step.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    steps::run(tree, &STEPS)
}

/// The examples in the documentation, compiled and run.
pub(crate) fn documentation(tree: &Tree) -> Result<()> {
    process::run(tree.root(), "cargo", &["test", "--quiet", "--release", "--workspace", "--doc"])
}

/// Every test of the workspace. One profile for demo and tests: llama.cpp is built once, and the random
/// simulations run at full speed.
pub(crate) fn tests(tree: &Tree) -> Result<()> {
    if process::works("cargo", &["nextest", "--version"]) {
        return process::run(tree.root(), "cargo", &["nextest", "run", "--release", "--workspace"]);
    }
    let plain = ["test", "--release", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    process::run(tree.root(), "cargo", &plain)
}
