//! A download from a hub on this machine: `samovar pull` against curl, and against the hub's own Python client.
//!
//! curl writes what comes and looks at nothing; `pull` hashes every byte and syncs the file before it counts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::hub::{Hub, REPOSITORY};
use super::super::samples::Samples;
use super::super::subject::{Home, milliseconds};

const FILE: &str = "big-Q8_0.gguf";

/// What to fetch.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Size of the file.
    bytes: u64,
}

/// Fetches the file by each side in turn.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let folder = tempfile::tempdir_in(bench.tree.target()?)?;
    let file = folder.path().join(FILE);
    write_noise(&file, plan.bytes)?;
    let hub = Hub::of(bench.programs, FILE, &file)?;
    let [mut ours, mut curl, mut python, mut copy] = [const { Samples::new() }; 4];
    for _ in 0..bench.rounds {
        ours.push(pull(bench, &hub)?);
        curl.push(by_curl(&hub, folder.path())?);
        copy.push(by_copying(&file, folder.path())?);
        if let Some(program) = &bench.peers.hub_python {
            python.push(by_python(program, &hub, folder.path())?);
        }
    }
    let case = format!("{} MB", plan.bytes / 1_000_000);
    let record = &mut bench.record;
    for (side, samples) in
        [("samovar pull", &ours), ("curl", &curl), ("huggingface_hub", &python), ("cp with sync", &copy)]
    {
        if samples.values().is_empty() {
            record.skip(side, "--hub-python PYTHON was not given".to_owned());
            continue;
        }
        record.series(&case, side, "ms", samples);
        record.figure(&case, side, "MB/s", plan.bytes as f64 / samples.median() / 1e3, None);
    }
    record.figure(&case, "samovar pull ÷ curl, time", "×", ours.median() / curl.median(), None);
    if !python.values().is_empty() {
        let ratio = ours.median() / python.median();
        record.figure(&case, "samovar pull ÷ huggingface_hub, time", "×", ratio, None);
    }
    Ok(())
}

/// Bytes that nothing can compress.
fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let status = Command::new("head")
        .args(["-c", &bytes.to_string(), "/dev/urandom"])
        .stdout(fs_err::File::create(path)?.into_parts().0)
        .status()?;
    ensure!(status.success(), "the file to fetch could not be made");
    Ok(())
}

fn pull(bench: &Bench<'_>, hub: &Hub) -> Result<f64> {
    let home = Home::new(bench, &[], "")?;
    let reference = format!("hf://{REPOSITORY}:Q8_0");
    timed(home.command(&["pull", &reference]).env("HF_ENDPOINT", &hub.endpoint))
}

fn by_curl(hub: &Hub, folder: &Path) -> Result<f64> {
    let target = folder.join("by-curl");
    let url = format!("{}/{REPOSITORY}/resolve/main/{FILE}", hub.endpoint);
    let took = timed(Command::new("curl").args(["-sSfL", "-o"]).arg(&target).arg(url))?;
    fs_err::remove_file(target)?;
    Ok(took)
}

/// What reading, writing and syncing the file costs on this disk.
fn by_copying(file: &Path, folder: &Path) -> Result<f64> {
    let target = folder.join("by-copying");
    let (from, to) = (format!("if={}", file.display()), format!("of={}", target.display()));
    let took = timed(Command::new("dd").args([&from, &to, "bs=1M", "conv=fsync", "status=none"]))?;
    fs_err::remove_file(target)?;
    Ok(took)
}

fn by_python(program: &Path, hub: &Hub, folder: &Path) -> Result<f64> {
    let cache = folder.join("by-python");
    let code = format!("import huggingface_hub as h; h.hf_hub_download('{REPOSITORY}', '{FILE}')");
    let mut command = Command::new(program);
    command.args(["-c", &code]).env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", &cache);
    command.env("HF_HUB_DISABLE_PROGRESS_BARS", "1").env("HF_HUB_DISABLE_TELEMETRY", "1");
    let took = timed(&mut command)?;
    fs_err::remove_dir_all(cache)?;
    Ok(took)
}

fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let took = milliseconds(began.elapsed());
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(took)
}
