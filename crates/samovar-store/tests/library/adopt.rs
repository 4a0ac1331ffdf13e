//! What other programs downloaded becomes ours without a second copy, and whatever is wrong with it is
//! passed over with a word.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails or says so")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fs_err::os::unix::fs::symlink;
use futures_util::FutureExt as _;
use samovar_core::{ArtifactRef, Digest};
use samovar_store::{
    AdoptKind, AdoptOptions, AdoptRoot, Adopted, Artifact, Placement, SourceConfig, Store, StoreConfig, Watch,
};

const COMMIT: &str = "3d8d79edaef659b96ef9e9a0bf5d41c84cc10e9f";
const OTHER_COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A store, offline, and a place beside it for other programs' folders.
struct World {
    dir: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { dir, store }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn adopt(&self, root: &str, kind: AdoptKind) -> Adopted {
        self.adopt_with(root, kind, AdoptOptions::default())
    }

    fn adopt_with(&self, root: &str, kind: AdoptKind, options: AdoptOptions) -> Adopted {
        let roots = vec![AdoptRoot::new(self.path(root), kind)];
        self.store.adopt(&AdoptOptions { roots, ..options }).unwrap()
    }

    fn find(&self, reference: &str) -> Option<Artifact> {
        self.store.find(&reference.parse::<ArtifactRef>().unwrap()).unwrap()
    }

    /// The bytes of the weights as an engine would read them.
    fn bytes(&self, reference: &str) -> Vec<u8> {
        let artifact = self.find(reference).unwrap_or_else(|| panic!("{reference} is not here"));
        let opened = self.store.open_artifact(&artifact.key_digest).unwrap();
        opened.weights().iter().flat_map(|path| fs_err::read(path).unwrap()).collect()
    }
}

fn open(dir: &Path) -> Store {
    let mut config = StoreConfig::new(dir.join("store"), dir.join("state"));
    config.sources = SourceConfig { is_offline: true, ..SourceConfig::default() };
    Store::open(config).unwrap()
}

/// The beginning of a GGUF file without keys and tensors.
const HEADER: [u8; 24] = *b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn content(seed: u8, length: usize) -> Vec<u8> {
    let more = (HEADER.len()..length).map(|place| (place as u8).wrapping_mul(37).wrapping_add(seed));
    HEADER.into_iter().chain(more).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
}

/// A file of a Hugging Face cache in the layout that it has had from the start.
fn hf_file(cache: &Path, repository: &str, commit: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let folder = cache.join(format!("models--{}", repository.replace('/', "--")));
    let blob = folder.join("blobs").join(Digest::of_bytes(bytes).to_string());
    write(&blob, bytes);
    let link = folder.join("snapshots").join(commit).join(name);
    fs_err::create_dir_all(link.parent().unwrap()).unwrap();
    let up = "../".repeat(2 + name.matches('/').count());
    symlink(format!("{up}blobs/{}", Digest::of_bytes(bytes)), link).unwrap();
    write(&folder.join("refs/main"), commit.as_bytes());
    blob
}

fn reasons(adopted: &Adopted) -> Vec<&str> {
    adopted.skipped.iter().map(|skipped| skipped.reason.as_str()).collect()
}

fn references(adopted: &Adopted) -> Vec<&str> {
    let mut references: Vec<_> = adopted.artifacts.iter().map(|it| it.reference.as_str()).collect();
    references.sort_unstable();
    references
}

fn state(path: &Path) -> (u32, u32, u64, i64, Vec<u8>) {
    let facts = fs_err::symlink_metadata(path).unwrap();
    (facts.mode(), facts.uid(), facts.ino(), facts.mtime_nsec(), fs_err::read(path).unwrap())
}

#[test]
fn a_hub_cache_is_found_by_the_hubs_references_without_network() {
    let world = World::new();
    let cache = world.path("hub");
    let q4 = content(4, 50_000);
    let blob = hf_file(&cache, "acme/tiny-GGUF", COMMIT, "tiny-Q4_K_M.gguf", &q4);
    hf_file(&cache, "acme/tiny-GGUF", COMMIT, "tiny-Q8_0.gguf", &content(8, 60_000));
    hf_file(&cache, "acme/tiny-GGUF", COMMIT, "README.md", b"hello");
    hf_file(&cache, "acme/tiny-GGUF", COMMIT, "pytorch_model.bin", b"pickle");
    let before = state(&blob);

    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://acme/tiny-GGUF:Q4_K_M", "hf://acme/tiny-GGUF:Q8_0"]);
    assert_eq!(reasons(&adopted), Vec::<&str>::new());
    assert_eq!(adopted.saved_bytes(), 110_000);

    assert_eq!(world.bytes("hf://acme/tiny-GGUF:Q4_K_M"), q4);
    assert_eq!(world.bytes("acme/tiny-GGUF"), q4, "the preferred one without a quantization");
    assert_eq!(world.bytes(&format!("hf://acme/tiny-GGUF@{COMMIT}:Q4_K_M")), q4);
    assert_eq!(world.bytes("hf://acme/tiny-GGUF@main:Q8_0"), content(8, 60_000));
    let key = world.find("acme/tiny-GGUF:Q4_K_M").unwrap().key;
    assert_eq!((key.source.as_str(), key.commit.as_str()), ("hub", COMMIT));
    assert_eq!(state(&blob), before, "the other program's file is as it was");
}

