//! The `samovar` binary: parse, settle, do what the verb says.
//!
//! ```text
//!   args ─► settings (flags > environment > file > defaults) ─► command/VERB ─► report
//!                                                                 │
//!                              daemon (client over a Unix socket) ┴ or a runtime in this process
//! ```
//!
//! Nothing here knows how models are loaded or answered: that is the library's.
#![forbid(unsafe_code)]

mod args;
mod client;
mod command;
mod daemon;
mod edit;
mod ended;
mod exit_code;
mod exposure;
mod home;
mod link;
mod migrate;
mod place;
mod report;
mod settings;
mod usage;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Once;

use clap::Parser;
use samovar::worker::sandbox;
use samovar_core::{ErrorKind, Failure};

use args::{Arguments, Verb};
use ended::Ended;
use report::Report;
use settings::{Environment, Watched};

/// Counts what a chat template allocates in a worker.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: samovar::worker::Ration = samovar::worker::Ration;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, &environment),
    };
    let report = Report::new(arguments.global.json, &environment);
    match obey(arguments, &environment, report.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            if let Ended::Failed(failure) = &ended {
                report.failure(failure);
            }
            ExitCode::from(ended.exit_code())
        }
    }
}

fn obey(arguments: Arguments, environment: &Environment, report: Report) -> Result<(), Ended> {
    if let Verb::Worker(worker) = &arguments.verb {
        // Settings are the daemon's; and a sandbox is entered before any thread exists.
        return command::worker::execute(worker);
    }
    if let Verb::Serve(serve) = &arguments.verb
        && serve.background
    {
        // Away from the terminal of the process that started us, before any thread exists. Fails only for the leader
        // of a process group, which is away already.
        rustix::process::setsid().ok();
    }
    if holds_what_was_said(&arguments.verb) {
        // No other process of the same user reads what is asked and answered. A kernel that refuses leaves it as it was.
        sandbox::forbid_inspection().ok();
    }
    let settings = settings::settle(&arguments.flags(), environment)?;
    let watched = match &arguments.verb {
        Verb::Serve(_) => Some(Watched::new(&settings, &arguments.flags(), environment)?),
        _ => None,
    };
    let runtime = asynchronous(&arguments.verb)?;
    let context = command::Context { settings, watched, report, skew_note: Once::new() };
    // Without its type: the compiler copies the code of every verb for each of tokio's schedulers otherwise.
    let verb: Pin<Box<dyn Future<Output = Result<(), Ended>>>> =
        Box::pin(command::dispatch(context, arguments));
    let ended = runtime.block_on(verb);
    // A thread may still wait for standard input; the process ends without it.
    runtime.shutdown_background();
    ended
}

/// Whether this process answers for models, of any client.
fn holds_what_was_said(verb: &Verb) -> bool {
    match verb {
        Verb::Serve(_) => true,
        Verb::Run(run) => run.generation.no_daemon,
        Verb::Chat(chat) => chat.generation.no_daemon,
        Verb::Embed(embed) => embed.terms.no_daemon,
        Verb::Rerank(rerank) => rerank.terms.no_daemon,
        Verb::Tokenize(tokenize) => tokenize.terms.no_daemon,
        _ => false,
    }
}

/// Models run beside many threads, and so do downloads; asking a daemon needs one.
fn asynchronous(verb: &Verb) -> Result<tokio::runtime::Runtime, Failure> {
    let is_busy = match verb {
        Verb::Serve(_) | Verb::Pull(_) | Verb::Probe => true,
        Verb::Run(run) => run.generation.no_daemon,
        Verb::Chat(chat) => chat.generation.no_daemon,
        Verb::Embed(embed) => embed.terms.no_daemon,
        Verb::Rerank(rerank) => rerank.terms.no_daemon,
        Verb::Tokenize(tokenize) => tokenize.terms.no_daemon,
        _ => false,
    };
    let mut builder = if is_busy {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build().map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("could not start: {error}"))
            .with_hint("the system may be out of threads or file descriptors")
    })
}

/// What was not understood. Help and version are clap's to print.
fn refuse(error: &clap::Error, environment: &Environment) -> ExitCode {
    match usage::failure(error) {
        Some(failure) => {
            // Nothing was parsed that could say it.
            let is_json = std::env::args_os().any(|argument| argument == "--json");
            Report::new(is_json, environment).failure(&failure);
        }
        // The stream that it goes to may be closed.
        None => {
            error.print().ok();
        }
    }
    if error.use_stderr() {
        ExitCode::from(exit_code::of(ErrorKind::InvalidRequest))
    } else {
        ExitCode::SUCCESS
    }
}
