//! `cargo x soak fuzz`: every fuzz target for a minute, built as `cargo fuzz` builds it; it needs the nightly toolchain.

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::tree::Tree;

/// The targets, each with what libFuzzer is to know of its inputs.
const TARGETS: [(&str, &[&str]); 9] = [
    ("answer_reader", &["-dict=fuzz/answer.dict", "-max_len=4096"]),
    ("chat_template", &["-dict=fuzz/jinja.dict", "-max_len=4096", "-rss_limit_mb=2048"]),
    ("gguf_adapter", &["-dict=fuzz/gguf.dict", "-max_len=65536"]),
    ("gguf_inspect", &["-dict=fuzz/gguf.dict", "-max_len=65536"]),
    ("http_request", &["-max_len=8192"]),
    ("model_reference", &[]),
    ("published_model", &["-max_len=16384", "-rss_limit_mb=2048"]),
    ("schema", &["-max_len=4096", "-rss_limit_mb=2048"]),
    ("worker_frames", &["-max_len=65536", "-rss_limit_mb=2048"]),
];
const MANIFEST: &str = "fuzz/Cargo.toml";
/// Coverage for the fuzzer, and a sanitizer.
const FLAGS: &str = "RUSTFLAGS=--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Zsanitizer=address \
                     -Ccodegen-units=1";

/// Runs the targets for so long each, beginning with what the seeds and earlier runs have found: all, or the named one.
pub(crate) fn run(tree: &Tree, only: Option<&str>, seconds: u32) -> Result<()> {
    let is_wanted = |target: &str| only.is_none_or(|only| only == target);
    ensure!(
        TARGETS.iter().any(|(target, _)| is_wanted(target)),
        "no such fuzz target; there are {}",
        TARGETS.map(|(target, _)| target).join(", ")
    );
    let time = format!("-max_total_time={seconds}");
    if !process::works("rustup", &["run", "nightly", "rustc", "--version"]) {
        bail!("NOTHING WAS FUZZED: the nightly toolchain is missing (`rustup toolchain install nightly`)");
    }
    let version = process::output("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let seeds = ["run", "--release", "--manifest-path", MANIFEST, "--bin", "seeds"];
    process::run(tree.root(), "cargo", &seeds)?;
    for (target, inputs) in TARGETS.into_iter().filter(|(target, _)| is_wanted(target)) {
        let corpus = format!("fuzz/corpus/{target}");
        let artifacts = format!("fuzz/artifacts/{target}/");
        for folder in [&corpus, &artifacts] {
            fs_err::create_dir_all(tree.root().join(folder))?;
        }
        let artifacts = format!("-artifact_prefix={artifacts}");
        let build =
            [FLAGS, "rustup", "run", "nightly", "cargo", "run", "--release", "--manifest-path", MANIFEST];
        let line = [&build[..], &["--target", host, "--bin", target, "--", &time, &artifacts], inputs];
        process::run(tree.root(), "env", &[&line.concat()[..], &[corpus.as_str()]].concat())
            .with_context(|| format!("{target}: what it failed on lies in fuzz/artifacts/{target}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_there_is_is_run() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets");
        let mut there: Vec<String> = fs_err::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        there.sort_unstable();
        assert_eq!(there, TARGETS.map(|(target, _)| format!("{target}.rs")));
    }
}
