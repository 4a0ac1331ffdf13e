//! The store against a simple model of it, through random operations: what is there, whole, leased and pinned.
//!
//! The source is a scripted one in memory, which counts what it is asked for. After each operation the
//! invariants are checked on the disk itself, not by what the store says of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use samovar_core::Digest;
use samovar_core::model::ArtifactRef;
use samovar_store::source::{Body, Listing, Promise, RemoteFile, Source};
use samovar_store::{
    ArtifactKey, CollectOptions, Error, KeyDigest, Opened, Role, Store, StoreConfig, VerifyOptions,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Models at the source.
const MODELS: usize = 4;
/// Contents that files have; models share them.
const CONTENTS: usize = 6;
/// Commits that a model's branch can be at.
const COMMITS: usize = 3;
const LEASES: usize = 3;

/// Which contents the files of a model have at a commit.
fn contents(model: usize, commit: usize) -> Vec<usize> {
    let files = 1 + (model + commit) % 3;
    (0..files).map(|file| (model * 2 + commit + file * 3) % CONTENTS).collect()
}

fn bytes(content: usize) -> Vec<u8> {
    let size = [0, 1, 700, 4096, 70_000, 1_200_000][content];
    (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ content as u8).collect()
}

fn reference(model: usize) -> ArtifactRef {
    format!("hf://org/model{model}:Q4_K_M").parse().unwrap()
}

fn key(model: usize, commit: usize) -> ArtifactKey {
    ArtifactKey {
        source: "hub".parse().unwrap(),
        model: format!("org/model{model}").parse().unwrap(),
        commit: format!("c{commit}").parse().unwrap(),
        quant: "Q4_K_M".to_owned(),
        modality: "text".to_owned(),
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Ensure(usize),
    Pull(usize),
    /// The branch at the source goes on.
    Move(usize),
    Open(usize),
    /// Drops the oldest lease.
    Release,
    Remove(usize),
    /// Collects everything that may go.
    Collect,
    Pin(usize, bool),
    /// A process writes into a blob.
    Corrupt(usize),
    Verify,
    DeleteIndex,
    Reopen,
}

/// What drives the choice of operations: next to nothing, since the store's answers are followed below.
#[derive(Clone, Debug)]
struct Driver;

impl ReferenceStateMachine for Driver {
    type State = ();
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Operation> {
        prop_oneof![
            6 => (0..MODELS).prop_map(Operation::Ensure),
            3 => (0..MODELS).prop_map(Operation::Pull),
            2 => (0..MODELS).prop_map(Operation::Move),
            6 => (0..MODELS).prop_map(Operation::Open),
            2 => Just(Operation::Release),
            2 => (0..MODELS).prop_map(Operation::Remove),
            2 => Just(Operation::Collect),
            2 => (0..MODELS, any::<bool>()).prop_map(|(model, pinned)| Operation::Pin(model, pinned)),
            2 => (0..CONTENTS).prop_map(Operation::Corrupt),
            1 => Just(Operation::Verify),
            1 => Just(Operation::DeleteIndex),
            2 => Just(Operation::Reopen),
        ]
        .boxed()
    }

    fn apply((): (), _: &Operation) {}
}

/// The source: where branches are, and what was fetched.
#[derive(Default)]
struct World {
    branches: [usize; MODELS],
    fetched: Vec<usize>,
}

struct Scripted(Arc<Mutex<World>>);

impl Source for Scripted {
    fn resolve<'a>(&'a self, asked: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        let model = (0..MODELS).find(|model| reference(*model) == *asked).unwrap();
        let commit = self.0.lock().unwrap().branches[model];
        let file = |(at, content): (usize, &usize)| RemoteFile {
            path: format!("file{at}.gguf").parse().unwrap(),
            role: Role::Weights,
            size: Some(bytes(*content).len() as u64),
            promise: match content % 3 {
                // Some files come without a promise, at a place that names its version.
                0 => Promise::Unknown,
                _ => Promise::Sha256(Digest::of_bytes(&bytes(*content))),
            },
            locator: format!("content{content}"),
            etag: Some(format!("\"{content}\"")),
            local: None,
        };
        let listing = Listing {
            key: key(model, commit),
            revision: Some("main".to_owned()),
            reference: asked.to_string(),
            files: contents(model, commit).iter().enumerate().map(file).collect(),
        };
        async move { Ok(listing) }.boxed()
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        let content: usize = file.locator.strip_prefix("content").unwrap().parse().unwrap();
        let bytes = bytes(content);
        if range.start == 0 {
            self.0.lock().unwrap().fetched.push(content);
        }
        let end = range.end.min(bytes.len() as u64) as usize;
        let (size, piece) = (bytes.len() as u64, Bytes::from(bytes[range.start as usize..end].to_vec()));
        let body = Body {
            stream: futures_util::stream::iter([Ok(piece)]).boxed_stream(),
            start: range.start,
            size: Some(size),
            etag: file.etag.clone(),
            is_whole: false,
        };
        async move { Ok(body) }.boxed()
    }
}

trait BoxedStream: Sized {
    fn boxed_stream(self) -> futures_util::stream::BoxStream<'static, Result<Bytes, Error>>;
}

impl<S> BoxedStream for S
where
    S: futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    fn boxed_stream(self) -> futures_util::stream::BoxStream<'static, Result<Bytes, Error>> {
        Box::pin(self)
    }
}

