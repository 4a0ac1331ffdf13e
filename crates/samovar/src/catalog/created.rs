//! Names that users created over models: what they mean now, and how one is made and taken away.
//!
//! ```text
//!   create(name, from, preset) ─► may it be so called? ─► what is it made from? ─► can that be used? ─► a document in the store
//!   "poet" ─► its document ─► the model behind it, its preset over that model's
//! ```
//!
//! A created name loads nothing of its own: it shares the instances of the model behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::{Digest, ErrorKind, Failure, ModelRef};
use samovar_store::{
    ArtifactKey, CREATED_BYTES, CreatedNames, CreatedStamp, KeyDigest, Removed, Role, Store,
};
use serde::{Deserialize, Serialize};

use super::customs::known_template;
use super::facts::Purpose;
use super::names::Names;
use super::target::{ModelLocation, Target};
use super::{Catalog, Kind, demo};
use crate::preset::{CreateFrom, CreatedFrom, CreatedModel, Preset};
use crate::request::Origin;
use crate::settings::ModelSettings;

/// The version of the documents.
const FORMAT: u32 = 1;
/// Bytes of a name.
const NAME_BYTES: usize = 128;
/// What the bytes that users sent come from.
const UPLOADED: &str = "uploaded";

pub(super) type CreatedMap = BTreeMap<String, Arc<Created>>;

/// A created name as it lies in the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Created {
    pub(super) model: CreatedModel,
    /// Of its document.
    pub(super) digest: Digest,
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    #[serde(flatten)]
    model: CreatedModel,
}

impl Created {
    fn new(model: CreatedModel) -> Result<(Self, Vec<u8>), Failure> {
        let document = Document { format: FORMAT, model };
        let bytes = serde_json::to_vec_pretty(&document).map_err(|error| {
            Failure::new(
                ErrorKind::Internal,
                format!("what is to be created cannot be written down: {error}"),
            )
        })?;
        if bytes.len() as u64 > CREATED_BYTES {
            let message =
                format!("what is to be created has {} bytes, {CREATED_BYTES} is the limit", bytes.len());
            return Err(Failure::new(ErrorKind::InvalidRequest, message)
                .with_hint("shorten its system text, its template, its license or its messages"));
        }
        Ok((Self { digest: Digest::of_bytes(&bytes), model: document.model }, bytes))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(bytes)
            .inspect_err(|error| tracing::warn!(%error, "a created name cannot be read, and is left out"))
            .ok()?;
        if document.format > FORMAT {
            let name = document.model.name;
            tracing::warn!(name, "a created name was written by a newer Samovar, and is left out");
            return None;
        }
        Some(Self { digest: Digest::of_bytes(bytes), model: document.model })
    }
}

/// What was created in the store, read again when it changed.
pub(super) struct CreatedBook {
    files: CreatedNames,
    known: Mutex<Known>,
    /// Held while a name or the bytes that it needs come or go: bytes that no name needs do not go while one is created from them.
    changes: Mutex<()>,
}

#[derive(Default)]
struct Known {
    stamp: Option<CreatedStamp>,
    /// Whether the stamp would tell of every change since.
    is_settled: bool,
    names: Arc<CreatedMap>,
}

impl CreatedBook {
    pub(super) fn new(files: CreatedNames) -> Self {
        Self { files, known: Mutex::default(), changes: Mutex::default() }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The created names of this moment: the same ones for as long as nothing changes. Blocks for a `stat`.
    pub(super) fn now(&self) -> Arc<CreatedMap> {
        // Every change is a single assignment.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if known.is_settled && known.stamp == stamp {
            return Arc::clone(&known.names);
        }
        let documents = if stamp.is_some() { self.files.read() } else { Vec::new() };
        let read = documents.iter().filter_map(|bytes| Created::read(bytes));
        let names: CreatedMap = read.map(|created| (created.model.name.clone(), Arc::new(created))).collect();
        if *known.names != names {
            known.names = Arc::new(names);
        }
        known.stamp = stamp;
        known.is_settled = stamp.is_none_or(|stamp| stamp.is_settled());
        Arc::clone(&known.names)
    }
}