#[test]
fn nothing_is_doubled_on_one_disk() {
    let world = World::new();
    let blob = hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 200_000));
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    let how = adopted.artifacts[0].how.unwrap();
    assert!(matches!(how, Placement::Reflink | Placement::HardLink), "{how:?}");
    if how == Placement::HardLink {
        assert_eq!(fs_err::metadata(&blob).unwrap().nlink(), 2);
    }
    if how == Placement::Reflink {
        println!("the blocks are shared: not told by lengths");
        return;
    }
    let own = disk_bytes(&world.store.dir().join("blobs"), &blob);
    assert_eq!(own, 0, "bytes of its own");
}

/// Bytes that files below a folder take, without those that are also `shared`.
fn disk_bytes(folder: &Path, shared: &Path) -> u64 {
    let shared = fs_err::metadata(shared).unwrap();
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let facts = entry.metadata().unwrap();
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.ino() != shared.ino() {
                bytes += facts.len();
            }
        }
    }
    bytes
}

#[test]
fn blobs_that_repositories_share_are_followed_to_the_end() {
    let world = World::new();
    let cache = world.path("hub");
    let bytes = content(3, 40_000);
    let blob = hf_file(&cache, "a/b", COMMIT, "b-Q4_K_M.gguf", &bytes);
    let xet = Digest::of_bytes(b"another hash").to_string();
    let shared = cache.join("blobs").join(&xet[..2]).join(&xet);
    write(&cache.join("blobs/.huggingface-shared-blobs"), b"1\n");
    fs_err::create_dir_all(shared.parent().unwrap()).unwrap();
    fs_err::rename(&blob, &shared).unwrap();
    symlink(format!("../../blobs/{}/{xet}", &xet[..2]), &blob).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!((references(&adopted), reasons(&adopted)), (vec!["hf://a/b:Q4_K_M"], vec![]));
    assert_eq!(world.bytes("a/b:Q4_K_M"), bytes);
}

#[test]
fn adopting_twice_does_nothing() {
    let world = World::new();
    hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 1000));
    world.adopt("hub", AdoptKind::HuggingFace);
    let before = world.store.list().unwrap();
    let again = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!((again.artifacts[0].how, again.saved_bytes()), (None, 0));
    assert_eq!(world.store.list().unwrap(), before);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let world = World::new();
    hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 1000));
    let options = AdoptOptions { dry_run: true, ..AdoptOptions::default() };
    let adopted = world.adopt_with("hub", AdoptKind::HuggingFace, options);
    assert_eq!(references(&adopted), ["hf://a/b:Q4_K_M"]);
    assert_eq!((adopted.artifacts[0].how, adopted.saved_bytes()), (Some(Placement::HardLink), 1000));
    assert_eq!(world.store.list().unwrap(), []);
    assert!(world.find("a/b:Q4_K_M").is_none());
}

