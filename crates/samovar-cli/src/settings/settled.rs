//! Settings in the types that the rest of the program uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use samovar::worker::sandbox;
use samovar::{Budget, EvictionPolicy, PoolConfig, PrefixSharing, RuntimeSettings};
use samovar_core::{ErrorKind, Failure, HubRef, ModelRef};
use samovar_server::{Limits, TlsFiles};

use super::entry::{self, Entry};
use super::file::{self, Contents};
use super::foreign::Foreign;
use super::keys::KEYS;
use super::models::{aliases, model_settings};
use super::value::Value;
use super::values::{Values, address, count, flag, names, path, size, span, span_ms, text, value};
use super::{Environment, Provenance, ollama_host, serving, storage, variables};
use crate::home::{self, Home};

/// No client weighs more than this many others.
const CLIENT_WEIGHT_MAX: u32 = 1_000;

/// Everything that is in force.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where things are kept.
    pub(crate) home: Home,
    /// The configuration file that was read, if there was one.
    pub(crate) config_file: Option<PathBuf>,
    /// The model that is used when none is named.
    pub(crate) default_model: String,
    /// Models to load when the daemon starts.
    pub(crate) preload_models: Vec<String>,
    /// For the library.
    pub(crate) runtime: RuntimeSettings,
    /// Whether the daemon runs models in processes of their own.
    pub(crate) has_workers: bool,
    /// What is taken from those processes.
    pub(crate) sandbox: sandbox::Mode,
    /// Most memory of its own that such a process may take.
    pub(crate) worker_memory_bytes: Option<u64>,
    /// Where to listen for HTTP, if it is set.
    pub(crate) listen: Option<SocketAddr>,
    /// Where to listen for Ollama's clients as well, if it is set.
    pub(crate) ollama_address: Option<SocketAddr>,
    /// Where Ollama's clients look for it.
    pub(crate) ollama_host: SocketAddr,
    /// The Unix socket.
    pub(crate) socket: PathBuf,
    /// How long without a request until the daemon leaves, if it is set; zero = never.
    pub(crate) idle_exit: Option<Duration>,
    /// How long running requests may take to end.
    pub(crate) grace: Duration,
    /// How often the daemon logs its statistics, if it is set; zero = never.
    pub(crate) stats_interval: Option<Duration>,
    /// Names by which HTTP clients may call the daemon.
    pub(crate) allowed_hosts: Vec<String>,
    /// Web origins that may read answers.
    pub(crate) allowed_origins: Vec<String>,
    /// The header that is believed to name the client.
    pub(crate) client_header: Option<String>,
    /// Bounds on what HTTP clients may take.
    pub(crate) limits: Limits,
    /// Whether other machines are answered although there is no key.
    pub(crate) is_insecure: bool,
    /// The files that HTTP is served over TLS with, if it is.
    pub(crate) tls: Option<TlsFiles>,
    /// Where the daemon writes who asked for what, if anywhere.
    pub(crate) audit_log: Option<PathBuf>,
    /// Where it counts what clients use, if it does.
    pub(crate) usage_dir: Option<PathBuf>,
    /// Where the daemon writes a line for each request, if anywhere.
    pub(crate) request_log: Option<PathBuf>,
    /// What the daemon logs.
    pub(crate) log_level: String,
    /// Each setting as people see it, in the order of the table.
    pub(crate) entries: Vec<Entry>,
    /// `SAMOVAR_*` variables that mean nothing.
    pub(crate) unknown_variables: Vec<String>,
    /// What other programs left for us.
    pub(crate) foreign: Foreign,
}

