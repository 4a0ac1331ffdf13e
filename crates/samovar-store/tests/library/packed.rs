//! Packed files: made once, found again by all, never in the way of anything else, and gone with their model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use crate::keeping;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use keeping::{Cache, bytes_of, config, put, try_put};
use samovar_core::footprint::KvType;
use samovar_core::{Digest, ErrorKind, Scope};
use samovar_store::{
    CollectOptions, Error, KeyDigest, LeftoverKind, Make, Making, OpenedDerived, Store, Verified,
    VerifyOptions, Weights,
};

const SIZE: usize = 200_000;
/// What a file of this size takes, with its facts.
const TAKES: u64 = 213_000;
/// What a child process is to do, and where.
const CHILD: &str = "SAMOVAR_TEST_PACKED_CHILD";
const ROOT: &str = "SAMOVAR_TEST_PACKED_ROOT";

fn begin(store: &Store, source: &str, key: &str, parent: Option<KeyDigest>) -> Making {
    match store.packed().make(source, key, SIZE as u64, parent).unwrap() {
        Make::Begun(making) => making,
        other => panic!("{other:?}"),
    }
}

fn make(store: &Store, source: &str, key: &str, parent: Option<KeyDigest>) -> OpenedDerived {
    let making = begin(store, source, key, parent);
    making.file().write_all_at(&packed_bytes(source, key), 0).unwrap();
    making.commit().unwrap()
}

fn packed_bytes(source: &str, key: &str) -> Vec<u8> {
    bytes_of(&format!("{source} for {key}"), SIZE)
}

fn find(store: &Store, source: &str, key: &str) -> Option<OpenedDerived> {
    store.packed().find(source, key).unwrap()
}

fn is_there(store: &Store, source: &str) -> bool {
    store.packed().list().unwrap().iter().any(|file| file.source == source)
}

/// Every file of this name below the cache's packed files.
fn files(root: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for source in fs_err::read_dir(root.join("packed")).unwrap() {
        for place in fs_err::read_dir(source.unwrap().path()).unwrap() {
            found.push(place.unwrap().path().join(name));
        }
    }
    found
}

fn is_empty(root: &Path, part: &str) -> bool {
    fs_err::read_dir(root.join(part)).unwrap().count() == 0
}

/// Nothing of what was begun, or went, lies about.
fn is_tidy(root: &Path) -> bool {
    ["packing", "tmp", "trash"].iter().all(|part| is_empty(root, part))
}

fn collect(store: &Store) -> samovar_store::Collected {
    store.collect(&CollectOptions::default()).unwrap()
}

fn verify(store: &Store, keys: &[KeyDigest]) -> Verified {
    let options = VerifyOptions { keys: keys.to_vec(), ..VerifyOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.verify(&options)).unwrap()
}

/// Returns when what is used from now on was used later than all before, as the disk's times tell.
fn let_time_pass(root: &Path) {
    let changed = |path: &Path| {
        let facts = fs_err::metadata(path).unwrap();
        (facts.ctime(), facts.ctime_nsec() / 1_000_000)
    };
    let latest = files(root, "facts.json").iter().map(|path| changed(path)).max().unwrap();
    let clock = tempfile::NamedTempFile::new_in(root.join("tmp")).unwrap();
    while changed(clock.path()) <= latest {
        clock.as_file().set_modified(SystemTime::now()).unwrap();
    }
}

/// As if all had been used so much longer ago.
fn grow_old(root: &Path) {
    for path in files(root, "facts.json") {
        let file = fs_err::File::open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(3_600)).unwrap();
    }
}

#[test]
fn a_cache_that_was_cleared_by_hand_takes_packed_files_again() {
    let cache = Cache::new();
    drop(make(&cache.store, "weights", "engine 1", None));
    for folder in ["packed", "packing"] {
        fs_err::remove_dir_all(cache.root().join(folder)).unwrap();
    }
    assert!(find(&cache.store, "weights", "engine 1").is_none());
    drop(make(&cache.store, "weights", "engine 1", None));
    assert!(find(&cache.store, "weights", "engine 1").is_some());
}