#[test]
fn bytes_that_are_not_what_their_name_claims_are_refused() {
    let world = World::new();
    let cache = world.path("hub");
    let blob = hf_file(&cache, "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 1000));
    hf_file(&cache, "a/c", COMMIT, "c-Q4_K_M.gguf", &content(2, 1000));
    fs_err::write(&blob, content(9, 1000)).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://a/c:Q4_K_M"], "the others go well");
    assert!(reasons(&adopted)[0].starts_with("is not what its name says"), "{:?}", adopted.skipped);
    assert!(world.find("a/b:Q4_K_M").is_none());
}

#[test]
fn links_that_lead_out_loop_or_break_are_skipped_with_a_reason() {
    let world = World::new();
    let cache = world.path("hub");
    write(&world.path("secret"), b"secret");
    hf_file(&cache, "a/good", COMMIT, "good-Q4_K_M.gguf", &content(2, 1000));
    let snapshot = cache.join("models--a--b/snapshots").join(COMMIT);
    fs_err::create_dir_all(&snapshot).unwrap();
    symlink(world.path("secret"), snapshot.join("out-Q4_K_M.gguf")).unwrap();
    symlink("../../../../secret", snapshot.join("up-Q4_K_M.gguf")).unwrap();
    symlink("loop.gguf", snapshot.join("loop.gguf")).unwrap();
    symlink("../../blobs/gone", snapshot.join("gone.gguf")).unwrap();
    symlink("..", snapshot.join("folder")).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://a/good:Q4_K_M"]);
    let leading_out = reasons(&adopted).iter().filter(|it| it.contains("leads out")).count();
    assert_eq!((leading_out, adopted.skipped.len()), (2, 4), "{:?}", adopted.skipped);
}

#[test]
fn names_that_lead_elsewhere_are_skipped() {
    let world = World::new();
    let cache = world.path("hub");
    for name in ["models--..--b", "models--a", "models--a--b--c", "models----", "models--a--.."] {
        fs_err::create_dir_all(cache.join(name).join("snapshots").join(COMMIT)).unwrap();
    }
    let snapshot = cache.join("models--a--b/snapshots");
    for name in
        ["x:y-Q4_K_M.gguf", "nul.gguf", "a\\b.gguf", "x\u{202e}.gguf", &format!("{}.gguf", "x".repeat(250))]
    {
        write(&snapshot.join(COMMIT).join(name), &content(1, 100));
    }
    fs_err::create_dir_all(snapshot.join("not a commit")).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    // The long name is within limits and a model like any other.
    assert_eq!(adopted.artifacts.len(), 1, "{adopted:?}");
    assert_eq!(adopted.skipped.len(), 5 + 4 + 1, "{:?}", adopted.skipped);
}

#[test]
fn half_a_download_is_skipped_and_says_what_is_missing() {
    let world = World::new();
    let cache = world.path("hub");
    hf_file(&cache, "a/split", COMMIT, "x-Q8_0-00001-of-00002.gguf", &content(1, 1000));
    for name in ["model.safetensors", "config.json"] {
        hf_file(&cache, "a/safe", COMMIT, name, name.as_bytes());
    }
    let tree = r#"{"format_version":1,"files":{
        "model.safetensors":{"size":17,"blob_id":"x"},"config.json":{"size":11,"blob_id":"x"},
        "tokenizer.json":{"size":5,"blob_id":"x"}}}"#;
    write(&cache.join(format!("models--a--safe/trees/{COMMIT}.json")), tree.as_bytes());
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), Vec::<&str>::new());
    let reasons = reasons(&adopted).join("\n");
    assert!(reasons.contains("part 2 of 2") && reasons.contains("tokenizer.json"), "{reasons}");
    hf_file(&cache, "a/split", COMMIT, "x-Q8_0-00002-of-00002.gguf", &content(2, 1000));
    hf_file(&cache, "a/safe", COMMIT, "tokenizer.json", b"tokens");
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://a/safe", "hf://a/split:Q8_0"]);
    assert_eq!(world.bytes("a/split"), [content(1, 1000), content(2, 1000)].concat());
}

#[test]
fn models_that_share_a_quantization_are_named_by_their_files() {
    let world = World::new();
    let cache = world.path("hub");
    for (name, seed) in [("one-Q4_K_M.gguf", 1), ("two-Q4_K_M.gguf", 2), ("two-Q8_0.gguf", 3)] {
        hf_file(&cache, "a/b", COMMIT, name, &content(seed, 1000));
    }
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    let expected = ["hf://a/b/one-Q4_K_M.gguf", "hf://a/b/two-Q4_K_M.gguf", "hf://a/b:Q8_0"];
    assert_eq!((references(&adopted), reasons(&adopted)), (expected.to_vec(), vec![]));
    assert_eq!(world.bytes("hf://a/b/two-Q4_K_M.gguf"), content(2, 1000));
    assert_eq!(world.find("hf://a/b/one-Q4_K_M.gguf").unwrap().key.model.as_str(), "a/b/one-Q4_K_M.gguf");
    // Of such a repository only one was fetched, and the package noted what else there is.
    let tree = r#"{"files":{"x-Q4_K_M.gguf":{},"y-Q4_K_M.gguf":{}}}"#;
    write(&cache.join(format!("models--a--c/trees/{COMMIT}.json")), tree.as_bytes());
    hf_file(&cache, "a/c", COMMIT, "y-Q4_K_M.gguf", &content(4, 1000));
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert!(references(&adopted).contains(&"hf://a/c/y-Q4_K_M.gguf"), "{adopted:?}");
}

#[test]
fn a_name_that_means_something_already_keeps_its_meaning() {
    let world = World::new();
    let cache = world.path("hub");
    hf_file(&cache, "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 1000));
    world.adopt("hub", AdoptKind::HuggingFace);
    // Another cache of the same machine that is older or newer; it is unknown.
    hf_file(&world.path("other"), "a/b", OTHER_COMMIT, "b-Q4_K_M.gguf", &content(2, 1000));
    let adopted = world.adopt("other", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), [format!("hf://a/b@{OTHER_COMMIT}:Q4_K_M")], "told as what it is now");
    assert_eq!(world.bytes("a/b:Q4_K_M"), content(1, 1000));
    assert_eq!(world.bytes("a/b"), content(1, 1000));
    assert_eq!(world.bytes(&format!("hf://a/b@{OTHER_COMMIT}:Q4_K_M")), content(2, 1000));
}

