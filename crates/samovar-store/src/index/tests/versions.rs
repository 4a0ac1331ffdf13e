//! Indexes of older and newer programs.

use rusqlite::Connection;

use super::super::schema;
use super::*;

fn version_1(fixture: &Fixture) {
    let hex = |commit: &str| format!("x'{}'", key("org/name", commit).digest());
    let rows = include_str!("version_1_rows.sql").replace("@one", &hex("c1")).replace("@two", &hex("c2"));
    let connection = Connection::open(fixture.path()).unwrap();
    connection.execute_batch(include_str!("version_1.sql")).unwrap();
    connection.execute_batch(&rows).unwrap();
}

#[test]
fn an_index_of_the_first_version_is_brought_up_to_date_and_loses_nothing() {
    let fixture = Fixture::new();
    version_1(&fixture);
    let Opened { index, was } = fixture.open();
    assert_eq!(was, Was::Existing);
    assert!(!index.check_alive().unwrap(), "it need not be filled again");
    let all = index.artifacts().unwrap();
    let commits: Vec<&str> = all.iter().map(|artifact| artifact.key.commit.as_str()).collect();
    assert_eq!(commits, ["c1", "c2"]);
    let newest = index.by_reference("hf://org/name:Q4_K_M").unwrap().unwrap();
    assert_eq!(newest.key, key("org/name", "c2"), "a text means the newest of those that it named");
    assert_eq!(newest.files[0].path.as_str(), "new.gguf");
    assert_eq!(newest.files[0].digest, Digest::of_bytes(b"abc"));
    assert_eq!((newest.is_pinned, newest.usage.hits, newest.usage.loads), (true, 5, 2));
    assert_eq!((newest.usage.footprint.held_bytes, newest.usage.fetch_bytes_per_s), (7, 1e6));
    assert_eq!(index.counters().unwrap()["fetched_bytes"], 42);
    let led = index.ref_of(&newest.key.source, &newest.key.model, "main").unwrap().unwrap();
    assert_eq!(led.commit.as_str(), "c2");
    index.remember("new", "{}").unwrap();
    drop(index);
    let file = Connection::open(fixture.path()).unwrap();
    assert_eq!(schema::version_of(&file).unwrap(), 2);
}

#[test]
fn a_migrated_index_has_the_same_tables_as_a_fresh_one() {
    let (old, fresh) = (Fixture::new(), Fixture::new());
    version_1(&old);
    let tables = |fixture: &Fixture| -> Vec<String> {
        drop(fixture.index());
        let file = Connection::open(fixture.path()).unwrap();
        let mut query =
            file.prepare("SELECT name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
        let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|text| text.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(tables(&old), tables(&fresh));
}

#[test]
fn a_newer_index_is_refused_and_left_as_it_is() {
    let fixture = Fixture::new();
    commit(&fixture.index(), &key("org/name", "c1"), &["weights"]);
    Connection::open(fixture.path()).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let before = fs_err::read(fixture.path()).unwrap();
    let error = Index::open(&fixture.path(), Journal::Wal).err().unwrap();
    assert!(matches!(error, Error::Newer { found: 3, known: 2, .. }), "{error}");
    assert_eq!(fs_err::read(fixture.path()).unwrap(), before);
    assert_eq!(error.kind(), samovar_core::ErrorKind::Storage);
}

#[test]
fn an_index_that_a_newer_program_changes_while_it_is_open_is_written_no_more() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    Connection::open(fixture.path()).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let error = index.put_blob(&blob("more")).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 3, .. }), "{error}");
    assert_eq!(index.blob(&Digest::of_bytes(b"more")).unwrap(), None);
    assert!(index.artifact(&key.digest()).unwrap().is_some(), "what can be read is read");
    index.count("lost", 1);
    index.flush();
    drop(index);
    let written: i64 = Connection::open(fixture.path())
        .unwrap()
        .query_row("SELECT count(*) FROM counters", [], |row| row.get(0))
        .unwrap();
    assert_eq!(written, 0);
}

#[test]
fn tables_that_a_newer_program_took_away_are_no_damage() {
    let fixture = Fixture::new();
    let index = fixture.index();
    commit(&index, &key("org/name", "c1"), &["weights"]);
    Connection::open(fixture.path())
        .unwrap()
        .execute_batch("ALTER TABLE memo RENAME TO notebook; PRAGMA user_version = 3;")
        .unwrap();
    let error = index.recall("x").unwrap_err();
    assert!(matches!(error, Error::Newer { found: 3, .. }), "{error}");
    assert!(fixture.broken().is_empty());
}
