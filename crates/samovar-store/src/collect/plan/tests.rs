use proptest::prelude::*;

use super::super::view::{ArtifactFacts, BlobFacts, Leftover};
use super::*;

const GB: u64 = 1_000_000_000;

fn digest(n: u64) -> Digest {
    Digest::of_bytes(&n.to_le_bytes())
}

fn key(n: u64) -> KeyDigest {
    KeyDigest::parse(&digest(n).to_string()).expect("64 digits")
}

/// Artifact `n` of rank `n`, with these blobs.
fn artifact(n: u64, blobs: &[u64]) -> ArtifactFacts {
    let blobs = blobs.iter().map(|blob| digest(*blob)).collect();
    ArtifactFacts { key: key(n), blobs, is_pinned: false, idle_ms: HOUR_MS, rank: n as f64 }
}

fn blob(n: u64, frees_bytes: u64) -> (Digest, BlobFacts) {
    (digest(n), BlobFacts { frees_bytes, is_held: false, idle_ms: 2 * HOUR_MS })
}

fn packed(gigabytes: u64, idle_ms: u64, parent: u64) -> Leftover {
    let parent = Some(key(parent));
    Leftover { bytes: gigabytes * GB, parent, ..Leftover::of(LeftoverKind::Packed, idle_ms) }
}

#[test]
fn packed_files_leave_first_those_that_are_outdone_before_those_unused_for_long() {
    let mut view = row(90);
    view.leftovers = vec![
        prefix(1, 9_000),
        packed(1, 10, 1),
        packed(1, 30, 2),
        Leftover { is_outdone: true, ..packed(1, 20, 3) },
        Leftover { is_held: true, ..packed(1, 99, 4) },
    ];
    let limits = Limits { prefix_bytes: 100 * GB, ..quota(100) };
    let found = plan(&view, &Limits { quota_bytes: 94 * GB, ..limits });
    assert_eq!((found.leftovers, found.artifacts.len()), (vec![3, 2, 1, 0], 12), "15.1 GB to the low mark");
    let mut view = row(80);
    view.leftovers = vec![prefix(2, 9_000), packed(8, 10, 1), packed(6, 20, 2)];
    let found = plan(&view, &limits);
    assert_eq!((found.leftovers, found.artifacts), (vec![2, 1], vec![]), "11 GB to the low mark");
}

#[test]
fn prepared_models_leave_after_saved_prompts_and_before_artifacts() {
    let mut view = row(90);
    let prepared = Leftover { bytes: 2 * GB, ..Leftover::of(LeftoverKind::Prepared, 10) };
    view.leftovers = vec![prepared, prefix(2, 9_000), packed(2, 10, 1)];
    let limits = Limits { prefix_bytes: 100 * GB, ..quota(100) };
    let found = plan(&view, &limits);
    assert_eq!((found.leftovers, found.artifacts.len()), (vec![2, 1, 0], 5), "11 GB to the low mark");
    let copy = Limits { incoming_bytes: 4 * GB, is_for_copy: true, ..limits };
    assert!(!plan(&view, &copy).leftovers.contains(&0), "for packed weights they stay");
}

#[test]
fn for_a_copy_only_copies_go_and_it_stays_below_the_high_mark() {
    let mut view = row(80);
    view.leftovers = vec![prefix(5, 9_000), packed(4, 10, 1), packed(4, 20, 2)];
    let copy = |bytes| Limits {
        incoming_bytes: bytes * GB,
        prefix_bytes: 100 * GB,
        is_for_copy: true,
        ..quota(100)
    };
    // 93 are used, 95 the high mark.
    assert_eq!(plan(&view, &copy(2)), Collection::default());
    assert_eq!((plan(&view, &copy(3)).leftovers, plan(&view, &copy(3)).short), (vec![2], None));
    assert_eq!(plan(&view, &copy(7)).leftovers, [2, 1]);
    let refused = plan(&view, &copy(11));
    assert!(refused.artifacts.is_empty(), "no model goes for a copy of one");
    assert_eq!(refused.short, Some(Short { limit: "quota", free_bytes: 10 * GB }));
    let full = plan(&View { free_disk_bytes: GB, ..view.clone() }, &copy(2));
    assert_eq!((full.leftovers, full.short), (vec![2], None));
    let full = plan(&View { free_disk_bytes: GB, ..view }, &copy(10));
    assert_eq!(full.short, Some(Short { limit: "disk", free_bytes: 9 * GB }));
}