#[test]
fn what_is_adopted_outlives_the_index() {
    let world = World::new();
    hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 1000));
    world.adopt("hub", AdoptKind::HuggingFace);
    for name in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
        let _ = fs_err::remove_file(world.store.dir().join(name));
    }
    let World { dir, store } = world;
    drop(store);
    let world = World { store: open(dir.path()), dir };
    assert_eq!(world.bytes("a/b:Q4_K_M"), content(1, 1000));
}

/// A model in Ollama's store.
fn ollama_model(root: &Path, place: &str, layers: &[(&str, &[u8])]) {
    let layers: Vec<String> = layers
        .iter()
        .map(|(kind, bytes)| {
            let digest = Digest::of_bytes(bytes);
            write(&root.join(format!("blobs/sha256-{digest}")), bytes);
            format!(
                r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"sha256:{digest}","size":{}}}"#,
                bytes.len()
            )
        })
        .collect();
    let config = br#"{"model_format":"gguf","file_type":"Q4_K_M"}"#;
    let digest = Digest::of_bytes(config);
    write(&root.join(format!("blobs/sha256-{digest}")), config);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"sha256:{digest}","size":{}}},"layers":[{}]}}"#,
        config.len(),
        layers.join(",")
    );
    write(&root.join("manifests").join(place), manifest.as_bytes());
}

#[test]
fn ollamas_models_are_found_by_their_names() {
    let world = World::new();
    let root = world.path("ollama");
    let weights = content(5, 30_000);
    let layers: &[(&str, &[u8])] =
        &[("model", &weights), ("template", b"{{ .Prompt }}"), ("params", b"{}"), ("license", b"MIT")];
    ollama_model(&root, "registry.ollama.ai/library/tiny/1b", layers);
    ollama_model(&root, "registry.ollama.ai/library/tiny/latest", layers);
    ollama_model(&root, "registry.ollama.ai/me/mine/latest", &[("model", &content(6, 100))]);
    ollama_model(&root, "hf.co/org/name/Q8_0", &[("model", &content(7, 100))]);
    let adopted = world.adopt("ollama", AdoptKind::Ollama);
    assert_eq!(reasons(&adopted), Vec::<&str>::new());
    assert_eq!(adopted.artifacts.len(), 3, "two tags of one content are one artifact");
    assert_eq!(world.bytes("hf.co/org/name:Q8_0"), content(7, 100));
    assert_eq!(world.bytes("ollama://tiny:1b"), weights);
    assert_eq!(world.bytes("ollama://tiny"), weights);
    assert_eq!(world.bytes("ollama://me/mine"), content(6, 100));
    assert_eq!(world.find("ollama://tiny").unwrap().key.quant, "Q4_K_M");
}

#[test]
fn what_ollama_has_and_cannot_be_run_is_skipped() {
    let world = World::new();
    let root = world.path("ollama");
    ollama_model(&root, "registry.ollama.ai/library/lora/latest", &[("model", b"m"), ("adapter", b"a")]);
    ollama_model(&root, "registry.ollama.ai/library/gone/latest", &[("model", b"gone")]);
    fs_err::remove_file(root.join(format!("blobs/sha256-{}", Digest::of_bytes(b"gone")))).unwrap();
    ollama_model(&root, "registry.ollama.ai/library/short/latest", &[("model", b"short")]);
    fs_err::write(root.join(format!("blobs/sha256-{}", Digest::of_bytes(b"short"))), "sh").unwrap();
    ollama_model(&root, "elsewhere.example/library/x/latest", &[("model", b"x")]);
    write(&root.join("manifests/registry.ollama.ai/library/bad/latest"), b"{");
    write(&root.join("manifests/registry.ollama.ai/stray"), b"{}");
    symlink("/etc/passwd", root.join("manifests/registry.ollama.ai/library/bad/link")).unwrap();
    let adopted = world.adopt("ollama", AdoptKind::Ollama);
    assert_eq!(adopted.artifacts.len(), 0);
    assert_eq!(adopted.skipped.len(), 7, "{:?}", adopted.skipped);
}

