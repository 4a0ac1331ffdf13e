//! How long one step takes when everything in memory is busy and many models wait for it.
//!
//! `cargo run --release -p samovar-pool --example step_bench -- [models] [wanted] [tickets] [turns]` prints one JSON
//! object. Of the models that the pool knows, `wanted` wait for memory, each with so many tickets; all others are in memory
//! and in use. A turn gives one lease back: either its model is asked for again at once, or it leaves, one that is wanted
//! comes, and the one that left is wanted in its place.
#![allow(clippy::print_stdout, reason = "the result is the output")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use samovar_core::port::{Capabilities, EngineId, Millis};
use samovar_core::testing::FakeEngine;
use samovar_core::units::KeepAlive;
use samovar_core::{Cost, LoadOptions, Memory, ModelFiles, ModelKey};
use samovar_pool::decide::{PoolState, step};
use samovar_pool::protocol::{Effect, Event, TicketId};
use samovar_pool::{AcquireRequest, Budget, Instances, ModelSpec, PoolConfig};
use serde_json::json;

/// What each model takes of the budget.
const BYTES: u64 = 100;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |usual: usize| -> Result<usize> {
        Ok(numbers.next().transpose().context("arguments are numbers")?.unwrap_or(usual))
    };
    let (models, wanted, tickets, turns) = (number(1_000)?, number(50)?, number(5)?, number(2_000)?);
    ensure!(0 < wanted && wanted < models, "some models are wanted, and others are in memory");
    let mut harness = Harness::new(models, wanted, tickets);
    harness.fill(wanted)?;
    harness.steps_ns.clear();
    let exchanged = harness.turns(turns)?;
    let steps = harness.steps_ns.len();
    let [p50, p99, max] = percentiles(harness.steps_ns);
    let told = json!({
        "models": models, "wanted": wanted, "tickets": tickets, "turns": turns,
        "steps": steps, "exchanged": exchanged,
        "step_us_p50": p50, "step_us_p99": p99, "step_us_max": max,
    });
    println!("{told:#}");
    Ok(())
}

struct Harness {
    state: PoolState,
    now: Millis,
    specs: Vec<Arc<ModelSpec>>,
    /// Requests that wait for each wanted model.
    tickets: usize,
    next_ticket: u64,
    /// Whose ticket it is.
    models: BTreeMap<TicketId, usize>,
    leases: VecDeque<TicketId>,
    waiting: BTreeMap<usize, Vec<TicketId>>,
    outcomes: VecDeque<Event>,
    granted: Vec<TicketId>,
    has_unloaded: bool,
    steps_ns: Vec<u64>,
}

impl Harness {
    fn new(models: usize, wanted: usize, tickets: usize) -> Self {
        let mut config = PoolConfig::with_budget(Budget::fixed(BYTES * (models - wanted) as u64, "bench"));
        config.soft_ratio = 1.0;
        config.models_max = models as u32 + 1;
        config.queue_total = (wanted * tickets + tickets + 1) as u32;
        Self {
            state: PoolState::new(config, Millis(0)),
            now: Millis(0),
            specs: (0..models).map(spec).collect(),
            tickets,
            next_ticket: 1,
            models: BTreeMap::new(),
            leases: VecDeque::new(),
            waiting: BTreeMap::new(),
            outcomes: VecDeque::new(),
            granted: Vec::new(),
            has_unloaded: false,
            steps_ns: Vec::new(),
        }
    }

    /// Every model but the wanted ones is loaded and used; then those are asked for.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        let busy = self.specs.len() - wanted;
        for model in 0..busy {
            self.ask(model);
        }
        ensure!(self.leases.len() == busy, "{} of {busy} models are in use", self.leases.len());
        self.now = self.now.plus(60_000);
        for model in busy..self.specs.len() {
            self.want(model);
        }
        Ok(())
    }

    fn turns(&mut self, turns: usize) -> Result<usize> {
        let mut exchanged = 0;
        for _ in 0..turns {
            self.now = self.now.plus(10);
            let ticket = self.leases.pop_front().context("a lease is out")?;
            let model = self.models.remove(&ticket).context("a lease is of a model")?;
            self.has_unloaded = false;
            self.happen(Event::Released { ticket, failed: None });
            if self.has_unloaded {
                exchanged += 1;
                self.want(model);
            } else {
                self.ask(model);
            }
        }
        ensure!(exchanged > 0, "no model has left for another");
        Ok(exchanged)
    }

    fn want(&mut self, model: usize) {
        for _ in 0..self.tickets {
            let ticket = self.ask(model);
            self.waiting.entry(model).or_default().push(ticket);
        }
    }

    fn ask(&mut self, model: usize) -> TicketId {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.models.insert(ticket, model);
        let client = format!("client {}", self.next_ticket % 7);
        let ask = AcquireRequest { client, ..AcquireRequest::new(Arc::clone(&self.specs[model])) };
        self.happen(Event::Request { ticket, ask });
        ticket
    }

    /// Lives through an event and all that follows at once.
    fn happen(&mut self, event: Event) {
        self.step(event);
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                self.step(outcome);
            } else if let Some(ticket) = self.granted.pop() {
                self.take(ticket);
            } else {
                return;
            }
        }
    }

    /// Others who wait for a model that has come are content.
    fn take(&mut self, ticket: TicketId) {
        self.leases.push_back(ticket);
        let model = self.models[&ticket];
        for other in self.waiting.remove(&model).unwrap_or_default() {
            if other != ticket {
                self.models.remove(&other);
                self.step(Event::Cancel { ticket: other });
            }
        }
    }

    fn step(&mut self, event: Event) {
        let began = Instant::now();
        let effects = step(&mut self.state, event, self.now);
        self.steps_ns.push(began.elapsed().as_nanos() as u64);
        for effect in effects {
            match effect {
                Effect::Load { instance, model, reservation } => {
                    let layout = model.options.layout;
                    self.outcomes.push_back(Event::Loaded { instance, memory: reservation, layout });
                }
                Effect::Unload { instance } => {
                    self.has_unloaded = true;
                    self.outcomes.push_back(Event::Unloaded { instance });
                }
                Effect::Probe { instance } => self.outcomes.push_back(Event::Probed { instance }),
                Effect::Grant { ticket, .. } => self.granted.push(ticket),
                _ => {}
            }
        }
    }
}

fn spec(number: usize) -> Arc<ModelSpec> {
    Arc::new(ModelSpec {
        key: ModelKey::new(format!("sha256:{number:064x}")),
        name: format!("model-{number}"),
        files: ModelFiles::of("/nowhere"),
        engine: EngineId::new("fake"),
        capabilities: Capabilities::default(),
        descriptor: Arc::new(FakeEngine::descriptor("bench", 1)),
        options: LoadOptions { context_tokens: 1, slots: 1, ..FakeEngine::options() },
        cost: Cost { memory: Memory::on_host(BYTES, 0), ..Cost::default() },
        load_ms: None,
        keep_alive: KeepAlive::UntilEvicted,
        instances: Instances::default(),
        needs: Vec::new(),
        has_fixed_slots: true,
        usual: None,
    })
}

/// Median, 99th percentile and maximum, in microseconds.
fn percentiles(mut ns: Vec<u64>) -> [f64; 3] {
    ns.sort_unstable();
    let at = |share: f64| {
        ns.get((ns.len() as f64 * share) as usize).or(ns.last()).map_or(0.0, |ns| *ns as f64 / 1e3)
    };
    [at(0.5), at(0.99), at(1.0)]
}