/// What is to be deleted.
pub(crate) enum Doomed {
    /// A created name, which is gone now; the model behind it stays.
    Gone,
    /// The bytes that a user sent for a created name, which is gone now: no other one needs them.
    Bytes(KeyDigest),
    /// An artifact of the store, which the pool may have in memory.
    Artifact(KeyDigest),
}

impl Catalog {
    /// Where a created name leads.
    pub(super) fn of_created(&self, names: &Arc<Names>, created: &Arc<Created>) -> Result<Target, Failure> {
        let CreatedModel { name, from, preset, .. } = &created.model;
        let base = match from {
            CreatedFrom::Model(from) => self.target_but_created(names, from, Origin::Owner),
            CreatedFrom::Artifact(key) => self.uploaded(names, key),
        };
        let base = base.map_err(|failure| {
            let message =
                format!("`{name}` was created from a model that cannot be used: {}", failure.message);
            failure.with_message(message)
        })?;
        let context_tokens = preset.context_tokens.or(base.settings.context_tokens);
        let settings = ModelSettings { context_tokens, ..base.settings };
        let (given_name, created) = (Some(name.clone()), Some(Arc::clone(created)));
        Ok(Target { given_name, settings, kind: Kind::Created, created, ..base })
    }

    fn uploaded(&self, names: &Arc<Names>, key: &KeyDigest) -> Result<Target, Failure> {
        let artifact = self.lazy_store.store()?.artifact(key)?.ok_or_else(|| {
            Failure::new(ErrorKind::NotFound, "the bytes that it was created from are gone")
                .with_param("model")
                .with_hint("create it again")
        })?;
        Ok(Target {
            given_name: None,
            place: ModelLocation::Stored(Box::new(artifact)),
            settings: names.defaults.clone(),
            kind: Kind::Stored,
            created: None,
            names: Arc::clone(names),
        })
    }

    /// Whether a name means what a user created under it.
    pub(crate) fn is_created(&self, name: &str) -> bool {
        let names = self.names_now();
        names.created.contains_key(name) && !names.aliases.contains_key(name)
    }

    /// Every created name.
    pub(crate) fn created(&self) -> Vec<CreatedModel> {
        self.names_now().created.values().map(|created| created.model.clone()).collect()
    }

    /// Creates a name over a model that is here, in place of what was created under it before.
    ///
    /// # Errors
    /// `InvalidRequest` for a name that cannot be created, a template that is none, or too much text; `NotFound` for a model
    /// that is not here; `Forbidden` for a model that a request of this origin may not name; whatever keeps the store from being
    /// written.
    pub(crate) fn create(
        &self,
        name: &str,
        from: &CreateFrom,
        preset: Preset,
        origin: Origin,
    ) -> Result<CreatedModel, Failure> {
        let _changing = self.created.changing();
        let names = self.names_now();
        check_name(&names, name)?;
        let template = preset.template.as_deref().map(known_template).transpose()?;
        let preset = Preset { template, ..preset };
        let store = self.lazy_store.store()?;
        let (from, parent, preset) = match from {
            CreateFrom::Model(reference) => self.made_from(&names, reference, preset, origin)?,
            CreateFrom::Blob(digest) => {
                let key = self.take_in(&names, &store, digest)?;
                (CreatedFrom::Artifact(key), String::new(), preset)
            }
        };
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let model = CreatedModel {
            name: name.to_owned(),
            from,
            parent,
            preset,
            created_unix_s: since_1970.as_secs(),
        };
        let (created, document) = Created::new(model)?;
        let created = Arc::new(created);
        // What is wrong with the model is said now, and not to its first request.
        self.facts_for(&self.of_created(&names, &created)?, Purpose::Use)?;
        let sent = match &created.model.from {
            CreatedFrom::Artifact(key) => Some(key),
            CreatedFrom::Model(_) => None,
        };
        // They cannot be fetched again: no crash may leave a name whose bytes can be collected.
        sent.map_or(Ok(()), |key| store.set_pinned(key, true))?;
        if let Err(error) = store.write_created(name, &document) {
            if let Some(key) = sent.filter(|key| !self.is_needed(key)) {
                store.set_pinned(key, false).ok();
            }
            return Err(error.into());
        }
        let before = names.created.get(name);
        if let Some(CreatedFrom::Artifact(key)) = before.map(|before| &before.model.from) {
            self.let_go(&store, key);
        }
        Ok(created.model.clone())
    }

