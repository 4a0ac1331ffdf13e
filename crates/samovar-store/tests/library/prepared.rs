//! Prepared models on disk: made in a folder of their own, found by what they are of, and gone before any artifact.

use std::path::Path;

use samovar_store::{CollectOptions, Make, Making, Store, StoreConfig, VerifyOptions};

fn store(home: &Path) -> Store {
    let mut config = StoreConfig::new(home.join("cache"), home.join("state"));
    config.min_free_bytes = 0;
    Store::open(config).expect("opens")
}

fn begin(store: &Store, source: &str, key: &str) -> Making {
    match store.prepared().make(source, key, 1 << 10, None).expect("begins") {
        Make::Begun(making) => making,
        other => panic!("{other:?}"),
    }
}

/// Writes it as a worker does: into another file, which then takes the place of the first.
fn write(making: &Making, bytes: &[u8]) {
    let beside = making.dir().join("converted.gguf");
    fs_err::write(&beside, bytes).expect("written");
    fs_err::rename(&beside, making.path()).expect("renamed");
    fs_err::write(making.dir().join("rest"), "rest").expect("written");
}

#[test]
fn what_lies_at_its_place_at_the_end_is_kept_and_nothing_else() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    let making = begin(&store, "a model", "F16");
    write(&making, b"prepared");
    let opened = making.commit().expect("is kept");
    assert_eq!(fs_err::read(opened.path()).expect("is read"), b"prepared");
    let folder = opened.path().parent().expect("a folder");
    assert_eq!(fs_err::read_dir(folder).expect("a folder").count(), 2, "data and facts");
    let (path, _) = store.prepared().peek("a model", "F16").expect("is there");
    assert_eq!(path, opened.path());
    assert!(store.prepared().open(&path).expect("is looked at").is_some());
    assert_eq!(store.prepared().peek("a model", "Q8_0"), None);
    assert!(store.packed().find("a model", "F16").expect("is looked at").is_none(), "it is no packed file");
    assert!(store.packed().open(&path).expect("is looked at").is_none());
}

#[test]
fn one_makes_it_at_a_time_and_what_is_given_up_leaves_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let (store, other) = (store(home.path()), store(home.path()));
    let making = begin(&store, "a model", "F16");
    write(&making, b"half");
    assert!(matches!(
        other.prepared().make("a model", "F16", 1, None).expect("is looked at"),
        Make::ByAnother
    ));
    let folder = making.dir().to_owned();
    drop(making);
    assert!(!folder.exists() && store.prepared().peek("a model", "F16").is_none());
    drop(begin(&other, "a model", "F16"));
}

#[test]
fn an_empty_or_missing_file_is_not_kept() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    begin(&store, "a model", "F16").commit().expect_err("nothing was written");
    let making = begin(&store, "a model", "F16");
    fs_err::remove_file(making.path()).expect("is removed");
    making.commit().expect_err("it is gone");
    assert!(store.prepared().list().expect("is listed").is_empty());
}

#[test]
fn several_number_formats_of_a_model_stay() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    for key in ["F16", "Q8_0", "Q4_K_M"] {
        let making = begin(&store, "a model", key);
        write(&making, key.as_bytes());
        making.commit().expect("is kept");
    }
    assert_eq!(store.prepared().list().expect("is listed").len(), 3);
    let usage = store.disk_use().expect("is looked at");
    assert!(usage.prepared == 3 && usage.prepared_bytes > 0 && usage.packed == 0, "{usage:?}");
}

#[test]
fn one_that_is_in_use_stays_when_room_is_needed() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    let making = begin(&store, "a model", "F16");
    write(&making, b"prepared");
    let opened = making.commit().expect("is kept");
    let path = opened.path().to_owned();
    let all = CollectOptions { room_bytes: 1 << 50, ..CollectOptions::default() };
    // There never is so much room; what can go goes all the same.
    store.collect(&all).ok();
    assert!(path.exists(), "it is in use");
    drop(opened);
    store.collect(&all).ok();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_damaged_one_is_found_and_removed() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    let making = begin(&store, "a model", "F16");
    write(&making, b"prepared");
    let path = making.commit().expect("is kept").path().to_owned();
    fs_err::remove_file(&path).expect("is removed");
    fs_err::write(&path, b"Prepared").expect("is written");
    let verified = store.verify(&VerifyOptions::default()).await.expect("is verified");
    assert_eq!((verified.prepared, verified.damaged_prepared, verified.damaged_packed), (0, 1, 0));
    assert!(verified.is_sound() && store.prepared().peek("a model", "F16").is_none());
}
