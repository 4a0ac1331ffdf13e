//! The command line: verbs, arguments, flags. Parses and explains; decides nothing.

mod answer;
mod embed;
mod history;
mod key;
mod moving;
mod plan;
mod store;
mod usage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use samovar_core::Quantization;
use samovar_core::units::TimeSpan;

pub(crate) use answer::{Chat, Form, Generation, Run};
pub(crate) use embed::{Embed, InputForm, Rerank, TextSource, Tokenize, VectorForm, WorkTerms};
pub(crate) use history::{ExportForm, History, KeptChat};
pub(crate) use key::{AddKey, Key, KeyAction};
pub(crate) use moving::{Link, Migrate};
pub(crate) use plan::Plan;
pub(crate) use store::{Adopt, Export, Gc, Import, Pull, Rm, Verify};
pub(crate) use usage::Usage;

use crate::settings::Flags;

const AFTER_HELP: &str = "\
Examples:
  samovar run \"Tell me a story about a fox\"
  samovar run ./model.gguf \"What is a samovar?\"
  samovar run hf://org/name:Q4_K_M \"What is a samovar?\"
  cat notes.txt | samovar run -m ./model.gguf \"Summarise this:\" -
  samovar chat
  samovar embed ./embedder.gguf --file notes.txt > vectors.jsonl
  samovar serve --listen 127.0.0.1:7266

Files live below SAMOVAR_HOME, or in the XDG directories. `samovar config` shows every setting.";

/// Load a language model once, and serve every request from that one copy.
#[derive(Debug, Parser)]
#[command(name = "samovar", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Read this configuration file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere", value_hint = clap::ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Keep everything below this directory
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere", value_hint = clap::ValueHint::DirPath)]
    pub(crate) home: Option<PathBuf>,
    /// The daemon's Unix socket
    #[arg(long, global = true, value_name = "PATH", help_heading = "Everywhere", value_hint = clap::ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON, also for errors
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask a model for one answer
    Run(Run),
    /// Talk with a model
    Chat(Chat),
    /// List, search, show, export and delete conversations
    History(History),
    /// Turn texts into vectors
    Embed(Embed),
    /// Sort documents by how well they answer a query
    Rerank(Rerank),
    /// Show the token ids of texts
    Tokenize(Tokenize),
    /// Run the daemon in the foreground
    Serve(Serve),
    /// Fetch models to the disk
    Pull(Pull),
    /// List models: built in, configured, on disk
    #[command(visible_alias = "ls")]
    List,
    /// Show one model in detail; of one that is not here, what fits
    Show(Named),
    /// Remove models from the disk
    Rm(Rm),
    /// Show the disk space that models use
    Df,
    /// Free disk space: remove models beyond the quota, or unused for a long time
    Gc(Gc),
    /// Check models on disk against their digests
    Verify(Verify),
    /// Share models that other programs have downloaded, without a second copy
    Adopt(Adopt),
    /// Take over models of another program with their names and settings
    Migrate(Migrate),
    /// Show or write the settings with which other programs use this daemon
    Link(Link),
    /// Write models into a folder, to move them to another machine
    Export(Export),
    /// Import models from a folder that `export` wrote
    Import(Import),
    /// Show the models that the daemon holds in memory
    Ps,
    /// Watch memory, models, requests and decisions as they change
    Top(Top),
    /// Load models now, so that the next request does not wait
    Warm(Warm),
    /// Convert models published in safetensors now, so that later loads map them
    Prepare(Prepare),
    /// Pack models' weights for this CPU now, and measure which layout is fastest
    Pack(Pack),
    /// Unload models; the daemon keeps running
    Stop(StopModel),
    /// Stop the daemon
    Shutdown(Shutdown),
    /// Keep a model in memory and on disk
    Pin(Named),
    /// Allow a pinned model to leave
    Unpin(Named),
    /// Show counters of each tier: memory, disk, sources
    Stats,
    /// Show requests and tokens by client, model and day
    Usage(Usage),
    /// Show why a model was loaded, evicted or refused
    Why(Named),
    /// Show what another memory budget or eviction policy would have done with your requests
    Plan(Plan),
    /// Speak JSON-RPC 2.0 on standard input and output
    Rpc,
    /// Show every setting and where it came from
    Config(Config),
    /// Make, list, replace and remove the keys that requests over HTTP need
    Key(Key),
    /// Check that everything works here
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a page of the reference as Markdown, or the OpenAPI document
    #[command(hide = true)]
    Reference {
        /// Which page
        topic: Topic,
    },
    /// Run one inference and report the result; `doctor` runs this in its own process, because it may crash
    #[command(hide = true)]
    Probe,
    /// Run one model for the daemon, which starts this process
    #[command(hide = true)]
    Worker(Worker),
}

/// Arguments of `worker`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Worker {
    /// The filter of its log on standard error
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