#[test]
fn what_was_packed_of_an_artifact_goes_with_it_and_alone_when_that_is_gone() {
    let mut view = row(2);
    view.leftovers =
        vec![packed(1, 5, 0), packed(1, 5, 1), Leftover { is_needless: true, ..packed(1, 0, 7) }];
    let found = plan_removal(&view, &[key(1)]);
    assert_eq!((found.leftovers, found.frees_bytes), (vec![1], 2 * GB));
    assert_eq!(plan(&view, &quota(100)).leftovers, [2]);
    view.artifacts[0].idle_ms = 9 * HOUR_MS;
    let aged = plan(&view, &Limits { max_age_ms: Some(8 * HOUR_MS), ..quota(100) });
    assert_eq!((aged.leftovers, aged.artifacts), (vec![2, 0], vec![(key(0), Why::Age)]));
}

/// `n` artifacts of one blob of a gigabyte each.
fn row(n: u64) -> View {
    View {
        artifacts: (0..n).map(|n| artifact(n, &[n])).collect(),
        blobs: (0..n).map(|n| blob(n, GB)).collect(),
        free_disk_bytes: 1_000 * GB,
        ..View::default()
    }
}

fn quota(gigabytes: u64) -> Limits {
    Limits {
        quota_bytes: gigabytes * GB,
        max_age_ms: None,
        min_free_bytes: 0,
        incoming_bytes: 0,
        is_for_copy: false,
        prefix_bytes: GB,
    }
}

fn keys(collection: &Collection) -> Vec<KeyDigest> {
    collection.artifacts.iter().map(|(key, _)| *key).collect()
}

fn prefix(gigabytes: u64, idle_ms: u64) -> Leftover {
    Leftover { bytes: gigabytes * GB, ..Leftover::of(LeftoverKind::Prefix, idle_ms) }
}

#[test]
fn saved_prefixes_past_their_quota_or_their_age_go_the_oldest_first() {
    let view = View { leftovers: vec![prefix(2, 10), prefix(2, 30), prefix(2, 20)], ..row(1) };
    let limits = Limits { prefix_bytes: 5 * GB, ..quota(100) };
    assert_eq!(plan(&view, &limits).leftovers, [1]);
    assert_eq!(plan(&view, &Limits { prefix_bytes: 0, ..limits }).leftovers, [1, 2, 0]);
    let limits = Limits { max_age_ms: Some(20), prefix_bytes: 6 * GB, ..limits };
    assert_eq!(plan(&view, &limits).leftovers, [1, 2]);
}

#[test]
fn saved_prefixes_go_before_any_model_does() {
    let view = View { leftovers: vec![prefix(8, 10), prefix(8, 20)], ..row(90) };
    let limits = Limits { prefix_bytes: 100 * GB, ..quota(100) };
    let collection = plan(&view, &limits);
    assert_eq!((collection.leftovers, collection.artifacts.len()), (vec![1, 0], 5));
}

#[test]
fn nothing_goes_below_the_high_mark() {
    assert_eq!(plan(&row(95), &quota(100)), Collection::default());
}

#[test]
fn above_the_high_mark_the_least_worth_go_down_to_the_low_one() {
    let collection = plan(&row(96), &quota(100));
    assert_eq!(keys(&collection), (0..11).map(key).collect::<Vec<_>>());
    assert_eq!(collection.frees_bytes, 11 * GB);
    assert!(collection.artifacts.iter().all(|(_, why)| *why == Why::Room));
}

#[test]
fn what_comes_counts_before_it_is_there() {
    let limits = Limits { incoming_bytes: 20 * GB, ..quota(100) };
    assert_eq!(plan(&row(90), &limits).frees_bytes, 25 * GB);
}

#[test]
fn a_low_mark_out_of_reach_costs_only_what_must_go() {
    let mut view = row(10);
    view.artifacts.iter_mut().skip(2).for_each(|artifact| artifact.is_pinned = true);
    let collection = plan(&view, &Limits { incoming_bytes: GB, ..quota(10) });
    assert_eq!((keys(&collection), collection.short), (vec![key(0)], None));
}

