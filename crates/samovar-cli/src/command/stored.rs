//! From what a person names to what the store has.
//!
//! ```text
//!   "tiny" ─► [models.tiny] ─► hf://org/name:Q4_K_M ─┐
//!   "org/name" ──────────────► hf://org/name ────────┼─► artifacts that fit ─► one, or which ones there are
//!   "demo", a key's digest ──────────────────────────┘
//! ```

use samovar::store::{Artifact, Error, Store};
use samovar::{fitting_artifacts, reference_fits};
use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure, ModelRef};

use super::Context;
use crate::settings::{Settings, keys};

impl Context {
    /// The store on disk. Works beside a daemon and without one.
    ///
    /// # Errors
    /// Whatever keeps the cache directory from being used.
    pub(super) async fn store(&self) -> Result<Store, Failure> {
        let config = self.settings.runtime.store.clone();
        blocking(move || Store::open(config)).await
    }
}

/// Does file work away from the event loop.
///
/// # Errors
/// As `work`.
pub(super) async fn blocking<T: Send + 'static, E: Into<Failure> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(error) => Err(Failure::new(ErrorKind::Internal, format!("a task of the store ended: {error}"))),
    }
}

/// What `name` is fetched from; `None` for the built-in model.
///
/// # Errors
/// `InvalidRequest` for a file, which is here already, and for text that names no model; `NotFound` for
/// a name that is not configured.
pub(super) fn source(name: &str, settings: &Settings) -> Result<Option<ArtifactRef>, Failure> {
    match settings.meaning(name)? {
        ModelRef::Demo => Ok(None),
        ModelRef::Hub(hub) => Ok(Some(ArtifactRef::Hub(hub))),
        ModelRef::Remote(remote) => Ok(Some(ArtifactRef::Remote(remote))),
        ModelRef::File(path) => Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("{} is a file, and needs no fetching", path.display()),
        )
        .with_param("model")
        .with_hint(format!("use it where it lies: samovar run {}", ModelRef::file(path)))),
        ModelRef::Alias(alias) => Err(unknown(alias.as_str(), settings)),
    }
}

/// Refuses what a daemon would have to fetch, and no other program on this machine has, when this process is told to be offline: the daemon may have
/// been started otherwise.
///
/// # Errors
/// `Unavailable` for what is not on disk.
pub(super) async fn keep_offline(context: &Context, name: &str) -> Result<(), Failure> {
    if !context.settings.runtime.store.sources.is_offline {
        return Ok(());
    }
    let Some(reference) = context.settings.meaning(name)?.artifact() else { return Ok(()) };
    let (store, wanted) = (context.store().await?, reference.clone());
    let here = store.clone();
    if blocking(move || here.find(&wanted)).await?.is_some() {
        return Ok(());
    }
    match store.take_nearby(&reference, None).await? {
        Some(taken) => {
            context.report.nearby(name, &taken.from, taken.bytes);
            Ok(())
        }
        None => Err(Error::Offline { subject: reference.to_string() }.into()),
    }
}

/// Adds to what a daemon says of a source that it may know less than this process: it keeps the token and the
/// settings that it was started with.
pub(super) fn of_daemon(context: &Context, name: &str, failure: Failure) -> Failure {
    if let Some(near) = near(name, &failure, &context.settings) {
        return failure.with_hint(near);
    }
    let sources = &context.settings.runtime.store.sources;
    let is_offline = sources.is_offline;
    let may_differ = match failure.kind {
        // Without one of its own this terminal knows no more.
        ErrorKind::Forbidden => sources.hub_token.is_some(),
        ErrorKind::Unavailable => !is_offline && failure.message.contains("samovar is offline"),
        _ => false,
    };
    let is_fetched = context.settings.meaning(name).is_ok_and(|meaning| meaning.artifact().is_some());
    if !may_differ || !is_fetched {
        return failure;
    }
    let more = format!(
        "a daemon keeps the settings that it started with, and `samovar pull {name}` fetches with those of this terminal"
    );
    failure.with_hint(more)
}

/// The same failure, with the name that may have been meant, where it tells of an unknown one.
pub(super) fn with_near(name: &str, failure: Failure, settings: &Settings) -> Failure {
    match near(name, &failure, settings) {
        Some(near) => failure.with_hint(near),
        None => failure,
    }
}