#[test]
fn what_one_life_made_the_next_finds_and_nobody_else() {
    let cache = Cache::new();
    let made = make(&cache.store, "weights", "engine 1", None);
    let path = made.path().to_owned();
    assert_eq!(made.bytes(), SIZE as u64);
    drop(made);
    let next = cache.reopen(|_| ());
    let found = find(&next, "weights", "engine 1").unwrap();
    assert_eq!((found.path(), found.bytes()), (&*path, SIZE as u64));
    assert_eq!(fs_err::read(found.path()).unwrap(), packed_bytes("weights", "engine 1"));
    for name in ["data", "facts.json"] {
        let mode = fs_err::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{name}");
    }
    for (source, key) in
        [("weight", "sengine 1"), ("weights", "engine 2"), ("weights 2", "engine 1"), ("", "")]
    {
        assert!(find(&next, source, key).is_none(), "{source} {key}");
    }
    let [listed] = &next.packed().list().unwrap()[..] else { panic!("one") };
    assert_eq!((&*listed.source, &*listed.key, listed.parent), ("weights", "engine 1", None));
    assert!(listed.bytes >= SIZE as u64 && listed.bytes < TAKES && listed.used_ms >= listed.created_ms);
    let (maker, stats) = (cache.store.stats().unwrap(), next.stats().unwrap());
    assert_eq!((stats.packed, maker.packed_made, stats.packed_opened), (1, 1, 1));
    assert!(is_tidy(cache.root()));
}

#[test]
fn holes_take_no_room_and_count_none() {
    let cache = Cache::new();
    let making = begin(&cache.store, "weights", "engine 1", None);
    making.file().write_all_at(b"tail", 1 << 30).unwrap();
    let made = making.commit().unwrap();
    assert_eq!(made.bytes(), (1 << 30) + 4);
    let used = cache.store.disk_use().unwrap();
    assert!(used.packed_bytes < 20_000 && used.used_bytes == used.packed_bytes, "{used:?}");
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    let cache = Cache::new();
    let making = begin(&cache.store, "weights", "engine 1", None);
    making.file().write_all_at(&[1; 5_000], 0).unwrap();
    assert!(making.path().exists() && find(&cache.store, "weights", "engine 1").is_none());
    drop(making);
    assert!(is_tidy(cache.root()) && is_empty(cache.root(), "packed"));
    let empty = begin(&cache.store, "weights", "engine 1", None).commit().unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Storage);
    assert!(is_tidy(cache.root()) && is_empty(cache.root(), "packed"));
    let long = cache.store.packed().make(&"x".repeat(20_000), "engine 1", 1, None).unwrap_err();
    assert_eq!(long.kind(), ErrorKind::Unsupported);
    assert_eq!(cache.store.disk_use().unwrap().used_bytes, 0, "no promise is left");
}

#[test]
fn of_many_threads_one_makes_it_and_the_others_are_told() {
    let cache = Cache::new();
    let barrier = std::sync::Barrier::new(8);
    let answers: Vec<&str> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            let answer = cache.store.packed().make("weights", "engine 1", SIZE as u64, None).unwrap();
            // None is done before all have asked.
            barrier.wait();
            match answer {
                Make::Begun(making) => {
                    making.file().write_all_at(&packed_bytes("weights", "engine 1"), 0).unwrap();
                    drop(making.commit().unwrap());
                    "begun"
                }
                Make::Here => "here",
                Make::ByAnother => "by another",
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| **answer == "begun").count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == "by another").count(), 7, "{answers:?}");
    let again = cache.store.packed().make("weights", "engine 1", SIZE as u64, None).unwrap();
    assert!(matches!(again, Make::Here));
}

#[test]
fn of_two_processes_one_makes_it_and_what_it_leaves_dying_is_taken_away() {
    let cache = Cache::new();
    let mut maker = child("makes", cache.dir.path());
    let ask = || cache.store.packed().make("weights", "engine 1", SIZE as u64, None).unwrap();
    assert!(matches!(ask(), Make::ByAnother));
    let used = cache.store.disk_use().unwrap();
    assert!(used.tmp_bytes >= 50_000, "{used:?}");
    assert_eq!(used.tmp_bytes + used.promised_bytes, SIZE as u64, "what it said is counted once: {used:?}");
    assert_eq!(collect(&cache.store).freed_bytes, 0);
    maker.kill().unwrap();
    maker.wait().unwrap();
    let swept = collect(&cache.store).leftovers[&LeftoverKind::Tmp];
    assert!(swept.count == 1 && swept.bytes >= 50_000, "{swept:?}");
    assert!(is_tidy(cache.root()));

    let mut maker = child("makes", cache.dir.path());
    maker.kill().unwrap();
    maker.wait().unwrap();
    let Make::Begun(making) = ask() else { panic!("it is no longer made") };
    assert_eq!(making.file().metadata().unwrap().len(), 0, "it is begun anew");
    drop(making);
    assert!(is_tidy(cache.root()));
}