impl Settings {
    /// Gives every value its type and every absent one its default.
    ///
    /// # Errors
    /// `InvalidRequest` for a model's source that names nothing.
    pub(super) fn assemble(
        home: Home,
        config_file: Option<PathBuf>,
        environment: &Environment,
        contents: Contents,
    ) -> Result<Self, Failure> {
        let Contents { mut values, models } = contents;
        fill_defaults(&mut values, &home);
        let budget = budget(&values);
        let socket = path(&values, "server.socket").expect("invariant: filled above");
        home::check_socket_length(&socket)?;
        let foreign = Foreign::read(environment);
        let mut entries = entry::entries(&values, &models, &budget);
        storage::add_secrets(&mut entries, &foreign);
        let store = storage::store(&values, &home, &foreign);
        let mut runtime = RuntimeSettings::new(store, pool(&values, budget)?);
        runtime.aliases = aliases(&models)?;
        runtime.defaults = model_settings(&values, "defaults.");
        runtime.default_deadline = span(&values, "server.request_timeout").filter(|limit| !limit.is_zero());
        runtime.share_prefixes = share_prefixes(&values, &home);
        runtime.context_ceiling_tokens = count(&values, "server.context_ceiling_tokens").unwrap_or_default();
        runtime.buffer_bytes = size(&values, "server.buffer_budget_bytes");
        Ok(Self {
            default_model: text(&values, "default_model")
                .map(|name| anchored(&name, values.get("default_model")))
                .unwrap_or_default(),
            preload_models: names(&values, "cache.preload_models")
                .iter()
                .map(|name| anchored(name, values.get("cache.preload_models")))
                .collect(),
            runtime,
            has_workers: flag(&values, "pool.workers"),
            sandbox: sandbox(&values),
            worker_memory_bytes: size(&values, "pool.worker_memory_bytes"),
            listen: address(&values, "server.listen"),
            ollama_address: address(&values, "server.ollama_address"),
            ollama_host: ollama_host::read(environment),
            socket,
            idle_exit: span(&values, "server.idle_exit"),
            grace: span(&values, "server.grace").unwrap_or_default(),
            stats_interval: span(&values, "pool.stats_interval"),
            allowed_hosts: names(&values, "server.allowed_hosts"),
            allowed_origins: names(&values, "server.allowed_origins"),
            client_header: text(&values, "server.client_header"),
            limits: limits(&values),
            is_insecure: flag(&values, "server.insecure_no_auth"),
            tls: serving::tls(&values)?,
            audit_log: path(&values, "server.audit_log"),
            usage_dir: flag(&values, "server.usage").then(|| home.usage_dir()),
            request_log: path(&values, "server.request_log"),
            log_level: text(&values, "log.level").unwrap_or_default(),
            entries,
            unknown_variables: entry::unknown_variables(environment),
            foreign,
            home,
            config_file,
        })
    }

    /// A sentence for each `SAMOVAR_*` variable that means nothing.
    pub(crate) fn unknown_variables(&self) -> impl Iterator<Item = String> {
        self.unknown_variables.iter().map(|name| match variables::meant_by(name) {
            Some(meant) => format!("the variable {name} means nothing to samovar; did you mean {meant}?"),
            None => format!("the variable {name} means nothing to samovar"),
        })
    }

    /// What `name` stands for: a configured name's source, or itself.
    ///
    /// # Errors
    /// `InvalidRequest` for text that names no model.
    pub(crate) fn meaning(&self, name: &str) -> Result<ModelRef, Failure> {
        match self.runtime.aliases.iter().find(|alias| alias.name == name) {
            Some(alias) => Ok(alias.source.clone()),
            None => Ok(name.parse::<ModelRef>()?),
        }
    }

    /// Whether the configuration, the built-in model, the shape of a path or a scheme gives `name` a meaning.
    pub(crate) fn names_a_model(&self, name: &str) -> bool {
        let has_scheme = name.contains("://");
        self.runtime.aliases.iter().any(|alias| alias.name == name)
            || match name.parse() {
                Ok(ModelRef::Demo | ModelRef::File(_) | ModelRef::Remote(_)) => true,
                // `and/or` may be a prompt.
                Ok(ModelRef::Hub(_)) => has_scheme || HubRef::is_page(name),
                Ok(ModelRef::Alias(_)) | Err(_) => false,
            }
    }
}

/// A model's name as it is, or its path from the place that names it.
fn anchored(name: &str, from: Option<&(Value, Provenance)>) -> String {
    match (name.parse(), from) {
        (Ok(ModelRef::File(path)), Some((_, provenance))) => {
            let path = file::source_path(&path.to_string_lossy(), provenance);
            home::absolute(&path).unwrap_or(path).to_string_lossy().into_owned()
        }
        _ => name.to_owned(),
    }
}

fn fill_defaults(values: &mut Values, home: &Home) {
    for key in KEYS {
        if let Some(default) = key.default {
            let read = key.shape.read(&key.shape.raw_of_text(default), &home.state_dir);
            let value = read.expect("invariant: a test reads every default");
            values.entry(key.path.to_owned()).or_insert((value, Provenance::Default));
        }
    }
    let places = [("cache.cache_dir", home.cache_dir.clone()), ("server.socket", home.socket())];
    for (key, path) in places {
        values.entry(key.to_owned()).or_insert((Value::Path(path), Provenance::Default));
    }
}

fn budget(values: &Values) -> Budget {
    match values.get("pool.budget_bytes") {
        Some((Value::Size(size), provenance)) => {
            Budget { bytes: size.bytes(), source: provenance.to_string() }
        }
        Some((Value::Share(percent), provenance)) => {
            let Budget { bytes, source } = Budget::share(*percent);
            Budget { bytes, source: format!("{source}, by {provenance}") }
        }
        _ => Budget::detect(),
    }
}

