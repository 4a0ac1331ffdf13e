//! Settings in the types that the rest of the program uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use samovar::worker::sandbox;
use samovar::{
    Alias, Budget, ChatTemplate, EvictionPolicy, ModelSettings, PoolConfig, Pooling, PrefixSharing,
    RuntimeSettings,
};
use samovar_core::footprint::{KvType, LayoutWish};
use samovar_core::units::{KeepAlive, TimeSpan};
use samovar_core::{ErrorKind, Failure, HubRef, ModelRef};
use samovar_server::Limits;

use super::entry::{self, Entry};
use super::file::{self, Contents};
use super::foreign::Foreign;
use super::keys::{self, KEYS};
use super::model_keys::{
    ADAPTERS, CHAT_TEMPLATE, DOCUMENT_PROMPT, NEEDS, POOLING, QUERY_PROMPT, SOURCE, THINKING,
};
use super::value::Value;
use super::{Environment, Provenance, storage};
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
    /// Whether other machines are answered without keys.
    pub(crate) is_insecure: bool,
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

pub(super) type Values = BTreeMap<String, (Value, Provenance)>;

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
        runtime.share_prefixes = share_prefixes(&values);
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
            listen: match value(&values, "server.listen") {
                Some(Value::Address(address)) => Some(*address),
                _ => None,
            },
            socket,
            idle_exit: span(&values, "server.idle_exit"),
            grace: span(&values, "server.grace").unwrap_or_default(),
            stats_interval: span(&values, "pool.stats_interval"),
            allowed_hosts: names(&values, "server.allowed_hosts"),
            allowed_origins: names(&values, "server.allowed_origins"),
            client_header: text(&values, "server.client_header"),
            limits: limits(&values),
            is_insecure: flag(&values, "server.insecure_no_auth"),
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
        self.unknown_variables.iter().map(|name| match keys::meant_by(name) {
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
fn share_prefixes(values: &Values) -> PrefixSharing {
    let answers_others = || match value(values, "server.listen") {
        Some(Value::Address(address)) => !address.ip().is_loopback(),
        _ => false,
    };
    match text(values, "pool.share_prefixes").as_deref() {
        Some("all") => PrefixSharing::All,
        Some(_) => PrefixSharing::Client,
        None if text(values, "server.client_header").is_some() || answers_others() => PrefixSharing::Client,
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

fn aliases(models: &BTreeMap<String, Values>) -> Result<Vec<Alias>, Failure> {
    models
        .iter()
        .map(|(name, values)| {
            let (source, provenance) =
                values.get(SOURCE.path).expect("invariant: the file reader asks for it");
            let source = source_of(name, &source.to_string(), provenance)?;
            Ok(Alias::new(name, source, model_settings(values, "")))
        })
        .collect()
}

fn source_of(name: &str, source: &str, provenance: &Provenance) -> Result<ModelRef, Failure> {
    let place = |failure: Failure| {
        let message = format!("{provenance}: models.{name}.source: {}", failure.message);
        failure.with_message(message)
    };
    match source.parse::<ModelRef>() {
        Ok(ModelRef::Demo) => Ok(ModelRef::Demo),
        Ok(ModelRef::File(path)) => {
            Ok(ModelRef::file(home::absolute(&file::source_path(&path.to_string_lossy(), provenance))?))
        }
        Ok(hub @ (ModelRef::Hub(_) | ModelRef::Remote(_))) => Ok(hub),
        Ok(ModelRef::Alias(other)) => Err(place(
            Failure::new(
                ErrorKind::InvalidRequest,
                format!("{:?} is neither a file nor `demo`", other.as_str()),
            )
            .with_hint(format!("for a file write \"./{}\"", other.as_str())),
        )),
        Err(error) => Err(place(error.into())),
    }
}

fn model_settings(values: &Values, prefix: &str) -> ModelSettings {
    let at = |name: &str| format!("{prefix}{name}");
    let mut settings = ModelSettings::default();
    settings.context_tokens = count(values, &at("context_tokens"));
    settings.slots = count(values, &at("slots"));
    settings.layout = text(values, &at("layout")).and_then(|word| LayoutWish::named(&word));
    settings.kv_type =
        text(values, &at("kv_type")).map(|word| if word == "q8_0" { KvType::Q8_0 } else { KvType::F16 });
    settings.threads = count(values, &at("threads"));
    settings.keep_alive = match value(values, &at("keep_alive")) {
        Some(Value::KeepAlive(keep_alive)) => Some(*keep_alive),
        _ => None::<KeepAlive>,
    };
    settings.lock_memory = flag(values, &at("lock_memory"));
    settings.special_tokens_in_content = flag(values, &at("special_tokens_in_content"));
    settings.speculates = text(values, &at("speculation")).map(|word| word == "auto");
    settings.adapters = match value(values, &at(ADAPTERS.path)) {
        Some(Value::Adapters(adapters)) => adapters.clone(),
        _ => Vec::new(),
    };
    settings.min_instances = count(values, &at("min_instances"));
    settings.max_instances = count(values, &at("max_instances"));
    settings.needs = names(values, &at(NEEDS.path));
    settings.thinking = text(values, &at(THINKING.path)).and_then(|word| word.parse().ok());
    settings.pooling = text(values, &at(POOLING.path)).and_then(|word| Pooling::named(&word));
    settings.query_prompt = text(values, &at(QUERY_PROMPT.path));
    settings.document_prompt = text(values, &at(DOCUMENT_PROMPT.path));
    settings.chat_template = match value(values, &at(CHAT_TEMPLATE.path)) {
        Some(Value::Text(name)) => Some(ChatTemplate::BuiltIn(name.clone())),
        Some(Value::Path(path)) => Some(ChatTemplate::File(path.clone())),
        _ => None,
    };
    settings
}

pub(super) fn value<'a>(values: &'a Values, key: &str) -> Option<&'a Value> {
    values.get(key).map(|(value, _)| value)
}

pub(super) fn text(values: &Values, key: &str) -> Option<String> {
    match value(values, key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn path(values: &Values, key: &str) -> Option<PathBuf> {
    match value(values, key) {
        Some(Value::Path(path)) => Some(path.clone()),
        _ => None,
    }
}

pub(super) fn count(values: &Values, key: &str) -> Option<u32> {
    match value(values, key) {
        Some(Value::Count(count)) => Some(*count),
        _ => None,
    }
}

pub(super) fn size(values: &Values, key: &str) -> Option<u64> {
    match value(values, key) {
        Some(Value::Size(size)) => Some(size.bytes()),
        _ => None,
    }
}

pub(super) fn flag(values: &Values, key: &str) -> bool {
    matches!(value(values, key), Some(Value::Flag(true)))
}

fn names(values: &Values, key: &str) -> Vec<String> {
    match value(values, key) {
        Some(Value::Names(names)) => names.clone(),
        _ => Vec::new(),
    }
}

fn span_ms(values: &Values, key: &str) -> Option<u64> {
    match value(values, key) {
        Some(Value::Span(span)) => Some(TimeSpan::as_ms(*span)),
        _ => None,
    }
}

fn span(values: &Values, key: &str) -> Option<Duration> {
    span_ms(values, key).map(Duration::from_millis)
}
