//! llama.cpp's own tools: what a user would pick instead. Built elsewhere, from the version that this workspace links.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::samples::Samples;
use super::stream;
use super::subject::Server;
use crate::process;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// llama.cpp's `llama-bench`; without it, comparisons with it are left out
    #[arg(long = "llama-bench", value_name = "PATH")]
    bench: Option<PathBuf>,
    /// llama.cpp's `llama-batched-bench`
    #[arg(long = "llama-batched-bench", value_name = "PATH")]
    batched_bench: Option<PathBuf>,
    /// llama.cpp's `llama-server`
    #[arg(long = "llama-server", value_name = "PATH")]
    server: Option<PathBuf>,
    /// A Python that has `huggingface_hub`
    #[arg(long, value_name = "PATH")]
    pub(crate) hub_python: Option<PathBuf>,
    /// A Python that has what llama.cpp's converter imports; without it, comparisons with it are left out
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// llama.cpp's source folder, with `convert_hf_to_gguf.py`
    #[arg(long = "llama-cpp", value_name = "PATH")]
    source: Option<PathBuf>,
    /// llama.cpp's `llama-quantize`
    #[arg(long = "llama-quantize", value_name = "PATH")]
    quantize: Option<PathBuf>,
}

/// What splits texts in the only published model of ours with byte pairs, by llama.cpp's name.
const SPLIT: &str = "qwen2";

/// How a peer is to run a model.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The GGUF file.
    pub(crate) model: &'a Path,
    /// Threads of a decode step.
    pub(crate) threads: u32,
    /// Let llama.cpp repack weights for the CPU, which is its default.
    pub(crate) repacks: bool,
}

impl Arguments {
    /// Prefill of one sequence in tokens per second, the median of `repeat`.
    pub(crate) fn prefill(&self, setup: Setup<'_>, prompt: u32, repeat: u32) -> Result<f64> {
        let tool = named(self.bench.as_deref(), "--llama-bench")?;
        let model = setup.model.to_string_lossy();
        let [threads, prompt, repeat] = [setup.threads, prompt, repeat].map(|number| number.to_string());
        let repack = if setup.repacks { "1" } else { "0" };
        let line = [
            "-m", &model, "-t", &threads, "-p", &prompt, "-n", "0", "-r", &repeat, "--repack", repack, "-o",
            "json",
        ];
        let rows: Value = serde_json::from_str(&process::output(&tool, &line)?)?;
        let speeds = rows[0]["samples_ts"].as_array().context("llama-bench told no speed")?;
        Ok(speeds.iter().filter_map(Value::as_f64).collect::<Samples>().median())
    }

    /// Decode of several sequences at once, all tokens of all per second, the median of `repeat`, in the order of
    /// `sequences`.
    pub(crate) fn decode(
        &self,
        setup: Setup<'_>,
        prompt: u32,
        decode: u32,
        sequences: &[u32],
        repeat: u32,
    ) -> Result<Vec<f64>> {
        let tool = named(self.batched_bench.as_deref(), "--llama-batched-bench")?;
        let model = setup.model.to_string_lossy();
        let most = sequences.iter().max().copied().unwrap_or(1);
        let [threads, context] = [setup.threads, most * (prompt + decode)].map(|number| number.to_string());
        let [prompt, decode] = [prompt, decode].map(|number| number.to_string());
        let counts: Vec<String> =
            sequences.iter().flat_map(|count| (0..repeat).map(|_| count.to_string())).collect();
        let counts = counts.join(",");
        let mut line = vec![
            "-m",
            &model,
            "-t",
            &threads,
            "-c",
            &context,
            "-npp",
            &prompt,
            "-ntg",
            &decode,
            "-npl",
            &counts,
            "--output-format",
            "jsonl",
        ];
        if !setup.repacks {
            line.push("--no-repack");
        }
        let printed = process::output(&tool, &line)?;
        let rows = printed.lines().filter(|line| line.trim_start().starts_with('{'));
        let speeds: Vec<f64> = rows
            .map(|row| {
                let row: Value = serde_json::from_str(row)?;
                row["speed_tg"].as_f64().context("llama-batched-bench told no speed")
            })
            .collect::<Result<_>>()?;
        anyhow::ensure!(
            speeds.len() == sequences.len() * repeat as usize,
            "llama-batched-bench left a line out"
        );
        Ok(speeds
            .chunks(repeat as usize)
            .map(|chunk| chunk.iter().copied().collect::<Samples>().median())
            .collect())
    }