/// An artifact in use.
struct Held {
    model: usize,
    commit: usize,
    opened: Opened,
    /// Contents that were written to while they were in use: their users see it.
    spoilt: BTreeSet<usize>,
}

/// The store, and what it should be.
struct Tested {
    dir: TempDir,
    runtime: Runtime,
    world: Arc<Mutex<World>>,
    store: Option<Store>,
    /// Artifacts that are here, by model and commit.
    here: BTreeSet<(usize, usize)>,
    /// What a model's name means here.
    names: BTreeMap<usize, usize>,
    pinned: BTreeSet<(usize, usize)>,
    /// Contents whose blobs were written to, and not found out yet.
    corrupt: BTreeSet<usize>,
    leases: Vec<Held>,
}

impl Tested {
    fn open(dir: &TempDir, world: &Arc<Mutex<World>>) -> Store {
        let mut config = StoreConfig::new(dir.path().join("cache"), dir.path().join("state"));
        config.min_free_bytes = 0;
        // All that may go goes with every collection.
        config.max_size_bytes = Some(1 << 30);
        Store::with_source(config, Scripted(Arc::clone(world))).unwrap()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn blob(&self, content: usize) -> PathBuf {
        let hex = Digest::of_bytes(&bytes(content)).to_string();
        self.dir.path().join("cache/blobs/sha256").join(&hex[..2]).join(hex)
    }

    fn is_leased(&self, content: usize) -> bool {
        self.leases.iter().any(|held| {
            contents(held.model, held.commit).contains(&content) && !held.spoilt.contains(&content)
        })
    }

    /// Whether the artifact is here with all of its bytes where they should be.
    fn has_files(&self, model: usize, commit: usize) -> bool {
        contents(model, commit).iter().all(|content| self.blob(*content).exists())
    }

    /// What a look at every byte of an artifact does: damaged blobs leave.
    fn find_out(&mut self, model: usize, commit: usize) {
        for content in contents(model, commit) {
            self.corrupt.remove(&content);
        }
    }

    fn bring(&mut self, model: usize, asks: bool) {
        let branch = self.world.lock().unwrap().branches[model];
        let known = self.names.get(&model).copied().filter(|commit| self.here.contains(&(model, *commit)));
        let is_right = |tested: &Self, commit: usize| {
            tested.has_files(model, commit)
                && contents(model, commit).iter().all(|content| !tested.corrupt.contains(content))
        };
        let commit = match known {
            Some(commit) if !asks && is_right(self, commit) => commit,
            _ => branch,
        };
        let expected: BTreeSet<usize> = contents(model, commit)
            .into_iter()
            .filter(|content| !self.blob(*content).exists() || self.corrupt.contains(content))
            .collect();
        let had = self.here.contains(&(model, commit)) && is_right(self, commit);
        self.world.lock().unwrap().fetched.clear();
        let pulled = if asks {
            self.runtime.block_on(self.store().pull(&reference(model), None)).unwrap().artifact
        } else {
            self.runtime.block_on(self.store().ensure(&reference(model), None)).unwrap()
        };
        assert_eq!(pulled.key, key(model, commit));
        let fetched = self.world.lock().unwrap().fetched.clone();
        let distinct: BTreeSet<usize> = fetched.iter().copied().collect();
        assert_eq!(fetched.len(), distinct.len(), "nothing is fetched twice");
        if had {
            assert!(fetched.is_empty(), "{fetched:?} was here");
        }
        // Files without bytes need no request.
        assert!(distinct.is_subset(&expected), "fetched {distinct:?}, missing were {expected:?}");
        for content in contents(model, commit) {
            self.corrupt.remove(&content);
        }
        self.here.insert((model, commit));
        self.names.insert(model, commit);
    }

    fn check(&self) {
        let listed: BTreeSet<String> =
            self.store().list().unwrap().iter().map(|artifact| artifact.key_digest.to_string()).collect();
        for (model, commit) in &self.here {
            let name = key(*model, *commit).digest().to_string();
            if self.has_files(*model, *commit) {
                assert!(listed.contains(&name), "model {model} at {commit} is here and not listed");
            }
        }
        for digest in &listed {
            let is_known = self.here.iter().any(|(m, c)| key(*m, *c).digest().to_string() == *digest);
            assert!(is_known, "{digest} is listed and was removed");
        }
        // Nothing has a final name but verified bytes, except what the test itself wrote to.
        for content in 0..CONTENTS {
            match fs_err::read(self.blob(content)) {
                Ok(found) => assert!(
                    self.corrupt.contains(&content) || found == bytes(content),
                    "content {content} is not what its name says"
                ),
                Err(_) => assert!(!self.is_leased(content), "content {content} was in use"),
            }
        }
        for held in &self.leases {
            for (file, content) in held.opened.artifact().files.iter().zip(contents(held.model, held.commit))
            {
                if !held.spoilt.contains(&content) {
                    let path = held.opened.path_of(&file.path).unwrap();
                    assert_eq!(fs_err::read(path).unwrap(), bytes(content));
                }
            }
        }
        assert_eq!(fs_err::read_dir(self.dir.path().join("cache/partial")).unwrap().count(), 0);
    }
}

impl StateMachineTest for Tested {
    type SystemUnderTest = Self;
    type Reference = Driver;

