//! What the configuration says of models and is not so: files that are gone, contexts larger than a model was trained
//! with, memory that cannot be locked.

use samovar::{Alias, Builder, Origin, Runtime, built_in};
use samovar_core::units::{ByteSize, counted};
use samovar_core::{ErrorKind, ModelRef};

use super::Finding;
use crate::command::Context;

const NAME: &str = "names";

/// `None` where nothing is configured of models.
pub(super) async fn finding(context: &Context) -> Option<Finding> {
    let settings = &context.settings.runtime;
    let wants_lock =
        settings.defaults.lock_memory || settings.aliases.iter().any(|alias| alias.settings.lock_memory);
    if settings.aliases.is_empty() && !wants_lock {
        return None;
    }
    let here = match Builder::settings(settings.clone()).build() {
        Ok(here) => here,
        Err(failure) => return Some(Finding::broken(NAME, failure)),
    };
    let mut faults = Vec::new();
    for alias in &settings.aliases {
        faults.extend(fault(&here, alias).await);
    }
    faults.extend(wants_lock.then(unlockable).flatten());
    Some(match faults.as_slice() {
        [] => Finding::fine(NAME, format!("{} in samovar.toml", counted(settings.aliases.len(), "name"))),
        faults => Finding::odd(NAME, faults.join("; "), "change that in samovar.toml"),
    })
}

async fn fault(here: &Runtime, alias: &Alias) -> Option<String> {
    let name = &alias.name;
    let trained = if is_bare_demo(alias) {
        built_in().context_tokens
    } else {
        match here.model(name, Origin::Owner).await {
            Ok(info) => info.trained_context_tokens,
            // It is fetched when it is used.
            Err(failure) if failure.kind == ErrorKind::NotFound && alias.source.artifact().is_some() => {
                return None;
            }
            Err(failure) => return Some(format!("{name} cannot be used: {}", failure.message)),
        }
    };
    let asked = alias.settings.context_tokens.filter(|asked| trained > 0 && *asked > trained)?;
    Some(format!("{name} has {trained} tokens of context, as it was trained, and not {asked}"))
}

/// Whether a name means the built-in model and nothing that could be missing. Looking for it would put it into the store.
fn is_bare_demo(alias: &Alias) -> bool {
    let settings = &alias.settings;
    let is_bare = settings.adapters.is_empty()
        && settings.needs.is_empty()
        && settings.draft.is_none()
        && settings.chat_template.is_none();
    is_bare && matches!(alias.source, ModelRef::Demo)
}

/// That the system lets no process lock as much as a model has.
fn unlockable() -> Option<String> {
    /// Less is for passwords, and no model.
    const LEAST_BYTES: u64 = 256 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current?;
    (limit < LEAST_BYTES).then(|| {
        let limit = ByteSize::from_bytes(limit);
        format!(
            "lock_memory is set, and a process may lock {limit} here (`ulimit -l`): weights may be paged out"
        )
    })
}
