//! The configuration file of a daemon that runs: looked at before a name is resolved, read again when it changed.
//!
//! ```text
//!   stat ─ as before ─► ·
//!     └ changed ─► read as at the start (same flags, same environment) ─► names, [defaults]: from now on
//!                     │                                                 └► all else: told, needs a restart
//!                     └ wrong: told once, what was in force stays
//! ```

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar::{Alias, Changes, ModelSettings, NameSource};
use samovar_core::Failure;

use super::{Entry, Environment, Flags, Provenance, Settings, config_file, settle};
use crate::exposure;

/// What commands read each time, and a daemon never.
const OF_COMMANDS: &[&str] = &["default_model"];

/// What a file was when it was looked at: device, inode, size, time of change in seconds and nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The file, and what of it is in force.
pub(crate) struct Watched {
    flags: Flags,
    environment: Environment,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    stamp: Stamp,
    /// At the start of the daemon, by name.
    began_with: BTreeMap<String, String>,
    /// Now.
    in_force: BTreeMap<String, String>,
}

impl Watched {
    /// Begins to watch the file that `settings` came from, or would have. Paths count from the working directory of now.
    ///
    /// # Errors
    /// When a named file has no absolute path.
    pub(crate) fn new(
        settings: &Settings,
        flags: &Flags,
        environment: &Environment,
    ) -> Result<Arc<Self>, Failure> {
        let (path, is_named) = config_file(flags, environment, &settings.home)?;
        let entries = shown(settings);
        let state = State { stamp: stamp(&path), began_with: entries.clone(), in_force: entries };
        let flags = Flags {
            home: settings.home.root.clone(),
            // `run` names the usual file, too, and that one may go and come.
            config: (is_named && path != settings.home.config_file).then(|| path.clone()),
            values: flags.values.clone(),
        };
        Ok(Arc::new(Self { flags, environment: environment.clone(), path, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings in force, of a daemon that began with these: what needs no restart is as it is written now. What is wrong there
    /// changes nothing.
    pub(crate) fn in_force(&self, began_with: &[Entry]) -> Vec<Entry> {
        let Ok(now) = self.read() else { return began_with.to_vec() };
        let kept = began_with.iter().filter(|entry| !is_of_models(&entry.key));
        let changed = now.entries.iter().filter(|entry| is_of_models(&entry.key));
        kept.chain(changed).cloned().collect()
    }

    /// The settings as they are written now. A file that others could change since is refused as it is at the start.
    fn read(&self) -> Result<Settings, Failure> {
        exposure::file(&self.path)?;
        settle(&self.flags, &self.environment)
    }
}

impl NameSource for Watched {
    fn changed(&self) -> Option<(Vec<Alias>, ModelSettings)> {
        let mut state = self.state();
        let now = stamp(&self.path);
        if now == state.stamp {
            return None;
        }
        // Before it is read: what is written meanwhile is read the next time.
        state.stamp = now;
        let settings = match self.read() {
            Ok(settings) => settings,
            Err(failure) => {
                let hint = failure.hint.as_deref();
                tracing::warn!(hint, "the changed configuration has an error and is not used: {failure}");
                return None;
            }
        };
        let entries = shown(&settings);
        let changes = changes(&state.in_force, &entries);
        if !changes.in_force.is_empty() {
            tracing::info!(changed = changes.in_force.join(", "), "applied the changed configuration");
        }
        if !changes.needs_restart.is_empty() {
            let changed = changes.needs_restart.join(", ");
            tracing::warn!(changed, "these changed settings need a restart of the daemon");
        }
        state.in_force = entries;
        Some((settings.runtime.aliases, settings.runtime.defaults))
    }

    fn changes(&self) -> Result<Changes, Failure> {
        let settings = self.read()?;
        Ok(changes(&self.state().began_with, &shown(&settings)))
    }
}

fn stamp(path: &Path) -> Stamp {
    let facts = fs_err::metadata(path).ok()?;
    Some((facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec()))
}

/// What was set. A default may come out otherwise at each look, and has not been changed: that of the budget follows the
/// machine's memory.
fn shown(settings: &Settings) -> BTreeMap<String, String> {
    let set = settings.entries.iter().filter(|entry| !matches!(entry.provenance, Provenance::Default));
    set.map(|entry| (entry.key.clone(), entry.shown.clone())).collect()
}

fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Changes {
    let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
    let changed =
        names.filter(|name| before.get(*name) != now.get(*name) && !OF_COMMANDS.contains(&name.as_str()));
    let (in_force, needs_restart) = changed.cloned().partition(|name: &String| is_of_models(name));
    Changes::new(in_force, needs_restart)
}

/// Whether a setting is in force as soon as it is written.
fn is_of_models(name: &str) -> bool {
    name.starts_with("models.") || name.starts_with("defaults.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_are_taken_in_and_the_rest_waits_for_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path").to_owned();
        let environment = Environment::from_pairs([("SAMOVAR_HOME".into(), home.into())]);
        let flags = Flags::default();
        let settings = settle(&flags, &environment).expect("settles");
        assert!(
            shown(&settings).keys().all(|key| key != "pool.budget_bytes"),
            "it follows the machine's memory"
        );
        let watched = Watched::new(&settings, &flags, &environment).expect("watches");
        assert!(watched.changed().is_none());
        let file = folder.path().join("samovar.toml");
        let text = "default_model = 'a'\n[models.a]\nsource = 'demo'\n[defaults]\nslots = 3\n[pool]\nqueue_total = 9\n";
        fs_err::write(&file, text).expect("file");
        let (aliases, defaults) = watched.changed().expect("it changed");
        assert_eq!((aliases[0].name.as_str(), defaults.slots), ("a", Some(3)));
        assert!(watched.changed().is_none(), "once");
        let changes = watched.changes().expect("reads");
        assert_eq!(changes.needs_restart, ["pool.queue_total"], "and nothing that only commands read");
        assert_eq!(changes.in_force, ["defaults.slots", "models.a.source"]);
        let shown = |key: &str| {
            let entries = watched.in_force(&settings.entries);
            entries.iter().find(|entry| entry.key == key).map(|entry| entry.shown.clone())
        };
        assert_eq!(shown("models.a.source").as_deref(), Some("demo"));
        assert_ne!(shown("pool.queue_total").as_deref(), Some("9"), "it needs a restart");
        let with_mode =
            |mode| fs_err::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
        with_mode(0o666);
        assert!(watched.changes().expect_err("others may write it").message.contains("other users"));
        with_mode(0o600);
        fs_err::write(&file, "[models.a]\nsorce = 'demo'\n").expect("file");
        assert!(watched.changed().is_none(), "what is wrong changes nothing");
        assert!(watched.changes().expect_err("told").hint.expect("hint").contains("source"));
        fs_err::remove_file(&file).expect("removed");
        assert!(watched.changed().expect("it changed").0.is_empty());
    }
}