    /// What a name over this model is made from, and the preset that it takes over.
    fn made_from(
        &self,
        names: &Arc<Names>,
        reference: &str,
        preset: Preset,
        origin: Origin,
    ) -> Result<(CreatedFrom, String, Preset), Failure> {
        let target = self.target(names, reference, origin)?;
        if let Some(base) = &target.created {
            return Ok((base.model.from.clone(), reference.to_owned(), preset.or(&base.model.preset)));
        }
        let from = match (&target.kind, &target.place) {
            (Kind::Config, _) => target.given_name.clone().unwrap_or_else(|| reference.to_owned()),
            (_, ModelLocation::File(path)) => ModelRef::file(path).to_string(),
            (_, ModelLocation::Stored(artifact)) if demo::is(artifact) => demo::NAME.to_owned(),
            (_, ModelLocation::Stored(artifact)) => artifact.reference.clone(),
            (_, ModelLocation::Remote(_)) => reference.to_owned(),
        };
        let parent = match &target.place {
            ModelLocation::File(path) if target.kind == Kind::File => super::short_file_name(path),
            _ => reference.to_owned(),
        };
        Ok((CreatedFrom::Model(from), parent, preset))
    }

    /// Makes an artifact of a blob that is a model's weights.
    fn take_in(&self, names: &Arc<Names>, store: &Store, digest: &Digest) -> Result<KeyDigest, Failure> {
        let hex = digest.to_string();
        let key = ArtifactKey {
            source: UPLOADED.parse().expect("invariant: a plain word"),
            model: hex.parse().expect("invariant: hexadecimal digits"),
            commit: hex.parse().expect("invariant: hexadecimal digits"),
            quant: String::new(),
            modality: "text".to_owned(),
        };
        let path = "model.gguf".parse().expect("invariant: a plain file name");
        let reference = format!("{UPLOADED}:{hex}");
        let artifact = store.assemble(key, &reference, &[(path, Role::Weights, *digest)])?;
        let key = artifact.key_digest;
        let usable = self.uploaded(names, &key).and_then(|target| self.facts_for(&target, Purpose::Use));
        if let Err(failure) = usable {
            if !self.is_needed(&key) {
                store.remove(&key).ok();
            }
            let message = format!("the blob sha256:{hex} cannot be used: {}", failure.message);
            return Err(failure.with_message(message).with_param("files"));
        }
        Ok(key)
    }

    /// Gives up bytes that users sent, where no created name needs them any more. In use they stay until they are collected.
    fn let_go(&self, store: &Store, key: &KeyDigest) {
        if self.is_needed(key) {
            return;
        }
        let gone = store.set_pinned(key, false).and_then(|()| store.remove(key));
        if let Err(error) = gone {
            tracing::info!(%error, "the bytes of a replaced name stay until they are collected");
        }
    }

    /// Whether a created name is made from these bytes.
    fn is_needed(&self, key: &KeyDigest) -> bool {
        let needs = |created: &Arc<Created>| created.model.from == CreatedFrom::Artifact(*key);
        self.names_now().created.values().any(needs)
    }