#[test]
fn lm_studios_models_are_found_by_the_hubs_names_and_by_their_paths() {
    let world = World::new();
    let root = world.path("lmstudio/models");
    write(&root.join("acme/tiny-GGUF/tiny-Q4_K_M.gguf"), &content(1, 5000));
    write(&root.join("acme/tiny-GGUF/mmproj-tiny-F16.gguf"), &content(2, 500));
    write(&root.join("acme/tiny-GGUF/tiny-Q8_0.gguf"), &content(3, 7000));
    write(&root.join("acme/notes.txt"), b"x");
    write(&root.join("bad name/x/x.gguf"), b"x");
    let adopted = world.adopt("lmstudio/models", AdoptKind::LmStudio);
    assert_eq!(references(&adopted), ["hf://acme/tiny-GGUF:Q4_K_M", "hf://acme/tiny-GGUF:Q8_0"]);
    assert_eq!(adopted.skipped.len(), 1, "{:?}", adopted.skipped);
    assert_eq!(world.bytes("acme/tiny-GGUF:Q4_K_M"), content(1, 5000));
    assert_eq!(world.bytes("acme/tiny-GGUF"), content(1, 5000));
    let path = fs_err::canonicalize(root.join("acme/tiny-GGUF/tiny-Q8_0.gguf")).unwrap();
    assert_eq!(world.bytes(&format!("file://{}", path.display())), content(3, 7000));
    let artifact = world.find("acme/tiny-GGUF:Q4_K_M").unwrap();
    assert_eq!((artifact.key.source.as_str(), artifact.files.len()), ("lm-studio", 2));
}

#[test]
fn any_folders_models_are_found_by_their_paths() {
    let world = World::new();
    let root = world.path("models");
    write(&root.join("a b/x-Q4_K_M.gguf"), &content(1, 5000));
    write(&root.join("y-00001-of-00002.gguf"), &content(2, 50));
    write(&root.join("y-00002-of-00002.gguf"), &content(3, 50));
    write(&root.join("model.bin"), b"pickle");
    let adopted = world.adopt("models", AdoptKind::Folder);
    assert_eq!((adopted.artifacts.len(), reasons(&adopted)), (2, vec![]));
    let root = fs_err::canonicalize(root).unwrap();
    assert_eq!(world.bytes(&format!("file://{}/a%20b/x-Q4_K_M.gguf", root.display())), content(1, 5000));
    let split = format!("file://{}/y-00001-of-00002.gguf", root.display());
    assert_eq!(world.bytes(&split), [content(2, 50), content(3, 50)].concat());
}

#[test]
fn what_is_no_model_is_left_alone_by_the_dry_run_as_by_the_run() {
    let world = World::new();
    write(&world.path("models/random-Q4_K_M.gguf"), &content(1, 5000)[HEADER.len()..]);
    write(&world.path("models/cut-Q4_K_M.gguf"), &HEADER[..20]);
    for dry_run in [true, false] {
        let options = AdoptOptions { dry_run, ..AdoptOptions::default() };
        let adopted = world.adopt_with("models", AdoptKind::Folder, options);
        assert_eq!((adopted.artifacts.len(), adopted.skipped.len()), (0, 2), "{dry_run}: {adopted:?}");
        for reason in reasons(&adopted) {
            assert!(reason.starts_with("is no sound model: "), "{reason}");
        }
    }
    assert!(world.store.list().unwrap().is_empty());
}

#[test]
fn a_path_means_what_lies_there_now() {
    let world = World::new();
    let path = world.path("models/x-Q4_K_M.gguf");
    for seed in [1, 2] {
        // A new file, as a download makes one; the old one goes on under the store's own name.
        let _ = fs_err::remove_file(&path);
        write(&path, &content(seed, 5000));
        world.adopt("models", AdoptKind::Folder);
        let reference = format!("file://{}", fs_err::canonicalize(&path).unwrap().display());
        assert_eq!(world.bytes(&reference), content(seed, 5000));
    }
}

#[test]
fn whoever_watches_sees_the_reading_get_on() {
    let world = World::new();
    write(&world.path("models/x.gguf"), &HEADER);
    fs_err::OpenOptions::new()
        .write(true)
        .open(world.path("models/x.gguf"))
        .unwrap()
        .set_len(40 << 20)
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watch: Watch = {
        let seen = Arc::clone(&seen);
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let options = AdoptOptions { watch: Some(watch), ..AdoptOptions::default() };
    world.adopt_with("models", AdoptKind::Folder, options);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for step in seen.iter() {
        let samovar_store::Progress::Verifying(transfer) = step else { panic!("{step:?}") };
        assert!(transfer.done_bytes <= transfer.total_bytes && transfer.total_bytes == 40 << 20, "{step:?}");
    }
}

#[test]
fn the_stores_own_files_are_not_adopted() {
    let world = World::new();
    write(&world.path("models/x-00001-of-00001.gguf"), &content(1, 5000));
    let adopted = world.adopt("", AdoptKind::Folder);
    let artifact = &adopted.artifacts[0];
    // Opening makes a snapshot with a real name in the store, below the same root.
    let _opened = world.store.open_artifact(&artifact.key.digest()).unwrap();
    let again = world.adopt("", AdoptKind::Folder);
    assert_eq!(again.artifacts.len(), 1, "{again:?}");
}

#[test]
fn a_file_on_another_disk_is_used_where_it_lies() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no second file system at /dev/shm");
        return;
    };
    let world = World::new();
    if fs_err::metadata(elsewhere.path()).unwrap().dev() == fs_err::metadata(world.store.dir()).unwrap().dev()
    {
        println!("skipped: /dev/shm is no second file system");
        return;
    }
    let path = elsewhere.path().join("x-Q4_K_M.gguf");
    write(&path, &content(1, 5000));
    let before = state(&path);
    let roots = vec![AdoptRoot::new(elsewhere.path(), AdoptKind::Folder)];
    let adopted = world.store.adopt(&AdoptOptions { roots, ..AdoptOptions::default() }).unwrap();
    assert_eq!(adopted.artifacts[0].how, Some(Placement::Reference));
    let reference = format!("file://{}", path.display());
    assert_eq!(world.bytes(&reference), content(1, 5000));
    assert_eq!(state(&path), before);
    // Its owner takes it away: it is not here any more, and that is all.
    fs_err::remove_file(&path).unwrap();
    assert!(world.find(&reference).is_none());
}

