//! Measurements, one a file: each reads its plan from a scenario and fills a record.

mod apis;
mod attacks;
mod busy;
mod chat_cost;
mod chats;
mod crowd;
mod download;
mod drafts;
mod embeddings;
mod isolation;
mod kept_prefix;
mod layouts;
mod lookup;
mod many_artifacts;
mod memory;
mod outlook;
mod overload;
mod policies;
mod prepare;
mod shared_prefix;
mod shell_loop;
mod speed;
mod stampede;
mod step;
mod structured;
mod switch;
mod warm_start;
mod wire;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Bench;

/// A measurement with its plan, as a scenario names it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "measure", content = "plan", rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Runs in a loop against loading each time.
    ShellLoop(shell_loop::Parameters),
    /// Many first requests at once.
    Stampede(stampede::Parameters),
    /// A slot of a model that is ready, among many models.
    Lookup(lookup::Parameters),
    /// One decision of a pool in which everything is busy.
    Step(step::Parameters),
    /// Eviction policies on synthetic traces.
    Policies(policies::Parameters),
    /// Tokens per second of the engine.
    Speed(speed::Parameters),
    /// What HTTP adds to a token.
    Wire(wire::Parameters),
    /// Requests at once that begin alike.
    SharedPrefix(shared_prefix::Parameters),
    /// A long prompt again, after eviction and restart.
    KeptPrefix(kept_prefix::Parameters),
    /// The ways in which weights can lie in memory.
    Layouts(layouts::Parameters),
    /// Memory of processes, and of a parked model.
    Memory(memory::Parameters),
    /// The store with thousands of artifacts.
    ManyArtifacts(many_artifacts::Parameters),
    /// A file of thousands of conversations.
    Chats(chats::Parameters),
    /// A fetch from a hub on this machine.
    Download(download::Parameters),
    /// First tokens after switches between two models.
    Switch(switch::Parameters),
    /// Many users of one model.
    Crowd(crowd::Parameters),
    /// A worker against the same engine in the daemon.
    Isolation(isolation::Parameters),
    /// A conversation against the same text, and the sandbox against none.
    ChatCost(chat_cost::Parameters),
    /// The same small request by every API, and with a key.
    Apis(apis::Parameters),
    /// A client beside an attacker.
    Attacks(attacks::Parameters),
    /// Beside other programs, and other models.
    Busy(busy::Parameters),
    /// Far more requests than can be served.
    Overload(overload::Parameters),
    /// Vectors of texts.
    Embeddings(embeddings::Parameters),
    /// JSON against text, and drafts against none.
    Structured(structured::Parameters),
    /// A draft model against none.
    Drafts(drafts::Parameters),
    /// A new process with its model on disk.
    WarmStart(warm_start::Parameters),
    /// A published model becomes one that is mapped.
    Prepare(prepare::Parameters),
    /// Forecasts of tokens per second.
    Outlook(outlook::Parameters),
}

impl Measure {
    /// Whether it measures one model or attack after the other.
    const fn has_cases(&self) -> bool {
        !matches!(
            self,
            Self::Lookup(_)
                | Self::Step(_)
                | Self::Policies(_)
                | Self::ManyArtifacts(_)
                | Self::Chats(_)
                | Self::Switch(_)
                | Self::Overload(_)
                | Self::Download(_)
        )
    }
}

/// Carries one out. A case that cannot be measured is recorded as skipped, and the others go on.
pub(crate) fn run(bench: &mut Bench<'_>, measure: &Measure) -> Result<()> {
    ensure!(
        bench.only.is_empty() || measure.has_cases(),
        "`--only` chooses models or attacks, and this scenario has none to choose from"
    );
    match measure {
        Measure::ShellLoop(plan) => {
            for case in &plan.case {
                if bench.is_wanted(&case.name) {
                    let outcome = shell_loop::measure(bench, plan, case);
                    note(bench, &case.name, outcome);
                }
            }
        }
        Measure::Speed(plan) => speed::run(bench, plan),
        Measure::Lookup(plan) => return lookup::run(bench, plan),
        Measure::Step(plan) => return step::run(bench, plan),
        Measure::Policies(plan) => return policies::run(bench, plan),
        Measure::ManyArtifacts(plan) => return many_artifacts::run(bench, plan),
        Measure::Chats(plan) => return chats::run(bench, plan),
        Measure::Switch(plan) => return switch::run(bench, plan),
        Measure::Attacks(plan) => return attacks::run(bench, plan),
        Measure::Overload(plan) => return overload::run(bench, plan),
        Measure::Download(plan) => return download::run(bench, plan),
        Measure::Embeddings(plan) => return embeddings::run(bench, plan),
        Measure::Stampede(plan) => {
            each(bench, &plan.models, |bench, model| stampede::measure(bench, plan, model));
        }
        Measure::Wire(plan) => each(bench, &plan.models, |bench, model| wire::measure(bench, plan, model)),
        Measure::SharedPrefix(plan) => {
            each(bench, &plan.models, |bench, model| shared_prefix::measure(bench, plan, model));
        }
        Measure::KeptPrefix(plan) => {
            each(bench, &plan.models, |bench, model| kept_prefix::measure(bench, plan, model));
        }
        Measure::Crowd(plan) => each(bench, &plan.models, |bench, model| crowd::measure(bench, plan, model)),
        Measure::Busy(plan) => each(bench, &plan.models, |bench, model| busy::measure(bench, plan, model)),
        Measure::Isolation(plan) => {
            each(bench, &plan.models, |bench, model| isolation::measure(bench, plan, model));
        }
        Measure::ChatCost(plan) => {
            each(bench, &plan.models, |bench, model| chat_cost::measure(bench, plan, model));
        }
        Measure::Apis(plan) => each(bench, &plan.models, |bench, model| apis::measure(bench, plan, model)),
        Measure::Structured(plan) => {
            each(bench, &plan.models, |bench, model| structured::measure(bench, plan, model));
            if bench.is_wanted(structured::VOCABULARY) {
                let outcome = structured::measure_vocabulary(bench, plan);
                note(bench, structured::VOCABULARY, outcome);
            }
        }
        Measure::Drafts(plan) => {
            for pair in &plan.pair {
                if bench.is_wanted(&pair.name) {
                    let outcome = drafts::measure(bench, plan, pair);
                    note(bench, &pair.name, outcome);
                }
            }
        }
        Measure::WarmStart(plan) => {
            each(bench, &plan.models, |bench, model| warm_start::measure(bench, plan, model));
        }
        Measure::Prepare(plan) => {
            each(bench, &plan.models, |bench, model| prepare::measure(bench, plan, model));
        }
        Measure::Outlook(plan) => {
            each(bench, &plan.models, |bench, model| outlook::measure(bench, plan, model));
        }
        Measure::Layouts(plan) => {
            each(bench, &plan.models, |bench, model| layouts::measure(bench, plan, model));
        }
        Measure::Memory(plan) => {
            each(bench, &plan.models, |bench, model| memory::measure(bench, plan, model));
        }
    }
    Ok(())
}

fn each<'a>(bench: &mut Bench<'a>, models: &[String], measure: impl Fn(&mut Bench<'a>, &str) -> Result<()>) {
    for model in models {
        if !bench.is_wanted(model) {
            continue;
        }
        let outcome = measure(bench, model);
        note(bench, model, outcome);
    }
}

fn note(bench: &mut Bench<'_>, case: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        bench.record.skip(case, format!("{error:#}"));
    }
}