    /// Removes an artifact, unless a created name needs its bytes.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(crate) fn remove_unneeded(&self, key: &KeyDigest) -> Result<Option<Removed>, Failure> {
        let _changing = self.created.changing();
        if self.is_needed(key) {
            return Ok(None);
        }
        Ok(Some(self.lazy_store.store()?.remove(key)?))
    }

    /// Deletes a created name, or tells which artifact goes by a name.
    ///
    /// # Errors
    /// `Forbidden` for what is not the store's to delete; `NotFound` for what is not here.
    pub(crate) fn doom(&self, name: &str, origin: Origin) -> Result<Doomed, Failure> {
        let _changing = self.created.changing();
        let names = self.names_now();
        let refuse = |message: String, hint: String| {
            Err(Failure::new(ErrorKind::Forbidden, message).with_param("model").with_hint(hint))
        };
        if names.aliases.contains_key(name) {
            let message = format!("`{name}` is a name of the settings, and is not deleted by a request");
            return refuse(message, format!("take [models.{name}] out of samovar.toml"));
        }
        if let Some(created) = names.created.get(name) {
            let store = self.lazy_store.store()?;
            store.remove_created(name)?;
            return Ok(match &created.model.from {
                CreatedFrom::Artifact(key) if !self.is_needed(key) => {
                    store.set_pinned(key, false)?;
                    Doomed::Bytes(*key)
                }
                _ => Doomed::Gone,
            });
        }
        let target = self.target(&names, name, origin)?;
        match &target.place {
            ModelLocation::Stored(artifact) if demo::is(artifact) => {
                refuse(format!("`{name}` is part of this program"), "leave it: it is small".to_owned())
            }
            ModelLocation::Stored(artifact) if self.is_needed(&artifact.key_digest) => refuse(
                format!("a created name is made from the bytes of `{name}`"),
                "delete the names that were created from them; the bytes go with the last one".to_owned(),
            ),
            ModelLocation::Stored(artifact) => Ok(Doomed::Artifact(artifact.key_digest)),
            ModelLocation::File(_) => {
                let hint = "delete it yourself; Samovar forgets it then".to_owned();
                refuse(format!("`{name}` is a file of its owner, and not in the store"), hint)
            }
            ModelLocation::Remote(_) => self.facts_for(&target, Purpose::Use).map(|_| Doomed::Gone),
        }
    }
}

/// Whether a name can be created.
fn check_name(names: &Names, name: &str) -> Result<(), Failure> {
    let refuse = |why: &str, hint: &str| {
        let shown: String = name.chars().take(40).collect();
        let message = format!("{shown:?} cannot be created: {why}");
        Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("model").with_hint(hint.to_owned()))
    };
    if names.aliases.contains_key(name) {
        return refuse("it is a name of the settings", "take another name, or change it in samovar.toml");
    }
    if name == demo::NAME {
        return refuse("it is the built-in model", "take another name");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(is_plain)
    };
    let (model, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let is_name = model.split('/').count() <= 2 && model.split('/').all(is_part) && is_part(tag);
    if name.len() > NAME_BYTES || !is_name {
        return refuse(
            "a name has letters, digits, `.`, `_` and `-`, at most one `/`, and a tag after `:`",
            "write a name such as poet, poet:v2 or me/poet",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_requests_can_write() {
        let names = Names::default();
        for name in ["poet", "poet:v2", "me/poet", "me/poet:Q4_K_M", "_x", "llama3.2:1b"] {
            assert!(check_name(&names, name).is_ok(), "{name}");
        }
        let long = "x".repeat(NAME_BYTES + 1);
        for name in
            ["", "demo", ":", "a:", "a:b:c", "/a", "a/", "../x", "a b", "a/b/c", "-a", "ü", "a\n", &long]
        {
            let failure = check_name(&names, name).expect_err("refuses");
            assert_eq!(
                (failure.kind, failure.param.as_deref()),
                (ErrorKind::InvalidRequest, Some("model")),
                "{name}"
            );
            assert!(failure.hint.is_some());
        }
    }

    #[test]
    fn documents_of_other_versions_are_left_out() {
        let model = CreatedModel {
            name: "poet".to_owned(),
            from: CreatedFrom::Model("demo".to_owned()),
            parent: "demo".to_owned(),
            preset: Preset::default(),
            created_unix_s: 7,
        };
        let (created, bytes) = Created::new(model).expect("is written");
        assert_eq!(Created::read(&bytes), Some(created));
        let newer = String::from_utf8(bytes).expect("text").replace("\"format\": 1", "\"format\": 2");
        assert_eq!(Created::read(newer.as_bytes()), None);
        assert_eq!(Created::read(b"{}"), None);
    }
}