#[test]
fn a_change_by_the_owner_is_noticed_before_it_is_used() {
    let world = World::new();
    let blob = hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 5000));
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    if adopted.artifacts[0].how != Some(Placement::HardLink) {
        println!("skipped: this file system clones, so a change does not reach the store");
        return;
    }
    fs_err::write(&blob, content(2, 5000)).unwrap();
    let key = adopted.artifacts[0].key.digest();
    assert!(world.store.open_artifact(&key).is_err());
    assert_eq!(
        fs_err::read(&blob).unwrap(),
        content(2, 5000),
        "the other program's file stays as it made it"
    );
}

#[test]
fn deleting_in_either_place_leaves_the_other_alone() {
    let world = World::new();
    let blob = hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 5000));
    world.adopt("hub", AdoptKind::HuggingFace);
    fs_err::remove_dir_all(world.path("hub")).unwrap();
    assert_eq!(world.bytes("a/b:Q4_K_M"), content(1, 5000));
    assert!(!blob.exists());
}

#[test]
fn removing_an_adopted_model_leaves_the_other_programs_file_alone() {
    let world = World::new();
    let blob = hf_file(&world.path("hub"), "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 5000));
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    let before = state(&blob);
    world.store.remove(&adopted.artifacts[0].key.digest()).unwrap();
    assert!(world.find("a/b:Q4_K_M").is_none());
    assert_eq!(state(&blob), before);
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = elsewhere.path().join("x-Q4_K_M.gguf");
    write(&path, &content(2, 5000));
    let before = state(&path);
    let roots = vec![AdoptRoot::new(elsewhere.path(), AdoptKind::Folder)];
    let adopted = world.store.adopt(&AdoptOptions { roots, ..AdoptOptions::default() }).unwrap();
    world.store.remove(&adopted.artifacts[0].key.digest()).unwrap();
    assert_eq!(world.store.list().unwrap(), []);
    assert_eq!(state(&path), before);
}

#[test]
fn a_file_that_may_not_be_read_is_skipped_with_a_reason() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may read everything");
        return;
    }
    let world = World::new();
    let cache = world.path("hub");
    let blob = hf_file(&cache, "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 5000));
    hf_file(&cache, "a/c", COMMIT, "c-Q4_K_M.gguf", &content(2, 5000));
    fs_err::set_permissions(&blob, std::fs::Permissions::from_mode(0o000)).unwrap();
    fs_err::create_dir_all(cache.join("models--a--d/snapshots")).unwrap();
    fs_err::set_permissions(cache.join("models--a--d/snapshots"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://a/c:Q4_K_M"]);
    assert_eq!(reasons(&adopted), vec!["may not be read by this user"; 2]);
    fs_err::set_permissions(cache.join("models--a--d/snapshots"), std::fs::Permissions::from_mode(0o700))
        .unwrap();
}

#[test]
fn what_others_can_change_is_copied_only_when_asked_for() {
    let world = World::new();
    let cache = world.path("hub");
    let open = hf_file(&cache, "a/open", COMMIT, "open-Q4_K_M.gguf", &content(1, 5000));
    fs_err::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let blob = hf_file(&cache, "a/foreign", COMMIT, "foreign-Q4_K_M.gguf", &content(2, 5000));
        std::os::unix::fs::chown(blob, Some(65_534), Some(65_534)).unwrap();
    } else {
        println!("another user's file: skipped, only root can make one");
    }
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    if adopted.artifacts.iter().any(|artifact| artifact.how == Some(Placement::Reflink)) {
        println!("skipped: this file system clones, so no change of a file reaches the store");
        return;
    }
    assert_eq!(adopted.artifacts.len(), 0, "{adopted:?}");
    assert_eq!(adopted.skipped.len(), if is_root { 2 } else { 1 });
    assert!(
        reasons(&adopted).iter().all(|reason| reason.ends_with("would have to be copied")),
        "{adopted:?}"
    );

    let options = AdoptOptions { copies: true, ..AdoptOptions::default() };
    let adopted = world.adopt_with("hub", AdoptKind::HuggingFace, options);
    assert!(adopted.artifacts.iter().all(|artifact| artifact.how == Some(Placement::Copy)), "{adopted:?}");
    assert_eq!((adopted.saved_bytes(), adopted.skipped.len()), (0, 0));
    fs_err::write(&open, content(9, 5000)).unwrap();
    assert_eq!(world.bytes("a/open:Q4_K_M"), content(1, 5000));
}

#[test]
fn a_root_that_is_not_there_is_no_error() {
    let world = World::new();
    let adopted = world.adopt("nowhere", AdoptKind::Ollama);
    assert_eq!((adopted.artifacts.len(), adopted.skipped.len()), (0, 1));
}

#[test]
fn whose_a_folder_is_shows_by_what_lies_in_it() {
    let world = World::new();
    hf_file(&world.path("hub"), "a/b", COMMIT, "x.gguf", b"x");
    ollama_model(&world.path("ollama"), "registry.ollama.ai/library/x/latest", &[("model", b"x")]);
    fs_err::create_dir_all(world.path("home/.lmstudio/models")).unwrap();
    fs_err::create_dir_all(world.path("plain")).unwrap();
    let kind = |path: &str| AdoptRoot::guess(world.path(path)).kind;
    assert_eq!(kind("hub"), AdoptKind::HuggingFace);
    assert_eq!(kind("ollama"), AdoptKind::Ollama);
    assert_eq!(kind("home/.lmstudio/models"), AdoptKind::LmStudio);
    assert_eq!(kind("plain"), AdoptKind::Folder);
    assert_eq!(AdoptRoot::guess(world.path("home/.lmstudio")).path, world.path("home/.lmstudio/models"));
    assert_eq!(AdoptRoot::guess(world.path("")).path, world.path("hub"));
    let usual = AdoptRoot::usual(&world.path("home"));
    assert_eq!(usual, [AdoptRoot::new(world.path("home/.lmstudio/models"), AdoptKind::LmStudio)]);
}

/// A file system that clones files, in a file; `None` where none can be made, and then the test says so.
struct Cloning {
    dir: tempfile::TempDir,
}

impl Cloning {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs_err::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        fs_err::create_dir(dir.path().join("mnt")).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).current_dir(dir.path()).output();
            output.is_ok_and(|output| output.status.success())
        };
        let is_made =
            run("mkfs.xfs", &["-q", "-m", "reflink=1", "image"]) || run("mkfs.btrfs", &["-q", "image"]);
        if is_made && run("mount", &["-o", "loop", "image", "mnt"]) {
            return Some(Self { dir });
        }
        println!("skipped: no XFS or btrfs can be made and mounted here");
        None
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Cloning {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn where_the_disk_clones_files_nothing_is_shared_and_nothing_doubled() {
    let Some(disk) = Cloning::mount() else { return };
    let store = open(&disk.path());
    let cache = disk.path().join("hub");
    let blob = hf_file(&cache, "a/b", COMMIT, "b-Q4_K_M.gguf", &content(1, 20 << 20));
    rustix::fs::sync();
    let used = || {
        rustix::fs::sync();
        let facts = rustix::fs::statvfs(disk.path()).unwrap();
        (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    };
    let before = used();
    let roots = vec![AdoptRoot::new(&cache, AdoptKind::HuggingFace)];
    let adopted = store.adopt(&AdoptOptions { roots, ..AdoptOptions::default() }).unwrap();
    assert_eq!(adopted.artifacts[0].how, Some(Placement::Reflink));
    let grown = used().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more for a file of 20 MiB");
    let key = adopted.artifacts[0].key.digest();
    // Whatever its owner does to it now does not reach the store.
    fs_err::write(&blob, content(2, 1000)).unwrap();
    let opened = store.open_artifact(&key).unwrap();
    assert_eq!(fs_err::read(&opened.weights()[0]).unwrap(), content(1, 20 << 20));
}

#[test]
fn a_repository_that_was_moved_and_left_a_link_is_adopted_from_where_it_lies() {
    let world = World::new();
    let (cache, big) = (world.path("hub"), world.path("big"));
    let bytes = content(4, 50_000);
    hf_file(&big, "acme/tiny", COMMIT, "tiny-Q4_K_M.gguf", &bytes);
    fs_err::create_dir_all(&cache).unwrap();
    symlink("../big/models--acme--tiny", cache.join("models--acme--tiny")).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!((references(&adopted), reasons(&adopted)), (vec!["hf://acme/tiny:Q4_K_M"], vec![]));
    assert_eq!(world.bytes("acme/tiny"), bytes);
}

#[test]
fn a_link_in_a_moved_repository_still_leads_nowhere_else() {
    let world = World::new();
    let (cache, big) = (world.path("hub"), world.path("big"));
    hf_file(&big, "acme/tiny", COMMIT, "tiny-Q4_K_M.gguf", &content(4, 50_000));
    write(&world.path("secret.gguf"), b"secret");
    let out = big.join(format!("models--acme--tiny/snapshots/{COMMIT}/out-Q8_0.gguf"));
    symlink(world.path("secret.gguf"), out).unwrap();
    fs_err::create_dir_all(&cache).unwrap();
    symlink(big.join("models--acme--tiny"), cache.join("models--acme--tiny")).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert_eq!(references(&adopted), ["hf://acme/tiny:Q4_K_M"]);
    assert_eq!(reasons(&adopted), ["is a link that leads out of its folder"]);
}

#[test]
fn another_users_link_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a link away");
        return;
    }
    let world = World::new();
    let (cache, big) = (world.path("hub"), world.path("big"));
    hf_file(&big, "acme/tiny", COMMIT, "tiny-Q4_K_M.gguf", &content(4, 50_000));
    fs_err::create_dir_all(&cache).unwrap();
    let link = cache.join("models--acme--tiny");
    symlink(big.join("models--acme--tiny"), &link).unwrap();
    fs_err::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
    let adopted = world.adopt("hub", AdoptKind::HuggingFace);
    assert!(adopted.artifacts.is_empty());
    assert_eq!(reasons(&adopted), ["is a link of another user, or to what belongs to one"]);
}