#[test]
fn one_that_another_process_uses_is_not_collected_until_that_ends() {
    let cache = Cache::new();
    drop(make(&cache.store, "weights", "engine 1", None));
    let mut user = child("uses", cache.dir.path());
    let tight = cache.reopen(|config| config.max_size_bytes = Some(1));
    assert_eq!(collect(&tight).freed_bytes, 0);
    assert!(is_there(&tight, "weights"));
    user.kill().unwrap();
    user.wait().unwrap();
    let swept = collect(&tight).leftovers[&LeftoverKind::Packed];
    assert!(swept.count == 1 && swept.bytes >= SIZE as u64);
    assert!(!is_there(&tight, "weights") && is_tidy(cache.root()) && is_empty(cache.root(), "packed"));
}

/// A process of its own, once it has begun what it is to do.
fn child(does: &str, root: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "packed::as_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(CHILD, does)
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(said.lines().map_while(Result::ok).any(|line| line.contains("begun")), "it said nothing");
    child
}

#[test]
#[ignore = "started by other tests"]
#[allow(clippy::disallowed_methods, reason = "a child has no other settings")]
#[allow(clippy::print_stdout, reason = "how it says that it has begun")]
fn as_a_process_of_its_own() {
    let (Ok(does), Ok(root)) = (std::env::var(CHILD), std::env::var(ROOT)) else { return };
    let store = Store::open(config(Path::new(&root))).unwrap();
    let (mut making, mut opened) = (None, None);
    if does == "makes" {
        let begun = begin(&store, "weights", "engine 1", None);
        begun.file().write_all_at(&vec![1; 50_000], 0).unwrap();
        making = Some(begun);
    } else {
        opened = find(&store, "weights", "engine 1");
        assert!(opened.is_some());
    }
    println!("begun");
    std::io::stdout().flush().unwrap();
    // Until it is killed, or until its killer has gone.
    let _ = std::io::stdin().lines().next();
    drop((making, opened));
}

#[test]
fn for_one_only_others_of_its_kind_go_the_longest_unused_first() {
    let cache = Cache::new();
    put(&cache.store, "model", &bytes_of("model", SIZE));
    let prefixes = cache.store.prefixes(
        &Weights::File(Digest::of_bytes(b"weights")),
        "engine 1",
        KvType::F16,
        &Scope::default(),
    );
    let state = bytes_of("state", 50_000);
    prefixes
        .save(&[1, 2, 3], None, 50_000, |file| Ok(file.write_all_at(&state, 0).map(|()| 50_000).unwrap()))
        .unwrap();
    let beside = cache.store.disk_use().unwrap().used_bytes;
    for source in ["second", "first", "third"] {
        drop(make(&cache.store, source, "engine 1", None));
        let_time_pass(cache.root());
    }
    drop(find(&cache.store, "second", "engine 1").unwrap());
    let_time_pass(cache.root());
    let quota = (beside + 3 * TAKES) * 100 / 95;
    let tight = cache.reopen(|config| {
        config.max_size_bytes = Some(quota);
        config.prefixes.quota_bytes = Some(1 << 20);
    });
    drop(make(&tight, "fourth", "engine 1", None));
    let there = ["first", "second", "third", "fourth"].map(|source| is_there(&tight, source));
    assert_eq!(there, [false, true, true, true], "the one used longest ago, which was not the first made");
    assert!(tight.disk_use().unwrap().used_bytes <= quota * 95 / 100, "the next collection leaves it alone");
    assert_eq!(collect(&tight).freed_bytes, 0);

    let small = cache.reopen(|config| {
        config.max_size_bytes = Some(beside + 100_000);
        config.prefixes.quota_bytes = Some(1 << 20);
    });
    let refused = small.packed().make("fifth", "engine 1", SIZE as u64, None).unwrap_err();
    assert!(matches!(refused, Error::NoRoom { limit: "quota", needed_bytes: 200_000, .. }), "{refused}");
    assert_eq!(small.packed().list().unwrap().len(), 3, "nothing went for what does not fit anyway");
    let full = cache.reopen(|config| config.min_free_bytes = u64::MAX / 2);
    let refused = full.packed().make("fifth", "engine 1", SIZE as u64, None).unwrap_err();
    assert!(matches!(refused, Error::NoRoom { limit: "disk", .. }), "{refused}");

    // One that becomes larger than was said, and than there is room for.
    let Make::Begun(making) = tight.packed().make("sixth", "engine 1", 10, None).unwrap() else { panic!() };
    making.file().write_all_at(&bytes_of("large", 4 * SIZE), 0).unwrap();
    assert!(matches!(making.commit().unwrap_err(), Error::NoRoom { .. }));
    assert!(!is_there(&tight, "sixth") && is_tidy(cache.root()));
    assert_eq!((tight.list().unwrap().len(), prefixes.is_empty()), (1, false), "no model and no state went");
}