/// Arguments of `serve`.
#[derive(Args, Debug, Default)]
pub(crate) struct Serve {
    /// Models to load at the start
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) models: Vec<String>,
    /// Address to listen on for HTTP, such as 127.0.0.1:7266
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Port to listen on, at the configured address or on loopback; 0 = any free port
    #[arg(long, short = 'p', value_name = "PORT", conflicts_with = "listen", allow_negative_numbers = true, value_parser = port)]
    pub(crate) port: Option<u16>,
    /// Also listen where Ollama's clients look: at `server.ollama_address`, or `OLLAMA_HOST`, or 127.0.0.1:11434
    #[arg(long)]
    pub(crate) as_ollama: bool,
    /// Memory for all models together, such as 4GB or 50%
    #[arg(long, value_name = "SIZE")]
    pub(crate) budget: Option<String>,
    /// Exit after this time without a request, such as 30m; 0 = never
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_exit: Option<String>,
    /// Serve other machines although there is no key
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// Started by `run`: detached, silent, logs to a file
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

/// A model's name.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// A name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: String,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys: arrows or j and k select a model, w warms it, u unloads it, p pins it or lets it go, y shows why the pool
did what it did; ? lists all keys, q quits. In a pipe, the table is printed once.")]
pub(crate) struct Top {
    /// Print the table once, also on a terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// Arguments of `warm`.
#[derive(Args, Debug)]
pub(crate) struct Warm {
    /// Names, paths such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", required = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) models: Vec<String>,
    /// Also pin them, so that they are not unloaded
    #[arg(long)]
    pub(crate) pin: bool,
}

/// Arguments of `prepare`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar prepare org/name                     16-bit floats, or as chosen last
  samovar prepare org/name --quantize Q4_K_M   a third of the size; the model's own from then on
  samovar prepare ./folder                     a folder with config.json and *.safetensors
The first request for such a model prepares it, too.")]
pub(crate) struct Prepare {
    /// Names, folders such as ./model, or `org/name`
    #[arg(value_name = "MODEL", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) models: Vec<String>,
    /// Number format of the weights: `none`, `F16`, `Q8_0`, `Q6_K`, `Q5_K_M` or `Q4_K_M`; `none` = as published
    #[arg(long, value_name = "FORMAT", value_parser = quantization)]
    pub(crate) quantize: Option<Quantization>,
}

/// Arguments of `pack`.
#[derive(Args, Debug)]
pub(crate) struct Pack {
    /// Names, paths such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", required = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) models: Vec<String>,
}

/// Arguments of `stop`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct StopModel {
    /// Names, paths such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) models: Vec<String>,
    /// Every model
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `shutdown`.
#[derive(Args, Debug)]
pub(crate) struct Shutdown {
    /// Time for running requests to finish; default: as configured
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<TimeSpan>,
}

/// Arguments of `config`.
#[derive(Args, Debug)]
pub(crate) struct Config {
    /// Print a samovar.toml with every setting, commented out
    #[arg(long, conflicts_with = "reload")]
    pub(crate) template: bool,
    /// Make the daemon read its configuration again; shows what changed and what needs a restart
    #[arg(long)]
    pub(crate) reload: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Skip the check that runs a model
    #[arg(long)]
    pub(crate) quick: bool,
    /// Also check whether the hub answers
    #[arg(long)]
    pub(crate) network: bool,
}

/// A page of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// Every verb with its arguments.
    Cli,
    /// `samovar.toml`.
    Config,
    /// Variables.
    Env,
    /// Kinds, exit codes, HTTP statuses.
    Errors,
    /// Prometheus metrics.
    Metrics,
    /// Routes.
    Http,
    /// Routes as an OpenAPI document, in JSON.
    #[value(name = "openapi")]
    OpenApi,
}

impl Arguments {
    /// What the flags say about settings.
    pub(crate) fn flags(&self) -> Flags {
        let mut values: Vec<(&'static str, &'static str, String)> = Vec::new();
        let mut set = |flag, path, value: Option<String>| {
            if let Some(value) = value {
                values.push((flag, path, value));
            }
        };
        let socket = self.global.socket.as_ref().map(|path| path.to_string_lossy().into_owned());
        set("--socket", "server.socket", socket);
        if let Verb::Serve(serve) = &self.verb {
            set("--listen", "server.listen", serve.listen.clone());
            set("--port", "server.listen", serve.port.map(|port| port.to_string()));
            set("--budget", "pool.budget_bytes", serve.budget.clone());
            set("--idle-exit", "server.idle_exit", serve.idle_exit.clone());
        }
        if let Verb::Gc(gc) = &self.verb {
            let days = |text: &String| text.strip_suffix('d').unwrap_or(text).to_owned();
            set("--max-size", "cache.max_size_bytes", gc.max_size.clone());
            set("--max-age", "cache.max_age_days", gc.max_age.as_ref().map(days));
        }
        Flags { home: self.global.home.clone(), config: self.global.config.clone(), values }
    }
}

fn quantization(text: &str) -> Result<Quantization, String> {
    let names = || Quantization::ALL.map(Quantization::as_str).join(", ");
    Quantization::named(text).ok_or_else(|| format!("write one of {}", names()))
}

fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("write a whole number from {least} to {most}"))
}

fn tokens(text: &str) -> Result<u32, String> {
    whole(text, 1, u32::MAX)
}

fn count(text: &str) -> Result<u32, String> {
    whole(text, 0, u32::MAX)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("write a port from 0 to {}; 0 = any that is free", u16::MAX))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_verb_and_argument_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