    fn init_test((): &()) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let store = Some(Self::open(&dir, &world));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self {
            dir,
            runtime,
            world,
            store,
            here: BTreeSet::new(),
            names: BTreeMap::new(),
            pinned: BTreeSet::new(),
            corrupt: BTreeSet::new(),
            leases: Vec::new(),
        }
    }

    fn apply(mut tested: Self, (): &(), operation: Operation) -> Self {
        match operation {
            Operation::Ensure(model) => tested.bring(model, false),
            Operation::Pull(model) => tested.bring(model, true),
            Operation::Move(model) => {
                let mut world = tested.world.lock().unwrap();
                world.branches[model] = (world.branches[model] + 1) % COMMITS;
            }
            Operation::Open(model) => open(&mut tested, model),
            Operation::Release => {
                if !tested.leases.is_empty() {
                    tested.leases.remove(0);
                }
            }
            Operation::Remove(model) => remove(&mut tested, model),
            Operation::Collect => collect(&mut tested),
            Operation::Pin(model, is_pinned) => pin(&mut tested, model, is_pinned),
            Operation::Corrupt(content) => corrupt(&mut tested, content),
            Operation::Verify => {
                let options = VerifyOptions::default();
                let _ = tested.runtime.block_on(tested.store().verify(&options)).unwrap();
                tested.corrupt.clear();
            }
            Operation::DeleteIndex => {
                for end in ["", "-wal", "-shm"] {
                    let name = format!("cache/index.sqlite3{end}");
                    let _ = fs_err::remove_file(tested.dir.path().join(name));
                }
                // Filling it finds whatever was written to after its manifest; and a name that moved back means
                // the newest again.
                let _ = tested.store().list().unwrap();
                let here: Vec<_> = tested.here.iter().copied().collect();
                for (model, commit) in here {
                    tested.find_out(model, commit);
                }
                let left: BTreeSet<_> =
                    tested.here.iter().copied().filter(|(m, c)| tested.has_files(*m, *c)).collect();
                tested.here = left;
                tested.names = names_now(&tested);
            }
            Operation::Reopen => {
                tested.leases.clear();
                tested.store = None;
                tested.store = Some(Self::open(&tested.dir, &tested.world));
            }
        }
        tested
    }

    fn check_invariants(tested: &Self, (): &()) {
        tested.check();
    }
}

fn names_now(tested: &Tested) -> BTreeMap<usize, usize> {
    let commit_of = |key: &ArtifactKey| key.commit.as_str()[1..].parse().unwrap();
    let found = |model: usize| tested.store().find(&reference(model)).unwrap();
    (0..MODELS).filter_map(|model| Some((model, commit_of(&found(model)?.key)))).collect()
}