#[test]
fn whoever_fetches_or_collects_takes_them_before_state_and_models() {
    for by_fetch in [true, false] {
        let cache = Cache::new();
        let old = put(&cache.store, "old", &bytes_of("old", SIZE));
        let prefixes = cache.store.prefixes(
            &Weights::Artifact(old.key_digest),
            "engine 1",
            KvType::F16,
            &Scope::default(),
        );
        let state = bytes_of("state", 20_000);
        let write = |file: &std::fs::File| Ok(file.write_all_at(&state, 0).map(|()| 20_000).unwrap());
        prefixes.save(&[1, 2, 3], None, 20_000, write).unwrap();
        drop(make(&cache.store, "weights", "engine 1", Some(old.key_digest)));
        let used = make(&cache.store, "in use", "engine 1", None);
        let before = cache.store.disk_use().unwrap().used_bytes;
        let tight = cache.reopen(|config| config.max_size_bytes = Some(before - 1_000));
        if by_fetch {
            try_put(&tight, "new", &bytes_of("new", 100_000)).unwrap();
        } else {
            assert_eq!(collect(&tight).leftovers[&LeftoverKind::Packed].count, 1);
        }
        assert_eq!((is_there(&tight, "weights"), is_there(&tight, "in use")), (false, true));
        assert_eq!((tight.list().unwrap().len(), prefixes.is_empty()), (1 + usize::from(by_fetch), false));
        assert_eq!(fs_err::read(used.path()).unwrap().len(), SIZE);
        assert!(is_tidy(cache.root()));
    }
}

#[test]
fn they_leave_with_their_model_unless_somebody_uses_them_and_then_soon_after() {
    let cache = Cache::new();
    let store = &cache.store;
    let model = put(store, "model", &bytes_of("model", SIZE)).key_digest;
    let other = put(store, "other", &bytes_of("other", SIZE)).key_digest;
    drop(make(store, "weights", "engine 1", Some(model)));
    drop(make(store, "others", "engine 1", Some(other)));
    let used = make(store, "weights, too", "engine 1", Some(model));
    let of_model = store.packed().of(&model).unwrap();
    assert!(of_model.count == 2 && of_model.bytes >= 2 * SIZE as u64 && of_model.bytes < 2 * TAKES);
    let opened = store.open_artifact(&model).unwrap();
    assert!(matches!(store.remove(&model), Err(Error::InUse { .. })));
    assert_eq!(store.packed().of(&model).unwrap().count, 2, "what stays keeps what was packed of it");
    drop(opened);
    let removed = store.remove(&model).unwrap();
    assert!(
        removed.freed_bytes >= 2 * SIZE as u64 && removed.freed_bytes < SIZE as u64 + TAKES,
        "{removed:?}"
    );
    assert_eq!((store.packed().of(&model).unwrap().count, store.packed().of(&other).unwrap().count), (1, 1));
    assert_eq!(collect(store).freed_bytes, 0, "it is in use");
    assert_eq!(fs_err::read(used.path()).unwrap(), packed_bytes("weights, too", "engine 1"));
    drop(used);
    assert_eq!(collect(store).leftovers[&LeftoverKind::Packed].count, 1);
    assert_eq!((store.packed().list().unwrap().len(), is_tidy(cache.root())), (1, true));
}

