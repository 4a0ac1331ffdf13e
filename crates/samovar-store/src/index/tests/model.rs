//! The index against a model of plain maps: whatever is done in whatever order, both say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::artifact::name::Commit;

/// Models; each has two commits that users name by the same text.
const MODELS: u8 = 3;
const CONTENTS: u8 = 5;
const YEAR_2100: u64 = 4_102_444_800_000;

#[derive(Clone, Debug)]
enum Op {
    Commit { key: u8, contents: Vec<u8>, created_ms: u64 },
    Remove(u8),
    SetState(u8, BlobState),
    RemoveBlob(u8),
    NoteReference(u8, u8),
    SetRef(u8),
    Pin(u8, bool),
    Hit(u8),
    Count(bool, u8),
    Remember(u8, u8),
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..2 * MODELS;
    let state = prop::sample::select(&[BlobState::Ready, BlobState::Deleting, BlobState::Quarantined][..]);
    let created = prop::sample::select(&[1_000, 2_000, 3_000, YEAR_2100][..]);
    prop_oneof![
        4 => (key.clone(), prop::collection::vec(0..CONTENTS, 0..4), created)
            .prop_map(|(key, contents, created_ms)| Op::Commit { key, contents, created_ms }),
        2 => key.clone().prop_map(Op::Remove),
        2 => (0..CONTENTS, state).prop_map(|(content, state)| Op::SetState(content, state)),
        1 => (0..CONTENTS).prop_map(Op::RemoveBlob),
        2 => (0..4_u8, key.clone()).prop_map(|(text, key)| Op::NoteReference(text, key)),
        1 => key.clone().prop_map(Op::SetRef),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, is_pinned)| Op::Pin(key, is_pinned)),
        2 => key.prop_map(Op::Hit),
        1 => (any::<bool>(), 1..9_u8).prop_map(|(name, by)| Op::Count(name, by)),
        1 => (0..3_u8, any::<u8>()).prop_map(|(memo, value)| Op::Remember(memo, value)),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct ModelArtifact {
    id: i64,
    contents: Vec<u8>,
    created_ms: u64,
    is_pinned: bool,
    hits: u64,
}

#[derive(Default)]
struct Model {
    blobs: BTreeMap<u8, BlobState>,
    artifacts: BTreeMap<u8, ModelArtifact>,
    references: BTreeMap<String, u8>,
    refs: BTreeMap<u8, (Commit, u64)>,
    counters: BTreeMap<String, u64>,
    memos: BTreeMap<String, String>,
}

fn key_of(number: u8) -> ArtifactKey {
    key(&format!("org/name-{}", number / 2), &format!("c{}", number % 2))
}

fn text_of(number: u8) -> String {
    manifest(&key_of(number), &[], 0).reference
}

fn alias(text: u8) -> String {
    if text < MODELS { text_of(2 * text) } else { "an alias".to_owned() }
}

fn content_of(content: u8) -> String {
    format!("content {content}")
}

fn digest_of(content: u8) -> Digest {
    Digest::of_bytes(content_of(content).as_bytes())
}

fn believed(ms: u64) -> u64 {
    if ms > now_ms() { 0 } else { ms }
}

impl Model {
    fn commit(&mut self, number: u8, contents: &[u8], created_ms: u64) {
        self.blobs.extend(contents.iter().map(|content| (*content, BlobState::Ready)));
        let next = self.artifacts.values().map(|artifact| artifact.id).max().unwrap_or(0) + 1;
        let artifact = self.artifacts.entry(number).or_insert(ModelArtifact {
            id: next,
            contents: Vec::new(),
            created_ms,
            is_pinned: false,
            hits: 0,
        });
        artifact.contents = contents.to_vec();
        artifact.created_ms = created_ms;
        let meant = self.references.get(&text_of(number)).map(|meant| self.artifacts[meant].created_ms);
        if meant.is_none_or(|meant| believed(created_ms) >= believed(meant)) {
            self.references.insert(text_of(number), number);
        }
        let led = self.refs.get(&(number / 2)).map(|led| led.1);
        if led.is_none_or(|led| believed(created_ms) >= believed(led)) {
            self.refs.insert(number / 2, (key_of(number).commit, created_ms));
        }
    }

    fn remove(&mut self, number: u8) -> Vec<Digest> {
        let Some(gone) = self.artifacts.remove(&number) else { return Vec::new() };
        let was_meant = self.references.get(&text_of(number)) == Some(&number);
        self.references.retain(|_, meant| *meant != number);
        if was_meant && self.artifacts.contains_key(&(number ^ 1)) {
            self.references.insert(text_of(number), number ^ 1);
        }
        let is_free = |content: &u8| !self.artifacts.values().any(|other| other.contents.contains(content));
        let mut free: Vec<Digest> = gone.contents.into_iter().filter(is_free).map(digest_of).collect();
        free.sort();
        free.dedup();
        free
    }

    fn remove_blob(&mut self, content: u8) {
        if self.artifacts.values().any(|artifact| artifact.contents.contains(&content)) {
            self.blobs.insert(content, BlobState::Quarantined);
        } else {
            self.blobs.remove(&content);
        }
    }

    fn is_whole(&self, number: u8) -> bool {
        let contents = self.artifacts.get(&number).map(|artifact| &artifact.contents);
        contents.is_some_and(|all| all.iter().all(|content| self.blobs[content] == BlobState::Ready))
    }
}