fn open(tested: &mut Tested, model: usize) {
    let Some(commit) = tested.names.get(&model).copied() else { return };
    if !tested.here.contains(&(model, commit)) {
        return;
    }
    let is_whole = tested.has_files(model, commit);
    let is_corrupt = contents(model, commit).iter().any(|content| tested.corrupt.contains(content));
    let opened = tested.store().open_artifact(&key(model, commit).digest());
    match opened {
        Ok(opened) => {
            assert!(is_whole && !is_corrupt, "opened what is not right");
            tested.leases.push(Held { model, commit, opened, spoilt: BTreeSet::new() });
            if tested.leases.len() > LEASES {
                tested.leases.remove(0);
            }
        }
        Err(Error::Damaged { digest, .. }) => {
            let content = (0..CONTENTS).find(|content| Digest::of_bytes(&bytes(*content)) == digest).unwrap();
            assert!(tested.corrupt.remove(&content), "content {content} was right");
        }
        Err(Error::Missing { .. }) => assert!(!is_whole),
        Err(error) => panic!("{error}"),
    }
}

fn remove(tested: &mut Tested, model: usize) {
    let Some(commit) = tested.names.get(&model).copied() else { return };
    if !tested.here.contains(&(model, commit)) {
        return;
    }
    match tested.store().remove(&key(model, commit).digest()) {
        Ok(_) => {
            assert!(!is_in_use(tested, model, commit), "an artifact in use was removed");
            forget(tested, (model, commit));
        }
        Err(Error::InUse { .. }) => {
            let held = tested.leases.iter().flat_map(|held| contents(held.model, held.commit));
            let held: BTreeSet<usize> = held.collect();
            assert!(contents(model, commit).iter().any(|content| held.contains(content)));
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether a process uses an artifact of which nothing was spoilt.
fn is_in_use(tested: &Tested, model: usize, commit: usize) -> bool {
    let is_it = |held: &&Held| (held.model, held.commit) == (model, commit);
    tested.leases.iter().filter(is_it).any(|held| held.spoilt.is_empty())
}

fn forget(tested: &mut Tested, gone: (usize, usize)) {
    tested.here.remove(&gone);
    tested.pinned.remove(&gone);
    for content in contents(gone.0, gone.1) {
        if !tested.blob(content).exists() {
            tested.corrupt.remove(&content);
        }
    }
    tested.names = names_now(tested);
}

fn collect(tested: &mut Tested) {
    let options = CollectOptions { room_bytes: 1 << 30, ..CollectOptions::default() };
    let collected = tested.store().collect(&options).unwrap();
    let gone: BTreeSet<KeyDigest> = collected.removed.iter().map(|removed| removed.key).collect();
    let gone: Vec<(usize, usize)> =
        tested.here.iter().copied().filter(|(m, c)| gone.contains(&key(*m, *c).digest())).collect();
    assert_eq!(gone.len(), collected.removed.len());
    for (model, commit) in gone {
        assert!(!tested.pinned.contains(&(model, commit)), "a pinned artifact went");
        assert!(!is_in_use(tested, model, commit), "an artifact in use went");
        forget(tested, (model, commit));
    }
}

fn pin(tested: &mut Tested, model: usize, is_pinned: bool) {
    let Some(commit) = tested.names.get(&model).copied() else { return };
    if !tested.here.contains(&(model, commit)) {
        return;
    }
    match tested.store().set_pinned(&key(model, commit).digest(), is_pinned) {
        Ok(()) if is_pinned => drop(tested.pinned.insert((model, commit))),
        Ok(()) => drop(tested.pinned.remove(&(model, commit))),
        Err(Error::Missing { .. }) => assert!(!tested.has_files(model, commit)),
        Err(error) => panic!("{error}"),
    }
}

fn corrupt(tested: &mut Tested, content: usize) {
    let path = tested.blob(content);
    if !path.exists() || bytes(content).is_empty() {
        return;
    }
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs_err::File::options().write(true).open(&path).unwrap();
    file.file().write_all_at(&[!bytes(content)[0]], 0).unwrap();
    // Clocks of files are coarse; a second later is what a user would see.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    file.file().set_modified(later).unwrap();
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    tested.corrupt.insert(content);
    for held in &mut tested.leases {
        held.spoilt.insert(content);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_its_model_does(sequential 1..24 => Tested);
}