/// A store that knows where the hub's package keeps its files.
fn beside(world: &World, roots: Vec<AdoptRoot>) -> Store {
    let mut config = StoreConfig::new(world.path("store-2"), world.path("state-2"));
    config.sources = SourceConfig { is_offline: true, ..SourceConfig::default() };
    config.neighbours = roots;
    Store::open(config).unwrap()
}

#[tokio::test]
async fn what_a_neighbour_has_is_taken_from_there_and_nothing_else_of_it() {
    let world = World::new();
    let cache = world.path("hub");
    let (q4, q8) = (content(4, 50_000), content(8, 60_000));
    hf_file(&cache, "acme/tiny", COMMIT, "tiny-Q4_K_M.gguf", &q4);
    hf_file(&cache, "acme/tiny", COMMIT, "tiny-Q8_0.gguf", &q8);
    hf_file(&cache, "acme/other", COMMIT, "other-Q4_K_M.gguf", &q8);
    let store = beside(&world, vec![AdoptRoot::new(&cache, AdoptKind::HuggingFace)]);
    let take = async |text: &str| {
        let reference = text.parse::<ArtifactRef>().unwrap();
        store.take_nearby(&reference, None).await.unwrap().map(|taken| taken.reference)
    };
    assert_eq!(take("hf://acme/none").await, None);
    assert_eq!(take("hf://acme/tiny:Q6_K").await, None);
    assert_eq!(take("hf://acme/tiny@0123456").await, None);
    assert!(store.list().unwrap().is_empty());
    assert_eq!(take("hf://acme/tiny").await.as_deref(), Some("hf://acme/tiny:Q4_K_M"), "the preferred one");
    assert_eq!(take("hf://acme/tiny").await, None, "it is here");
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(take("hf://acme/tiny:q8_0").await.as_deref(), Some("hf://acme/tiny:Q8_0"));
    assert_eq!(store.list().unwrap().len(), 2, "only what was asked for");
    let none = beside(&world, Vec::new());
    assert!(none.take_nearby(&"hf://acme/other".parse().unwrap(), None).await.unwrap().is_none());
}