#[test]
fn pinned_and_used_ones_survive_any_quota() {
    let mut view = row(3);
    view.artifacts[0].is_pinned = true;
    view.blobs.get_mut(&digest(1)).expect("there").is_held = true;
    let collection = plan(&view, &quota(1));
    assert_eq!(keys(&collection), [key(2)]);
    assert_eq!(collection.short, Some(Short { limit: "quota", free_bytes: 0 }));
}

#[test]
fn age_takes_what_was_not_used_and_is_not_pinned() {
    let mut view = row(4);
    for (index, artifact) in view.artifacts.iter_mut().enumerate() {
        artifact.idle_ms = index as u64 * 10 * HOUR_MS;
        artifact.is_pinned = index == 3;
    }
    let limits = Limits { max_age_ms: Some(15 * HOUR_MS), ..quota(100) };
    assert_eq!(plan(&view, &limits).artifacts, [(key(2), Why::Age)]);
}

#[test]
fn a_shared_blob_goes_with_the_last_that_needs_it() {
    let mut view = row(2);
    view.blobs.extend([blob(7, 5 * GB)]);
    view.artifacts.iter_mut().for_each(|artifact| artifact.blobs.push(digest(7)));
    let one = plan_removal(&view, &[key(0)]);
    assert_eq!((one.frees_bytes, one.blobs), (GB, vec![digest(0)]));
    let both = plan_removal(&view, &[key(0), key(1)]);
    assert_eq!((both.frees_bytes, both.blobs.len()), (7 * GB, 3));
}

#[test]
fn nobody_goes_in_vain() {
    let mut view = row(3);
    view.artifacts[0].blobs = vec![digest(2)];
    view.blobs.remove(&digest(0));
    view.blobs.get_mut(&digest(1)).expect("there").frees_bytes = 0;
    view.artifacts[2].is_pinned = true;
    let collection = plan(&view, &quota(0));
    assert!(collection.artifacts.is_empty(), "one shares with a pinned one, one frees nothing");
    assert!(collection.short.is_some());
}

#[test]
fn a_big_one_that_must_go_spares_the_small_ones_before_it() {
    let mut view = row(3);
    view.blobs.get_mut(&digest(2)).expect("there").frees_bytes = 98 * GB;
    view.artifacts[2].rank = 9.0;
    let collection = plan(&view, &quota(90));
    assert_eq!(keys(&collection), [key(2)]);
}

#[test]
fn one_that_shares_a_blob_with_one_in_use_may_go_without_it() {
    let mut view = row(2);
    view.artifacts[0].blobs.push(digest(1));
    view.blobs.get_mut(&digest(1)).expect("there").is_held = true;
    let collection = plan_removal(&view, &[key(0)]);
    assert_eq!(collection.blobs, [digest(0)]);
    assert!(is_in_use(&view.artifacts[1], &view.blobs) && !is_in_use(&view.artifacts[0], &view.blobs));
}

#[test]
fn the_disk_s_floor_holds_only_when_something_comes() {
    let mut view = row(3);
    view.free_disk_bytes = GB;
    let limits = Limits { min_free_bytes: 2 * GB, ..quota(100) };
    assert!(plan(&view, &limits).artifacts.is_empty());
    let limits = Limits { incoming_bytes: GB, ..limits };
    assert_eq!(keys(&plan(&view, &limits)), [key(0), key(1)]);
    let short = plan(&view, &Limits { incoming_bytes: 9 * GB, ..limits }).short;
    assert_eq!(short, Some(Short { limit: "disk", free_bytes: 2 * GB }));
}

#[test]
fn leftovers_go_after_their_time_and_never_while_held() {
    let leftover = |kind, hours| Leftover { bytes: 1, ..Leftover::of(kind, hours * HOUR_MS) };
    let leftovers = vec![
        leftover(LeftoverKind::Trash, 0),
        leftover(LeftoverKind::Tmp, 2),
        leftover(LeftoverKind::Tmp, 24),
        leftover(LeftoverKind::Partial, 24),
        leftover(LeftoverKind::Partial, 24 * 7),
        Leftover { is_held: true, ..leftover(LeftoverKind::Partial, 24 * 70) },
        leftover(LeftoverKind::Quarantine, 24 * 30),
    ];
    let view = View { leftovers, ..View::default() };
    assert_eq!(plan(&view, &quota(100)).leftovers, [0, 2, 4, 6]);
}