#[test]
fn of_one_source_there_are_two_at_most_and_the_older_goes_first() {
    let cache = Cache::new();
    for key in ["build 1", "build 2", "build 3"] {
        drop(make(&cache.store, "weights", key, None));
        grow_old(cache.root());
    }
    let keys = |store: &Store| -> Vec<String> {
        store.packed().list().unwrap().into_iter().map(|file| file.key).collect()
    };
    assert_eq!(keys(&cache.store), ["build 3", "build 2"]);
    assert!(is_tidy(cache.root()));
    // The older one was used just now; it goes all the same.
    drop(find(&cache.store, "weights", "build 2").unwrap());
    let used = cache.store.disk_use().unwrap().used_bytes;
    let tight = cache.reopen(|config| config.max_size_bytes = Some(used * 100 / 96));
    assert_eq!(collect(&tight).leftovers[&LeftoverKind::Packed].count, 1);
    assert_eq!(keys(&tight), ["build 3"]);
}

#[test]
fn what_was_not_used_for_longer_than_the_limit_of_age_goes() {
    let cache = Cache::new();
    drop(make(&cache.store, "weights", "engine 1", None));
    let forgetful = cache.reopen(|config| config.max_age = Duration::from_nanos(1));
    assert_eq!(collect(&forgetful).leftovers[&LeftoverKind::Packed].count, 1);
}

#[test]
fn damage_is_found_by_a_verification_and_goes() {
    let cache = Cache::new();
    let store = &cache.store;
    let model = put(store, "model", &bytes_of("model", SIZE)).key_digest;
    for source in ["right", "rotten", "short"] {
        drop(make(store, source, "engine 1", Some(model)));
    }
    drop(make(store, "elsewhere", "engine 1", None));
    assert_eq!((verify(store, &[]).packed, verify(store, &[]).damaged_packed), (4, 0));
    // As a bad disk does it: the file's times stay.
    let rotten = find(store, "rotten", "engine 1").unwrap().path().to_owned();
    let modified = fs_err::metadata(&rotten).unwrap().modified().unwrap();
    let mut bytes = fs_err::read(&rotten).unwrap();
    bytes[150_000] ^= 1;
    overwrite(&rotten, &bytes);
    fs_err::File::open(&rotten).unwrap().set_modified(modified).unwrap();
    assert!(find(store, "rotten", "engine 1").is_some(), "nothing is read again on a warm open");
    let short = find(store, "short", "engine 1").unwrap().path().to_owned();
    overwrite(&short, &packed_bytes("short", "engine 1")[..SIZE - 1]);
    let found = verify(store, &[model]);
    assert_eq!((found.packed, found.damaged_packed, found.is_sound()), (1, 2, true));
    assert_eq!(store.packed().of(&model).unwrap().count, 1);
    assert!(find(store, "rotten", "engine 1").is_none() && is_tidy(cache.root()));
    assert_eq!(store.stats().unwrap().packed_damaged, 2);
    drop(make(store, "rotten", "engine 1", Some(model)));
    assert_eq!(verify(store, &[]).packed, 3);
}

/// Writes into a file that is not writable.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    fs_err::write(path, bytes).unwrap();
}

#[test]
fn a_touched_file_is_read_once_and_another_under_its_name_is_not_taken() {
    let cache = Cache::new();
    let store = &cache.store;
    let path = make(store, "weights", "engine 1", None).path().to_owned();
    let facts = || fs_err::read(path.with_file_name("facts.json")).unwrap();
    let before = facts();
    // A copy that has the same bytes, as a restored backup is.
    let copy = path.with_file_name("copy");
    fs_err::copy(&path, &copy).unwrap();
    fs_err::rename(&copy, &path).unwrap();
    assert!(find(store, "weights", "engine 1").is_some());
    assert_ne!(facts(), before, "it is not read again the next time");
    let after = facts();
    assert!(find(store, "weights", "engine 1").is_some());
    assert_eq!(facts(), after);
    // Others, of the same size.
    let other = make(store, "other weights", "engine 1", None).path().to_owned();
    fs_err::copy(&other, &copy).unwrap();
    fs_err::rename(&copy, &path).unwrap();
    assert!(find(store, "weights", "engine 1").is_none());
    assert!(!is_there(store, "weights") && is_there(store, "other weights"));
    // A whole directory under the name of another.
    let place = other.parent().unwrap();
    let stolen = place.parent().unwrap().join(Digest::of_bytes(b"stolen").to_string());
    fs_err::rename(place, &stolen).unwrap();
    assert!(find(store, "other weights", "engine 1").is_none());
    assert_eq!((store.packed().list().unwrap().len(), store.stats().unwrap().packed), (0, 1));
    assert_eq!(collect(store).leftovers[&LeftoverKind::Packed].count, 1, "what cannot be found goes");
    // A link to somewhere else.
    let path = make(store, "weights", "engine 1", None).path().to_owned();
    let elsewhere = cache.dir.path().join("elsewhere");
    fs_err::rename(&path, &elsewhere).unwrap();
    fs_err::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(!matches!(store.packed().find("weights", "engine 1"), Ok(Some(_))));
    assert!(elsewhere.exists());
}