fn pool(values: &Values, budget: Budget) -> Result<PoolConfig, Failure> {
    let mut pool = PoolConfig::with_budget(budget);
    if let Some(Value::Ratio(ratio)) = value(values, "pool.soft_ratio") {
        pool.soft_ratio = *ratio;
    }
    let policy = text(values, "pool.eviction_policy");
    pool.eviction = policy.as_deref().and_then(EvictionPolicy::named).unwrap_or_default();
    pool.queue_per_model = count(values, "pool.queue_per_model").unwrap_or(pool.queue_per_model);
    pool.queue_total = count(values, "pool.queue_total").unwrap_or(pool.queue_total);
    pool.min_residency_ms = span_ms(values, "pool.min_residency").unwrap_or(pool.min_residency_ms);
    pool.parked_ms = span_ms(values, "pool.parked_for").unwrap_or(pool.parked_ms);
    pool.keep_alive_floor_ms = span_ms(values, "pool.keep_alive_floor").unwrap_or(pool.keep_alive_floor_ms);
    pool.keep_alive_ceiling_ms = span_ms(values, "pool.keep_alive_ceiling");
    pool.client_weights = client_weights(values)?;
    pool.probe_idle_ms = span_ms(values, "pool.probe_idle").unwrap_or(pool.probe_idle_ms);
    pool.look_every_ms = if flag(values, "pool.watch_memory") { pool.look_every_ms } else { 0 };
    pool.available_floor_bytes =
        size(values, "pool.memory_floor_bytes").unwrap_or(pool.available_floor_bytes);
    pool.stall_percent_max =
        count(values, "pool.stall_percent").map_or(pool.stall_percent_max, |max| max as f32);
    Ok(pool)
}

fn limits(values: &Values) -> Limits {
    let usual = Limits::default();
    let many = |key: &str| count(values, key).map(|count| count as usize);
    let floor = span(values, "server.keep_alive_floor").unwrap_or(usual.keep_alive_floor);
    let ceiling = span(values, "server.keep_alive_ceiling").unwrap_or(usual.keep_alive_ceiling);
    Limits {
        connections: many("server.connections").unwrap_or(usual.connections),
        connections_per_address: many("server.connections_per_address"),
        idle_timeout: span(values, "server.idle_timeout").unwrap_or(usual.idle_timeout),
        keep_alive_floor: floor,
        keep_alive_ceiling: ceiling.max(floor),
        ..usual
    }
}

/// `NAME=WEIGHT`, as often as clients are named.
fn client_weights(values: &Values) -> Result<BTreeMap<String, u32>, Failure> {
    const KEY: &str = "pool.client_weights";
    let weight = |word: &String| {
        let (name, weight) = word.rsplit_once('=')?;
        let weight = weight.trim().parse().ok().filter(|weight| (1..=CLIENT_WEIGHT_MAX).contains(weight))?;
        Some((name.trim().to_owned(), weight))
    };
    let read = |word: &String| {
        weight(word).ok_or_else(|| {
            let place = values.get(KEY).map(|(_, provenance)| format!("{provenance}: ")).unwrap_or_default();
            let message = format!("{place}{KEY}: {word:?} is not a client and its weight");
            let hint = format!(
                "write the client's name, = and a number from 1 to {CLIENT_WEIGHT_MAX}, such as \"alice=3\""
            );
            Failure::new(ErrorKind::InvalidRequest, message).with_hint(hint)
        })
    };
    names(values, KEY).iter().map(read).collect()
}

/// Whose prompts' state a request may continue from. Where strangers use one daemon, they are told apart.
fn share_prefixes(values: &Values, home: &Home) -> PrefixSharing {
    let answers_others = || {
        let addresses = ["server.listen", "server.ollama_address"].map(|path| address(values, path));
        addresses.iter().flatten().any(|address| !address.ip().is_loopback())
    };
    match text(values, "pool.share_prefixes").as_deref() {
        Some("all") => PrefixSharing::All,
        Some(_) => PrefixSharing::Client,
        None if text(values, "server.client_header").is_some() || answers_others() || home.has_keys() => {
            PrefixSharing::Client
        }
        None => PrefixSharing::All,
    }
}

fn sandbox(values: &Values) -> sandbox::Mode {
    match text(values, "pool.sandbox").as_deref() {
        Some("require") => sandbox::Mode::Require,
        Some("off") => sandbox::Mode::Off,
        _ => sandbox::Mode::Auto,
    }
}