#[test]
fn who_waits_for_a_neighbours_model_holds_no_thread() {
    const LIMIT: Duration = Duration::from_secs(30);
    let world = World::new();
    let cache = world.path("hub");
    hf_file(&cache, "acme/tiny", COMMIT, "tiny-Q4_K_M.gguf", &content(4, 50_000));
    let store = beside(&world, vec![AdoptRoot::new(&cache, AdoptKind::HuggingFace)]);
    let reference = "hf://acme/tiny".parse::<ArtifactRef>().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let (begun, gone) = (Arc::new(tokio::sync::Notify::new()), Mutex::new(gone));
    let stands_still: Watch = Arc::new({
        let begun = Arc::clone(&begun);
        move |_| {
            begun.notify_one();
            gone.lock().unwrap().recv().unwrap();
        }
    });
    runtime.block_on(async {
        let first = tokio::spawn({
            let (store, reference) = (store.clone(), reference.clone());
            async move { store.take_nearby(&reference, Some(stands_still)).await }
        });
        tokio::time::timeout(LIMIT, begun.notified()).await.unwrap();
        let mut second = Box::pin(store.take_nearby(&reference, None));
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let other = tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(|| 7)).await;
        go.send(()).unwrap();
        assert_eq!(other.expect("the second thread is free").unwrap(), 7);
        assert!(first.await.unwrap().unwrap().is_some());
        assert!(second.await.unwrap().is_none(), "it is here by now");
    });
}