#[test]
fn facts_that_are_none_are_as_good_as_no_file() {
    let cache = Cache::new();
    for text in ["", "{", "{}", "[1, 2]"] {
        let path = make(&cache.store, "weights", "engine 1", None).path().to_owned();
        overwrite(&path.with_file_name("facts.json"), text.as_bytes());
        assert!(find(&cache.store, "weights", "engine 1").is_none(), "{text}");
        assert!(!path.exists() && is_tidy(cache.root()));
    }
}

#[test]
fn one_that_its_engine_refuses_goes_and_may_be_made_anew() {
    let cache = Cache::new();
    let used = make(&cache.store, "weights", "engine 1", None);
    let held = fs_err::File::open(used.path()).unwrap();
    cache.store.packed().discard("weights", "engine 1", "its probe has another answer");
    assert!(find(&cache.store, "weights", "engine 1").is_none() && is_tidy(cache.root()));
    assert_eq!(held.metadata().unwrap().len(), SIZE as u64, "who has it open keeps it");
    drop(make(&cache.store, "weights", "engine 1", None));
    assert!(find(&cache.store, "weights", "engine 1").is_some());
    assert_eq!(cache.store.stats().unwrap().packed_refused, 1);
    cache.store.packed().discard("never made", "engine 1", "for no reason");
}

#[test]
fn one_that_is_of_no_use_goes_and_counts_as_no_refusal() {
    let cache = Cache::new();
    let used = make(&cache.store, "weights", "engine 1", None);
    let other = cache.reopen(|_| ());
    other.packed().give_up("weights", "engine 1");
    assert!(find(&other, "weights", "engine 1").is_some(), "it is in use");
    drop(used);
    cache.store.packed().give_up("weights", "engine 1");
    assert!(find(&cache.store, "weights", "engine 1").is_none() && is_tidy(cache.root()));
    assert_eq!(cache.store.stats().unwrap().packed_refused, 0);
    cache.store.packed().give_up("never made", "engine 1");
}

#[test]
fn a_commit_that_is_told_to_stop_takes_everything_back() {
    let cache = Cache::new();
    let making = begin(&cache.store, "weights", "engine 1", None);
    making.file().write_all_at(&packed_bytes("weights", "engine 1"), 0).unwrap();
    assert!(making.commit_unless(&AtomicBool::new(true)).unwrap().is_none());
    assert!(find(&cache.store, "weights", "engine 1").is_none() && is_tidy(cache.root()));
    assert_eq!(cache.store.stats().unwrap().packed_made, 0);
    drop(make(&cache.store, "weights", "engine 1", None));
}

#[test]
fn a_read_only_store_gives_what_it_has_and_takes_nothing() {
    let shared = Cache::new();
    drop(make(&shared.store, "weights", "engine 1", None));
    drop(make(&shared.store, "touched", "engine 1", None));
    let touched = find(&shared.store, "touched", "engine 1").unwrap().path().to_owned();
    fs_err::File::open(&touched).unwrap().set_modified(SystemTime::now()).unwrap();
    let root = shared.root().to_owned();
    let before = keeping::tree(&root);
    let own = Cache::with(|config| config.read_only_dirs = vec![root.clone()]);
    let found = find(&own.store, "weights", "engine 1").unwrap();
    assert!(found.path().starts_with(&root));
    assert!(find(&own.store, "touched", "engine 1").is_some());
    own.store.packed().discard("weights", "engine 1", "another CPU");
    assert!(find(&own.store, "weights", "engine 1").is_none(), "it is not offered again");
    let made = make(&own.store, "weights", "engine 1", None);
    assert!(made.path().starts_with(own.root()));
    assert!(find(&own.store, "weights", "engine 1").unwrap().path().starts_with(own.root()));
    assert_eq!(keeping::tree(&root), before, "nothing was written there");
}

