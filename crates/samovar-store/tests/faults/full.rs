//! No space left: at every size that is left over, and in the middle of a download.

use std::io::Write as _;
use std::time::Duration;

use samovar_core::footprint::KvType;
use samovar_core::{ErrorKind, Failure, Scope};
use samovar_store::{CollectOptions, Error, RetryConfig, Store, Weights};
use samovar_testhub::{Content, FileSpec, Hub};

use crate::keeping::{assert_sound, bytes_of, config, try_put};
use crate::mount::Mount;
use crate::scene::{self, SIZE, is_of_storage, judge, kept_opens, named, play, recovers};

const PAGE: u64 = 4_096;
const MIB: u64 = 1 << 20;

#[test]
fn whatever_is_left_of_a_full_disk_nothing_is_lost_and_what_is_there_opens() {
    let mut failed = 0;
    for pages in (0..12).chain((12..72).step_by(4)) {
        let Some(mount) = Mount::new(8 * MIB) else { return };
        let store = scene::prepare(mount.path());
        let (kept, old) = (named(&store, "kept").unwrap(), named(&store, "old").unwrap());
        mount.fill_up(pages * PAGE);
        let steps = play(&store, &kept, &old);
        judge(&steps);
        failed += steps.iter().filter(|(_, ending)| ending.is_err()).count();
        drop(store);
        mount.make_room();
        recovers(mount.path(), &steps);
    }
    println!("{failed} steps met the full disk");
    assert!(failed > 10, "only {failed} steps met the full disk");
}

#[test]
fn a_store_on_a_full_disk_opens_and_serves() {
    for pages in 0..4 {
        let Some(mount) = Mount::new(8 * MIB) else { return };
        let kept = named(&scene::prepare(mount.path()), "kept").unwrap();
        mount.fill_up(pages * PAGE);
        let store = Store::open(config(mount.path())).unwrap();
        kept_opens(&store, &kept).unwrap();
        drop(store);
        mount.make_room();
        recovers(mount.path(), &[]);
    }
}

#[test]
fn a_full_disk_can_be_freed_by_removing_and_by_collecting() {
    for is_opened_before in [true, false] {
        for by_collection in [true, false] {
            let Some(mount) = Mount::new(8 * MIB) else { return };
            let mut store = scene::prepare(mount.path());
            let old = named(&store, "old").unwrap();
            store.set_pinned(&old.key_digest, false).unwrap();
            let mut small = config(mount.path());
            small.max_size_bytes = Some(SIZE as u64 + 50_000);
            store = Store::open(small.clone()).unwrap();
            if is_opened_before {
                mount.fill_up(0);
            } else {
                drop(store);
                mount.fill_up(0);
                store = Store::open(small).unwrap();
            }
            if by_collection {
                let collected = store.collect(&CollectOptions::default()).unwrap();
                assert_eq!(collected.removed.len(), 1, "{collected:?}");
            } else {
                store.remove(&old.key_digest).unwrap();
            }
            assert!(mount.free_bytes() >= SIZE as u64);
            drop(store);
            mount.make_room();
            recovers(mount.path(), &[]);
        }
    }
}

#[test]
fn what_the_disk_cannot_hold_is_refused_before_the_first_byte() {
    let Some(mount) = Mount::new(4 * MIB) else { return };
    let store = scene::prepare(mount.path());
    let refused = try_put(&store, "big", &bytes_of("big", 8 * MIB as usize)).unwrap_err();
    let Error::NoRoom { needed_bytes, free_bytes, limit, .. } = refused else { panic!("{refused}") };
    assert_eq!((needed_bytes, limit), (8 * MIB, "disk"));
    assert!(free_bytes < 4 * MIB);
    assert_eq!(store.list().unwrap().len(), 2, "no model had to go for what does not fit anyway");
    let mut floor = config(mount.path());
    floor.min_free_bytes = 3 * MIB;
    let careful = Store::open(floor).unwrap();
    let refused = try_put(&careful, "more", &bytes_of("more", MIB as usize)).unwrap_err();
    assert!(matches!(refused, Error::NoRoom { limit: "disk", .. }), "the floor holds: {refused}");
}

