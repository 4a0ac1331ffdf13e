//! One file a verb. Each takes its arguments, asks the daemon or the runtime, and hands the answer to the report.

mod adopt;
mod answer;
mod backend;
mod chat;
mod completions;
mod config;
mod constraint;
mod df;
mod doctor;
mod embed;
mod export;
mod follow;
mod gc;
mod history;
mod import;
mod key;
mod link;
mod list;
mod migrate;
mod outlook;
mod pack;
mod pin;
mod plan;
mod prepare;
mod probe;
mod ps;
mod pull;
mod reference;
mod rerank;
mod rm;
mod rpc;
mod run;
mod serve;
mod show;
mod shutdown;
mod stats;
mod stop;
mod stored;
mod texts;
mod tokenize;
mod top;
mod usage;
mod vectors;
mod verify;
mod warm;
mod why;
pub(crate) mod worker;

use std::sync::{Arc, Once};

use samovar_core::Failure;

use crate::args::{Arguments, Key, KeyAction, Verb};
use crate::client::{Client, Connection};
use crate::daemon::start;
use crate::ended::Ended;
use crate::exposure;
use crate::report::Report;
use crate::settings::{Settings, Watched};

/// What every verb is given.
pub(crate) struct Context {
    /// What is in force.
    pub(crate) settings: Settings,
    /// The configuration file of a daemon, which may change while it runs.
    pub(crate) watched: Option<Arc<Watched>>,
    /// Where the output goes.
    pub(crate) report: Report,
    /// That the daemon is of another version is said once.
    pub(crate) skew_note: Once,
}

impl Context {
    fn client(&self) -> Client {
        Client::new(self.settings.socket.clone())
    }

    /// A daemon that is there already.
    async fn running_daemon(&self) -> Result<Connection, Failure> {
        self.client().connect_or_fail().await
    }

    /// The daemon, started when there is none.
    async fn daemon(&self) -> Result<Connection, Failure> {
        let progress = self.report.progress();
        let connection = start::ensure(&self.settings, || progress.say("Starting the daemon")).await?;
        drop(progress);
        self.skew_note.call_once(|| {
            if let Some(skew) = start::skew(&self.settings) {
                self.report.note(&format!("note: {skew}"));
            }
        });
        Ok(connection)
    }
}

/// Refuses places that others could change. Verbs that only look say it and go on.
fn guard(context: &Context, verb: &Verb) -> Result<(), Failure> {
    // The directories are what `doctor` looks at itself; the others touch none of them.
    if matches!(
        verb,
        Verb::Doctor(_) | Verb::Completions { .. } | Verb::Reference { .. } | Verb::Probe | Verb::Worker(_)
    ) {
        return Ok(());
    }
    if !matches!(verb, Verb::Config(_)) {
        for sentence in context.settings.unknown_variables() {
            context.report.note(&format!("note: {sentence}"));
        }
    }
    let Err(failure) = exposure::check(&context.settings) else { return Ok(()) };
    let only_looks = matches!(
        verb,
        Verb::List
            | Verb::Show(_)
            | Verb::Df
            | Verb::Ps
            | Verb::Stats
            | Verb::Usage(_)
            | Verb::Why(_)
            | Verb::Plan(_)
            | Verb::Config(_)
            | Verb::Key(Key { action: KeyAction::List })
            | Verb::Link(_)
            | Verb::Shutdown(_)
    );
    if !only_looks {
        return Err(failure);
    }
    let hint = failure.hint.map_or_else(String::new, |hint| format!(": {hint}"));
    context.report.note(&format!("note: {}{hint}", failure.message));
    Ok(())
}

/// Does what the command line says.
///
/// # Errors
/// However the verb ended early.
pub(crate) async fn dispatch(context: Context, arguments: Arguments) -> Result<(), Ended> {
    let context = &context;
    guard(context, &arguments.verb)?;
    match arguments.verb {
        Verb::Run(run) => run::execute(context, run).await,
        Verb::Chat(chat) => chat::execute(context, chat).await,
        Verb::History(asked) => history::execute(context, &asked),
        Verb::Embed(embed) => embed::execute(context, embed).await,
        Verb::Rerank(rerank) => rerank::execute(context, rerank).await,
        Verb::Tokenize(tokenize) => tokenize::execute(context, tokenize).await,
        Verb::Serve(serve) => serve::execute(context, serve).await,
        Verb::Pull(pull) => pull::execute(context, pull).await,
        Verb::List => list::execute(context).await,
        Verb::Show(named) => show::execute(context, &named.model).await,
        Verb::Rm(rm) => rm::execute(context, rm).await,
        Verb::Df => df::execute(context).await,
        Verb::Gc(gc) => gc::execute(context, &gc).await,
        Verb::Verify(verify) => verify::execute(context, verify).await,
        Verb::Adopt(adopt) => adopt::execute(context, adopt).await,
        Verb::Migrate(migrate) => migrate::execute(context, migrate).await,
        Verb::Link(link) => link::execute(context, link).await,
        Verb::Export(export) => export::execute(context, export).await,
        Verb::Import(import) => import::execute(context, import).await,
        Verb::Ps => ps::execute(context).await,
        Verb::Top(top) => top::execute(context, &top).await,
        Verb::Warm(warm) => warm::execute(context, warm).await,
        Verb::Stop(stop) => stop::execute(context, stop).await,
        Verb::Shutdown(shutdown) => shutdown::execute(context, &shutdown).await,
        Verb::Prepare(prepare) => prepare::execute(context, prepare).await,
        Verb::Pack(pack) => pack::execute(context, pack).await,
        Verb::Pin(named) => pin::execute(context, &named.model, true).await,
        Verb::Unpin(named) => pin::execute(context, &named.model, false).await,
        Verb::Stats => stats::execute(context).await,
        Verb::Usage(usage) => usage::execute(context, usage).await,
        Verb::Why(named) => why::execute(context, &named.model).await,
        Verb::Plan(plan) => plan::execute(context, plan).await,
        Verb::Rpc => rpc::execute(context).await,
        Verb::Config(config) => config::execute(context, &config).await,
        Verb::Key(key) => key::execute(context, key.action).await,
        Verb::Doctor(doctor) => doctor::execute(context, &doctor).await,
        Verb::Completions { shell } => completions::execute(context, shell),
        Verb::Reference { topic } => reference::execute(context, topic),
        Verb::Probe => probe::execute(context).await,
        Verb::Worker(worker) => worker::execute(&worker),
    }
}