#[test]
fn what_was_packed_of_a_read_only_store_s_model_stays_as_long_as_that_does() {
    let shared = Cache::new();
    let model = put(&shared.store, "model", &bytes_of("model", SIZE)).key_digest;
    let root = shared.root().to_owned();
    let own = Cache::with(|config| config.read_only_dirs = vec![root.clone()]);
    drop(make(&own.store, "weights", "engine 1", Some(model)));
    assert_eq!(collect(&own.store).freed_bytes, 0);
    assert!(find(&own.store, "weights", "engine 1").is_some());
    let away = root.with_file_name("away");
    let unmounted = own.reopen(|config| config.read_only_dirs = vec![away.clone()]);
    assert_eq!(collect(&unmounted).freed_bytes, 0, "it is unknown what is there");
    shared.store.remove(&model).unwrap();
    let later = own.reopen(|config| config.read_only_dirs = vec![root.clone()]);
    assert_eq!(collect(&later).leftovers[&LeftoverKind::Packed].count, 1);
}

#[test]
fn a_touched_file_of_a_read_only_store_is_read_once_in_a_process() {
    let shared = Cache::new();
    let path = make(&shared.store, "weights", "engine 1", None).path().to_owned();
    // As a copy of the whole store has it: other inodes.
    let copy = path.with_file_name("copy");
    fs_err::copy(&path, &copy).unwrap();
    fs_err::rename(&copy, &path).unwrap();
    let root = shared.root().to_owned();
    let own = Cache::with(|config| config.read_only_dirs = vec![root.clone()]);
    assert!(find(&own.store, "weights", "engine 1").is_some());
    let modified = fs_err::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[150_000] ^= 1;
    overwrite(&path, &bytes);
    fs_err::File::open(&path).unwrap().set_modified(modified).unwrap();
    assert!(find(&own.store, "weights", "engine 1").is_some(), "it is not read again");
    let other = own.reopen(|config| config.read_only_dirs = vec![root.clone()]);
    assert!(find(&other, "weights", "engine 1").is_none(), "who reads it sees that it is damaged");
    let damaged = bytes.clone();
    bytes[150_000] ^= 1;
    overwrite(&path, &bytes);
    fs_err::File::open(&path).unwrap().set_modified(modified).unwrap();
    assert!(find(&other, "weights", "engine 1").is_none(), "that is not read again, either");
    overwrite(&path, &damaged);
    let modified = modified + Duration::from_secs(1);
    fs_err::File::open(&path).unwrap().set_modified(modified).unwrap();
    let before = keeping::tree(&root);
    assert!(
        find(&own.store, "weights", "engine 1").is_none(),
        "and so does who read it before it was touched"
    );
    assert_eq!(keeping::tree(&root), before, "nothing was written there");
}

#[test]
fn half_a_file_is_as_good_as_none_and_keeps_nobody_from_making_it() {
    let cache = Cache::new();
    for part in ["data", "facts.json"] {
        let path = make(&cache.store, "weights", "engine 1", None).path().with_file_name(part);
        fs_err::remove_file(&path).unwrap();
        assert!(find(&cache.store, "weights", "engine 1").is_none(), "{part}");
        assert!(is_empty(cache.root(), "packed"), "{part}");
        let path = make(&cache.store, "weights", "engine 1", None).path().with_file_name(part);
        fs_err::remove_file(&path).unwrap();
        // A maker that does not look first.
        drop(make(&cache.store, "weights", "engine 1", None));
        assert!(find(&cache.store, "weights", "engine 1").is_some(), "{part}");
        fs_err::remove_file(&path).unwrap();
        assert_eq!(collect(&cache.store).leftovers[&LeftoverKind::Packed].count, 1, "{part}");
        assert!(is_tidy(cache.root()), "{part}");
    }
}

#[test]
fn they_stay_out_of_exports_and_outlive_the_index() {
    let cache = Cache::new();
    let model = put(&cache.store, "model", &bytes_of("model", SIZE)).key_digest;
    drop(make(&cache.store, "weights", "engine 1", Some(model)));
    let folder = cache.dir.path().join("export");
    let exported = cache.store.export(&[model], &folder).unwrap();
    assert_eq!((exported.blobs, exported.bytes), (1, SIZE as u64));
    assert!(!folder.join("packed").exists());
    let Cache { dir, store } = cache;
    drop(store);
    for name in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
        let _ = fs_err::remove_file(dir.path().join("cache").join(name));
    }
    let store = Store::open(config(dir.path())).unwrap();
    assert_eq!(collect(&store).freed_bytes, 0, "its model is there again before it is judged");
    assert_eq!(store.packed().of(&model).unwrap().count, 1);
    assert!(find(&store, "weights", "engine 1").is_some());
}