#[test]
fn a_model_is_pinned_on_a_full_disk() {
    for pages in 0..3 {
        let Some(mount) = Mount::new(8 * MIB) else { return };
        scene::prepare(mount.path());
        let store = Store::open(config(mount.path())).unwrap();
        let kept = named(&store, "kept").unwrap();
        // What a busy daemon has written, so that the next pages of the index need room.
        mount.fill_up(pages * PAGE);
        for is_pinned in [true, false, true] {
            store.set_pinned(&kept.key_digest, is_pinned).unwrap();
            assert_eq!(named(&store, "kept").unwrap().is_pinned, is_pinned, "{pages} pages");
        }
    }
}

#[test]
fn a_full_disk_keeps_no_prompt_and_nothing_of_one() {
    let (mut failed, mut kept_some) = (0, 0);
    for pages in (0..8).chain((8..48).step_by(4)) {
        let Some(mount) = Mount::new(8 * MIB) else { return };
        let kept = named(&scene::prepare(mount.path()), "kept").unwrap();
        let mut config = config(mount.path());
        config.prefixes.quota_bytes = Some(MIB);
        let store = Store::open(config).unwrap();
        let prefixes =
            store.prefixes(&Weights::Artifact(kept.key_digest), "engine 1", KvType::F16, &Scope::default());
        mount.fill_up(pages * PAGE);
        let tokens: Vec<u32> = (0..300).collect();
        // It was unknown beforehand how much it would be.
        let saved = prefixes.save(&tokens, None, 0, |mut file| {
            let written = file.write_all(&bytes_of("state", SIZE)).map(|()| SIZE as u64);
            written.map_err(|error| Failure::new(ErrorKind::Storage, error.to_string()))
        });
        if let Err(failure) = saved {
            assert!(is_of_storage(failure.kind), "{failure:?}");
            assert!(prefixes.is_empty());
            assert_eq!(fs_err::read_dir(store.dir().join("tmp")).unwrap().count(), 0, "{pages} pages");
            failed += 1;
        } else {
            assert!(prefixes.open(&prefixes.longest(&tokens).unwrap()).unwrap().is_some());
            kept_some += 1;
        }
        kept_opens(&store, &kept).unwrap();
    }
    println!("{failed} prompts met the full disk, {kept_some} were kept");
    assert!(failed > 8 && kept_some > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_during_a_download_fails_it_or_not_but_never_the_store() {
    for left_bytes in [0, PAGE, 2 * PAGE, 4 * PAGE, 16 * PAGE, 64 * PAGE] {
        let Some(mount) = Mount::new(12 * MIB) else { return };
        let hub = Hub::start_blocking();
        let (repo, file) = ("org/name", "model-Q4_K_M.gguf");
        hub.add_repo(repo).put(file, FileSpec::new(Content::pattern(4 * MIB, 1)).lfs(true));
        let kept = named(&scene::prepare(mount.path()), "kept").unwrap();
        let mut online = config(mount.path());
        online.sources.is_offline = false;
        online.sources.hub_endpoint = Some(hub.endpoint());
        online.sources.retry = RetryConfig {
            tries: 2,
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(20),
        };
        let store = Store::open(online).unwrap();
        let reference: samovar_core::ArtifactRef = "hf://org/name:Q4_K_M".parse().unwrap();
        hub.hold_after(&format!("{repo}/{file}"), MIB);
        let ending = tokio::join!(store.ensure(&reference, None), async {
            assert!(hub.held(&format!("{repo}/{file}")).await);
            mount.fill_up(left_bytes);
            hub.release_all();
        });
        if let Err(error) = &ending.0 {
            assert!(is_of_storage(error.kind()), "{error:?}");
        }
        println!(
            "{left_bytes} bytes left: {}",
            ending.0.as_ref().map_or_else(ToString::to_string, |_| "whole".to_owned())
        );
        kept_opens(&store, &kept).unwrap();
        mount.make_room();
        let artifact = store.ensure(&reference, None).await.unwrap();
        assert_eq!(artifact.bytes(), 4 * MIB);
        // With less room than a note takes, what came since the last note is fetched again.
        let sent_bytes = hub.sent().of(&format!("{repo}/{file}"));
        let bound = if left_bytes < 16 * PAGE { 8 * MIB } else { 4 * MIB };
        assert!(sent_bytes <= bound, "what was written counts still: {sent_bytes} bytes sent");
        assert_sound(&store);
    }
}