    /// Starts `llama-server` with this many slots and waits until it is ready.
    pub(crate) fn serve(&self, setup: Setup<'_>, slots: u32, context: u32) -> Result<Server> {
        self.start(setup, slots, context, &[])
    }

    /// The same for vectors alone.
    pub(crate) fn embed(&self, setup: Setup<'_>, slots: u32, context: u32) -> Result<Server> {
        self.start(setup, slots, context, &["--embeddings"])
    }

    fn start(&self, setup: Setup<'_>, slots: u32, context: u32, more: &[&str]) -> Result<Server> {
        let tool = named(self.server.as_deref(), "--llama-server")?;
        let address = stream::free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let (threads, slots, context) =
            (setup.threads.to_string(), slots.to_string(), (slots * context).to_string());
        let mut command = Command::new(tool);
        command.arg("-m").arg(setup.model);
        command.args(["-t", &threads, "-np", &slots, "-c", &context, "--host", host, "--port", port]);
        command.args(more);
        if !setup.repacks {
            command.arg("--no-repack");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Server::wait_for(child, &address, "/health")
    }

    /// llama.cpp's converter, called by `program`, not started yet: a folder in safetensors becomes a GGUF file.
    pub(crate) fn convert(
        &self,
        program: &Path,
        folder: &str,
        target: &Path,
        format: &str,
    ) -> Result<Command> {
        let python = named(self.python.as_deref(), "--python")?;
        let source = named(self.source.as_deref(), "--llama-cpp")?;
        let mut command = Command::new(python);
        command.arg(program).arg(source).args([SPLIT, folder]);
        command.arg("--outfile").arg(target).args(["--outtype", format]);
        Ok(command)
    }

    /// `llama-quantize`, not started yet, with as many threads as it takes by itself.
    pub(crate) fn quantize(&self, source: &Path, target: &Path, format: &str) -> Result<Command> {
        let mut command = Command::new(named(self.quantize.as_deref(), "--llama-quantize")?);
        command.arg(source).arg(target).arg(format);
        Ok(command)
    }

    /// Starts `llama-server` as a router over a folder of models, of which it keeps `loaded` in memory.
    pub(crate) fn route(&self, folder: &Path, loaded: u32, setup: Setup<'_>, context: u32) -> Result<Server> {
        let tool = named(self.server.as_deref(), "--llama-server")?;
        let address = stream::free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let (threads, context, loaded) = (setup.threads.to_string(), context.to_string(), loaded.to_string());
        let mut command = Command::new(tool);
        command.arg("--models-dir").arg(folder).args(["--models-max", &loaded]);
        command.args(["-t", &threads, "-np", "1", "-c", &context, "--host", host, "--port", port]);
        if !setup.repacks {
            command.arg("--no-repack");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Server::wait_for_all_below(child, &address, "/health")
    }

    /// Version of the first tool that tells one.
    pub(crate) fn version(&self) -> Option<String> {
        let tool = self.server.as_ref()?;
        let output = Command::new(tool).arg("--version").output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        text.lines().find(|line| line.starts_with("version")).map(str::to_owned)
    }
}

fn named(path: Option<&Path>, flag: &str) -> Result<String> {
    path.map(|path| path.to_string_lossy().into_owned()).with_context(|| format!("{flag} PATH was not given"))
}