#[test]
fn a_store_of_before_takes_them_in() {
    let cache = Cache::new();
    put(&cache.store, "model", &bytes_of("model", SIZE));
    let Cache { dir, store } = cache;
    drop(store);
    for part in ["packed", "packing"] {
        fs_err::remove_dir(dir.path().join("cache").join(part)).unwrap();
    }
    let store = Store::open(config(dir.path())).unwrap();
    assert!(find(&store, "weights", "engine 1").is_none());
    drop(make(&store, "weights", "engine 1", None));
    assert_eq!((store.list().unwrap().len(), store.packed().list().unwrap().len()), (1, 1));
}

#[test]
fn opening_one_is_a_matter_of_microseconds_whatever_its_size() {
    let cache = Cache::new();
    let making = begin(&cache.store, "weights", "engine 1", None);
    making.file().set_len(256 << 20).unwrap();
    drop(making.commit().unwrap());
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let began = std::time::Instant::now();
            assert!(find(&cache.store, "weights", "engine 1").is_some());
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("opened in {:?} (median of 21)", times[10]);
    assert!(times[10] < Duration::from_millis(20), "{times:?}");
}

#[test]
fn calibrations_are_kept_over_restarts_and_lost_with_no_harm() {
    let cache = Cache::new();
    assert_eq!(cache.store.calibration("machine 1, llama 1.1B"), None);
    cache.store.keep_calibration("machine 1, llama 1.1B", "{\"packed\":31.7}");
    cache.store.keep_calibration("machine 1, llama 1.1B", "{\"packed\":31.8}");
    cache.store.keep_calibration("machine 2, llama 1.1B", &"x".repeat(70_000));
    let next = cache.reopen(|_| ());
    assert_eq!(next.calibration("machine 1, llama 1.1B").as_deref(), Some("{\"packed\":31.8}"));
    assert_eq!(next.calibration("machine 2, llama 1.1B"), None, "too large to be a calibration");
    assert_eq!(next.recall("machine 1, llama 1.1B").unwrap(), None, "it has a name of its own");
    let index = cache.root().join("index.sqlite3");
    drop(next);
    let Cache { dir, store } = cache;
    drop(store);
    fs_err::OpenOptions::new()
        .write(true)
        .open(index)
        .unwrap()
        .file()
        .write_all_at(&[0x55; 8_192], 0)
        .unwrap();
    let store = Store::open(config(dir.path())).unwrap();
    let kept = store.calibration("machine 1, llama 1.1B");
    assert!(kept.is_none_or(|text| text == "{\"packed\":31.8}"));
    store.keep_calibration("machine 1, llama 1.1B", "again");
    assert_eq!(store.calibration("machine 1, llama 1.1B").as_deref(), Some("again"));
}

#[test]
fn a_store_that_cannot_be_written_makes_none() {
    let cache = Cache::new();
    drop(make(&cache.store, "weights", "engine 1", None));
    let root = cache.root().to_owned();
    assert_eq!(fs_err::metadata(&root).unwrap().mode() & 0o777, 0o700);
    // Root may write whatever the mode says; a newer index bars all users.
    let Cache { dir, store } = cache;
    drop(store);
    let connection = rusqlite::Connection::open(root.join("index.sqlite3")).unwrap();
    connection.pragma_update(None, "user_version", 10_000).unwrap();
    connection.close().unwrap();
    let read_only_reason = Store::open(config(dir.path())).unwrap();
    let path = find(&read_only_reason, "weights", "engine 1").unwrap().path().to_owned();
    assert_eq!(
        read_only_reason.packed().make("other", "engine 1", 1, None).unwrap_err().kind(),
        ErrorKind::Storage
    );
    overwrite(&path, b"damaged");
    assert!(find(&read_only_reason, "weights", "engine 1").is_none());
    assert!(path.exists() && is_tidy(&root), "what is damaged is for others to judge");
}