struct Pair {
    fixture: Fixture,
    index: Option<Index>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let fixture = Fixture::new();
        let index = fixture.index();
        index.set_rebuilt().unwrap();
        Self { fixture, index: Some(index), model: Model::default() }
    }

    fn index(&self) -> &Index {
        self.index.as_ref().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Commit { key, contents, created_ms } => {
                let texts: Vec<String> = contents.iter().map(|content| content_of(*content)).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                commit_at(self.index(), &key_of(*key), &texts, *created_ms);
                self.model.commit(*key, contents, *created_ms);
            }
            Op::Remove(key) => {
                let mut free = self.index().remove_artifact(&key_of(*key).digest()).unwrap();
                free.sort();
                assert_eq!(free, self.model.remove(*key));
            }
            Op::SetState(content, state) => {
                self.index().set_blob_state(&digest_of(*content), *state).unwrap();
                self.model.blobs.entry(*content).and_modify(|known| *known = *state);
            }
            Op::RemoveBlob(content) => {
                self.index().remove_blob(&digest_of(*content)).unwrap();
                self.model.remove_blob(*content);
            }
            Op::NoteReference(text, key) => {
                self.index().note_reference(&alias(*text), &key_of(*key).digest()).unwrap();
                if self.model.artifacts.contains_key(key) {
                    self.model.references.insert(alias(*text), *key);
                }
            }
            Op::SetRef(number) => {
                let key = key_of(*number);
                self.index().set_ref(&key.source, &key.model, "main", &key.commit).unwrap();
                self.model.refs.insert(number / 2, (key.commit, now_ms()));
            }
            Op::Pin(key, is_pinned) => {
                self.index().set_pinned(&key_of(*key).digest(), *is_pinned).unwrap();
                self.model.artifacts.entry(*key).and_modify(|artifact| artifact.is_pinned = *is_pinned);
            }
            Op::Hit(key) => self.hit(*key),
            Op::Count(name, by) => {
                let name = if *name { "one" } else { "two" };
                self.index().count(name, u64::from(*by));
                *self.model.counters.entry(name.to_owned()).or_default() += u64::from(*by);
            }
            Op::Remember(memo, value) => {
                let (memo, value) = (format!("memo {memo}"), value.to_string());
                self.index().remember(&memo, &value).unwrap();
                self.model.memos.insert(memo, value);
            }
            Op::Flush => self.index().flush(),
            Op::Reopen => {
                self.index = None;
                let Opened { index, was } = self.fixture.open();
                assert_eq!(was, Was::Existing);
                self.index = Some(index);
            }
        }
    }

    /// A hit on what is not there is noted for an artifact that may come before it is written; the store never does
    /// that, and the model does not know it.
    fn hit(&mut self, number: u8) {
        if let Some(artifact) = self.model.artifacts.get_mut(&number) {
            artifact.hits += 1;
            self.index().note(&key_of(number).digest(), Use::Hit);
            // Removed and committed again before the batch leaves, it would inherit the hit; write it now.
            self.index().flush();
        }
    }

    fn compare(&self) {
        let (index, model) = (self.index(), &self.model);
        for content in 0..CONTENTS {
            let state = index.blob(&digest_of(content)).unwrap().map(|row| row.state);
            assert_eq!(state, model.blobs.get(&content).copied(), "blob {content}");
            let users = index.artifacts_with_blob(&digest_of(content)).unwrap().len();
            let expected =
                model.artifacts.values().filter(|artifact| artifact.contents.contains(&content)).count();
            assert_eq!(users, expected, "users of {content}");
        }
        for number in 0..2 * MODELS {
            let key = key_of(number);
            let found = index.artifact_in_any_state(&key.digest()).unwrap();
            assert_eq!(found.as_ref().map(seen), model.artifacts.get(&number).cloned(), "artifact {number}");
            let is_whole = index.artifact(&key.digest()).unwrap().is_some();
            assert_eq!(is_whole, model.is_whole(number), "artifact {number}");
            let led = index.ref_of(&key.source, &key.model, "main").unwrap().map(|led| led.commit);
            assert_eq!(led, model.refs.get(&(number / 2)).map(|led| led.0.clone()), "main of {number}");
        }
        for text in 0..=MODELS {
            let meant = model.references.get(&alias(text)).filter(|number| model.is_whole(**number));
            let found = index.by_reference(&alias(text)).unwrap().map(|artifact| artifact.key);
            assert_eq!(found, meant.map(|number| key_of(*number)), "{}", alias(text));
        }
        let mut order: Vec<(i64, ArtifactKey)> =
            model.artifacts.iter().map(|(number, artifact)| (artifact.id, key_of(*number))).collect();
        order.sort_by_key(|(id, _)| *id);
        let listed: Vec<_> = index.artifacts().unwrap().into_iter().map(|one| (one.id, one.key)).collect();
        assert_eq!(listed, order);
        assert_eq!(index.counters().unwrap(), model.counters);
        for (memo, value) in &model.memos {
            assert_eq!(index.recall(memo).unwrap().as_ref(), Some(value));
        }
    }
}

fn seen(artifact: &crate::Artifact) -> ModelArtifact {
    let content =
        |file: &ManifestFile| (0..CONTENTS).find(|content| digest_of(*content) == file.digest).unwrap();
    ModelArtifact {
        id: artifact.id,
        contents: artifact.files.iter().map(content).collect(),
        created_ms: artifact.created_ms,
        is_pinned: artifact.is_pinned,
        hits: artifact.usage.hits,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_index_says_what_the_model_says(ops in prop::collection::vec(op(), 1..40)) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op);
            pair.compare();
        }
    }
}
