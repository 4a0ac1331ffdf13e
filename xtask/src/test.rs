//! `cargo x test`: checks the house rules, and runs the documentation's examples, the example programs, the page in a browser and all
//! tests.

use anyhow::Result;

use crate::steps::{self, Step};
use crate::tree::Tree;
use crate::{examples, ordinary, page, process, tidy};

/// The tests come last, so that their summary is the last thing printed when all is well.
const STEPS: [Step; 6] = [
    ("tidy", tidy::run),
    ("documentation tests", documentation),
    ("examples", examples::run),
    ("page", page::short),
    ("tests as an ordinary user", ordinary::run),
    ("tests", tests),
];

/// What is built for the tests: everything that has some. Without it cargo builds the examples, too, measuring programs
/// among them; `cargo x ci` checks those.
pub(crate) const TESTED: [&str; 3] = ["--release", "--workspace", "--tests"];

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
        return process::run(tree.root(), "cargo", &[&["nextest", "run"][..], &TESTED].concat());
    }
    process::run(tree.root(), "cargo", &[&["test", "--no-fail-fast"][..], &TESTED].concat())
}