/// What may have been meant by an unknown name. One that is configured is not what is missing.
fn near(name: &str, failure: &Failure, settings: &Settings) -> Option<String> {
    let is_unknown = failure.kind == ErrorKind::NotFound && matches!(name.parse(), Ok(ModelRef::Alias(_)));
    let aliases = || settings.runtime.aliases.iter().map(|alias| alias.name.as_str());
    let is_missing = is_unknown && aliases().all(|alias| alias != name);
    let near = keys::nearest(name, aliases().chain(["demo"])).filter(|_| is_missing)?;
    Some(format!("did you mean `{near}`?"))
}

/// A name that is not configured.
fn unknown(name: &str, settings: &Settings) -> Failure {
    let failure = Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"));
    let of_ollama = format!("ollama://{name}");
    let hint = match near(name, &failure, settings) {
        Some(near) => near,
        None if name.contains(':') && of_ollama.parse::<ModelRef>().is_ok() => {
            format!("a model of Ollama's registry is written with its scheme: {of_ollama}")
        }
        None => "write org/name:Q4_K_M for a model of the hub".to_owned(),
    };
    failure.with_param("model").with_hint(hint)
}

/// The one artifact that `name` means.
///
/// # Errors
/// `NotFound` when nothing fits; `InvalidRequest` when several do, with their names.
pub(super) async fn one(store: &Store, name: &str, settings: &Settings) -> Result<Artifact, Failure> {
    let mut fitting = all(store, name, settings).await?;
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => Err(absent(name, settings)?),
        _ => {
            let names: Vec<&str> = fitting.iter().map(|artifact| artifact.reference.as_str()).collect();
            Err(Failure::new(
                ErrorKind::InvalidRequest,
                format!("{name} fits {} models on disk: {}", names.len(), names.join(", ")),
            )
            .with_param("model")
            .with_hint("name one of them, or several"))
        }
    }
}

/// The artifact that `name` means, if one is on disk.
///
/// # Errors
/// As [`one`], but for what is not there.
pub(super) async fn on_disk(context: &Context, name: &str) -> Result<Option<Artifact>, Failure> {
    if matches!(context.settings.meaning(name)?, ModelRef::File(_)) {
        return Ok(None);
    }
    let store = context.store().await?;
    if all(&store, name, &context.settings).await?.is_empty() {
        return Ok(None);
    }
    one(&store, name, &context.settings).await.map(Some)
}

/// Every artifact that `name` may mean; the built-in model's under `demo`.
///
/// # Errors
/// `InvalidRequest` for text that names no model; whatever keeps the store from being read.
pub(super) async fn all(store: &Store, name: &str, settings: &Settings) -> Result<Vec<Artifact>, Failure> {
    fitting_artifacts(list(store).await?, name, || settings.meaning(name))
}

/// Everything that the store has.
///
/// # Errors
/// Whatever keeps the store from being read.
pub(super) async fn list(store: &Store) -> Result<Vec<Artifact>, Failure> {
    let store = store.clone();
    blocking(move || store.list()).await
}

/// What is said of a name that fits nothing on disk.
///
/// # Errors
/// `InvalidRequest` for text that names no model.
pub(super) fn absent(name: &str, settings: &Settings) -> Result<Failure, Failure> {
    Ok(match settings.meaning(name)? {
        ModelRef::Alias(alias) => unknown(alias.as_str(), settings),
        ModelRef::File(path) => Failure::new(
            ErrorKind::InvalidRequest,
            format!("{} is a file of yours, and not in the store", path.display()),
        )
        .with_param("model")
        .with_hint("`samovar list` shows what is in the store"),
        ModelRef::Demo => Failure::new(ErrorKind::NotFound, "demo is not on disk")
            .with_param("model")
            .with_hint("it is part of this program, and unpacked when it is first used"),
        reference => Failure::new(ErrorKind::NotFound, format!("{reference} is not on disk"))
            .with_param("model")
            .with_hint(format!("samovar pull {reference} fetches it")),
    })
}

/// The artifact that stands for a configured source: the exact one, else the first that fits.
pub(super) fn best<'a>(artifacts: &'a [Artifact], wanted: &ModelRef) -> Option<&'a Artifact> {
    let exact = wanted.to_string();
    let is_exact = |artifact: &&Artifact| artifact.reference == exact;
    let is_fitting = |artifact: &&Artifact| reference_fits(wanted, &artifact.reference);
    artifacts.iter().find(is_exact).or_else(|| artifacts.iter().find(is_fitting))
}