#[test]
fn a_download_that_broke_off_goes_before_an_artifact() {
    let mut view = row(3);
    let partial = Leftover { bytes: GB, ..Leftover::of(LeftoverKind::Partial, 2 * HOUR_MS) };
    view.leftovers.push(partial);
    let collection = plan(&view, &quota(3));
    assert_eq!((collection.leftovers.len(), collection.artifacts.len()), (1, 1));
}

#[test]
fn blobs_without_an_artifact_go_after_an_hour() {
    let mut view = View { blobs: [blob(1, GB), blob(2, GB), blob(3, GB)].into(), ..View::default() };
    view.blobs.get_mut(&digest(2)).expect("there").idle_ms = 1;
    view.blobs.get_mut(&digest(3)).expect("there").is_held = true;
    assert_eq!(plan(&view, &quota(100)).blobs, [digest(1)]);
}

fn views() -> impl Strategy<Value = View> {
    let artifacts = prop::collection::vec(
        (prop::collection::vec(0_u64..12, 1..4), any::<bool>(), 0_u64..200, 0_u32..5),
        0..12,
    );
    let blobs = prop::collection::vec((0_u64..4, prop::bool::weighted(0.2), 0_u64..3), 12);
    (artifacts, blobs, 0_u64..10).prop_map(|(artifacts, blobs, free)| View {
        artifacts: artifacts
            .into_iter()
            .enumerate()
            .map(|(n, (blobs, is_pinned, hours, rank))| ArtifactFacts {
                is_pinned,
                idle_ms: hours * HOUR_MS,
                rank: f64::from(rank),
                ..artifact(n as u64, &blobs)
            })
            .collect(),
        blobs: blobs
            .into_iter()
            .enumerate()
            .map(|(n, (gigabytes, is_held, hours))| {
                let (digest, facts) = blob(n as u64, gigabytes * GB);
                (digest, BlobFacts { is_held, idle_ms: hours * HOUR_MS, ..facts })
            })
            .collect(),
        free_disk_bytes: free * GB,
        ..View::default()
    })
}

proptest! {
    #[test]
    fn whatever_is_there_the_rules_hold(
        view in views(),
        quota_gb in 0_u64..30,
        incoming in 0_u64..5,
        age in prop::option::of(0_u64..200),
        is_for_copy: bool,
    ) {
        let limits = Limits {
            quota_bytes: quota_gb * GB,
            max_age_ms: age.map(|hours| hours * HOUR_MS),
            min_free_bytes: GB,
            incoming_bytes: incoming * GB,
            prefix_bytes: GB,
            is_for_copy,
        };
        let collection = plan(&view, &limits);
        let gone: HashSet<KeyDigest> = keys(&collection).into_iter().collect();
        prop_assert_eq!(gone.len(), collection.artifacts.len());
        prop_assert!(!is_for_copy || collection.artifacts.iter().all(|(_, why)| *why != Why::Room));
        let stays = |artifact: &&ArtifactFacts| !gone.contains(&artifact.key);
        let needed: HashSet<Digest> =
            view.artifacts.iter().filter(stays).flat_map(|artifact| artifact.blobs.clone()).collect();
        for artifact in view.artifacts.iter().filter(|artifact| gone.contains(&artifact.key)) {
            prop_assert!(!artifact.is_pinned);
            prop_assert!(!is_in_use(artifact, &view.blobs));
        }
        for digest in &collection.blobs {
            prop_assert!(!view.blobs[digest].is_held);
            prop_assert!(!needed.contains(digest), "a blob that is needed");
        }
        let freed: u64 = collection.blobs.iter().map(|digest| view.blobs[digest].frees_bytes).sum();
        prop_assert_eq!(freed, collection.frees_bytes);
        let used: u64 = view.blobs.values().map(|blob| blob.frees_bytes).sum();
        let left = used - freed + limits.incoming_bytes;
        if collection.short.is_none() {
            prop_assert!(left <= limits.quota_bytes);
        }
        if let Some(short) = collection.short {
            prop_assert!(short.free_bytes < limits.incoming_bytes || limits.incoming_bytes == 0);
        }
        let again = plan(&view, &limits);
        prop_assert_eq!(collection, again);
    }
}
