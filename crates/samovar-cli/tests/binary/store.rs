//! Models that are fetched: from a hub of our own, into the store, and out of it again.

use rustix::process::Signal;
use samovar_testhub::{BadAnswer, Hub, Repo};
use serde_json::Value;

use crate::home::{Done, Home, MODEL_FILE};

const STORY: &str = "Once upon a time";
const TOKEN: &str = "hf_0123456789abcdefghij";

/// A hub with the demo model under several quantizations' names.
fn hub() -> (Hub, Repo) {
    let hub = Hub::start_blocking();
    let repo = hub.add_repo("test/demo");
    repo.put("demo-Q8_0.gguf", fs_err::read(MODEL_FILE).expect("model"));
    (hub, repo)
}

fn home(hub: &Hub) -> Home {
    Home::new().with_variable("HF_ENDPOINT", &hub.endpoint())
}

fn big(megabytes: usize) -> Vec<u8> {
    // Not all zero, so that a file system cannot make a hole of it.
    (0..megabytes << 20).map(|n| (n % 251) as u8).collect()
}

fn events(done: &Done) -> Vec<Value> {
    done.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_model_is_pulled_once_and_answers_offline() {
    let (hub, _) = hub();
    let home = home(&hub);
    let first = home.run(&["pull", "test/demo"]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stdout.starts_with("hf://test/demo:Q8_0: "), "{first:?}");
    let sent = hub.sent().of("test/demo/demo-Q8_0.gguf");
    assert_eq!(sent, fs_err::metadata(MODEL_FILE).expect("model").len());

    let second = home.run(&["pull", "hf://test/demo:Q8_0"]);
    assert!(second.code == 0 && second.stdout.contains("is already on disk"), "{second:?}");
    assert_eq!(hub.sent().of("test/demo/demo-Q8_0.gguf"), sent);
    for address in ["hf.co/test/demo:Q8_0", "https://huggingface.co/test/demo/tree/main"] {
        let by_address = home.run(&["pull", address]);
        assert!(by_address.code == 0 && by_address.stdout.contains("is already on disk"), "{by_address:?}");
    }

    let home = home.with_variable("HF_HUB_OFFLINE", "1");
    let third = home.run(&["pull", "test/demo"]);
    assert!(third.code == 0 && third.stdout.contains("not asked for changes"), "{third:?}");
    let asked = hub.requests().len();
    let answer = home.run(&["run", "--json", "-t", "0", "-n", "8", "test/demo:Q8_0", STORY]).json();
    assert_eq!((&answer["finish"], &answer["tier"]), (&"length".into(), &"cold".into()), "{answer}");
    assert_eq!(hub.requests().len(), asked, "no server is asked");
}

#[test]
fn a_run_fetches_what_is_not_here_and_tells_the_tier() {
    let (hub, _) = hub();
    let home = home(&hub);
    let line = ["run", "--json", "-t", "0", "-n", "8", "hf://test/demo:Q8_0", STORY];
    let first = home.run(&line).json();
    assert_eq!(first["tier"], "fetched", "{first}");
    let second = home.run(&line).json();
    assert_eq!((&second["tier"], &second["text"]), (&"hit".into(), &first["text"]), "{second}");
    let stats = home.stats();
    assert_eq!(stats["tiers"]["l3"]["hits"], 1, "{stats}");
    let table = home.run(&["stats"]).stdout;
    assert!(table.contains("L1 memory") && table.contains("L3 sources"), "{table}");
    let on_disk = &stats["stored"][0];
    assert_eq!(on_disk["reference"], "hf://test/demo:Q8_0", "{stats}");
    assert_eq!(on_disk["bytes"], fs_err::metadata(MODEL_FILE).expect("model").len(), "{stats}");
    assert!(on_disk["created_ms"].as_u64() > Some(0) && on_disk["hits"].is_u64(), "{stats}");
    assert!(table.contains("ON DISK") && table.contains("hf://test/demo:Q8_0"), "{table}");
    // The built-in model is these bytes.
    let own = home.run(&["run", "--json", "-t", "0", "-n", "8", "demo", STORY]).json();
    assert_eq!(own["text"], first["text"]);
}

#[test]
fn several_are_pulled_at_once_and_one_that_fails_does_not_stop_the_others() {
    let (hub, _) = hub();
    hub.add_repo("test/other").put("other-Q4_K_M.gguf", big(2));
    let home = home(&hub);
    let done = home.run(&["pull", "test/demo", "test/none", "test/other", "test/demo"]);
    assert_eq!(done.code, 66, "{done:?}");
    assert!(
        done.stdout.contains("hf://test/demo:Q8_0: ") && done.stdout.contains("hf://test/other:Q4_K_M: "),
        "{done:?}"
    );
    assert!(done.stderr.contains("error: ") && done.stderr.contains("test/none"), "{done:?}");
    assert_eq!(home.run(&["list", "--json"]).json()["models"].as_array().expect("models").len(), 3);
    let quiet = home.run(&["pull", "-q", "test/demo", "test/other"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (0, "", ""));
}

#[test]
fn pulls_of_several_processes_fetch_once() {
    let hub = Hub::start_blocking();
    hub.add_repo("test/big").put("big-Q4_K_M.gguf", big(16));
    let home = home(&hub);
    let running: Vec<_> = (0..3).map(|_| home.spawn(&["pull", "test/big"])).collect();
    for done in running.into_iter().map(crate::home::Running::finish) {
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(hub.sent().of("test/big/big-Q4_K_M.gguf"), 16 << 20);
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_keeps_what_was_fetched_and_the_next_pull_goes_on_from_there() {
    let hub = Hub::start_blocking();
    hub.add_repo("test/big").put("big-Q4_K_M.gguf", big(64));
    hub.hold_after("test/big/big-Q4_K_M.gguf", 40 << 20);
    let home = home(&hub);
    let run = home.spawn(&["pull", "test/big"]);
    assert!(hub.wait_until_held("test/big/big-Q4_K_M.gguf"));
    run.signal(Signal::INT);
    let done = run.finish();
    assert_eq!((done.code, done.stdout.as_str()), (130, ""), "{done:?}");
    assert!(done.stderr.contains("the fetched bytes are kept"), "{done:?}");
    hub.release_all();
    let before = hub.sent().of("test/big/big-Q4_K_M.gguf");
    let done = home.run(&["pull", "test/big"]);
    assert!(done.code == 0 && done.stdout.contains("of 67.1 MB, the rest was on disk"), "{done:?}");
    let again = hub.sent().of("test/big/big-Q4_K_M.gguf") - before;
    assert!(again < 48 << 20, "{again} bytes were sent again");
}

#[test]
fn programs_follow_a_pull_by_its_events() {
    let (hub, _) = hub();
    let home = home(&hub);
    let done = home.run(&["pull", "--json", "test/demo", "test/none"]);
    assert_eq!(done.code, 66, "{done:?}");
    let events = events(&done);
    let last = |model: &str| {
        events.iter().rfind(|event| event["model"] == model).unwrap_or_else(|| panic!("{model}: {events:?}"))
    };
    let here = last("test/demo");
    assert_eq!((&here["event"], &here["reference"]), (&"done".into(), &"hf://test/demo:Q8_0".into()));
    assert_eq!((&here["was_here"], &here["bytes"]), (&false.into(), &here["fetched_bytes"]));
    assert!(here["took_ms"].is_number() && here["key"].is_string());
    assert_eq!(
        (&last("test/none")["event"], &last("test/none")["kind"]),
        (&"failed".into(), &"not_found".into())
    );
    assert!(events.iter().any(|event| event["event"] == "resolving"), "{events:?}");
}

#[test]
fn the_token_of_the_file_reaches_the_hub_and_nobody_else() {
    let (hub, repo) = hub();
    repo.gated(TOKEN);
    hub.set_cdn(true);
    let home = home(&hub);
    let refused = home.run(&["pull", "test/demo"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("HF_TOKEN"), "{refused:?}");
    fs_err::create_dir(home.path().join("hf")).expect("directory");
    fs_err::write(home.path().join("hf/token"), format!("{TOKEN}\n")).expect("token");
    let config = home.run(&["config"]);
    assert!(config.stdout.contains("hf/token") && !config.stdout.contains(TOKEN), "{config:?}");
    let done = home.run(&["pull", "test/demo"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(hub.tokens_seen_elsewhere().is_empty(), "{:?}", hub.tokens_seen_elsewhere());
    assert!(hub.requests().iter().any(|seen| seen.carries(TOKEN)));
    assert!(!done.stderr.contains(TOKEN) && !refused.stderr.contains(TOKEN));
}

#[test]
fn a_daemon_that_knows_less_than_the_terminal_is_no_dead_end() {
    let (hub, repo) = hub();
    repo.gated(TOKEN);
    let home = home(&hub);
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    // The daemon was started with neither of these.
    let asked = hub.requests().len();
    let home = home.with_variable("HF_TOKEN", TOKEN).with_variable("HF_HUB_OFFLINE", "1");
    let offline = home.run(&["run", "test/demo", STORY]);
    assert!(offline.code == 69 && offline.stderr.contains("samovar is offline"), "{offline:?}");
    assert_eq!(hub.requests().len(), asked);
    let home = home.with_variable("HF_HUB_OFFLINE", "0");
    let refused = home.run(&["run", "test/demo", STORY]);
    assert!(refused.code == 77 && refused.stderr.contains("`samovar pull test/demo`"), "{refused:?}");
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
    assert_eq!(home.run(&["run", "-n", "4", "test/demo", STORY]).code, 0);
}

#[test]
fn a_disk_or_a_quota_that_is_too_small_is_told_in_sizes() {
    let (hub, _) = hub();
    let home = home(&hub).with_variable("SAMOVAR_CACHE_MAX_SIZE_BYTES", "1MB");
    let quota = home.run(&["pull", "test/demo"]);
    assert_eq!(quota.code, 74, "{quota:?}");
    assert!(
        quota.stderr.contains("needs 5.8 MB") && quota.stderr.contains("cache.max_size_bytes"),
        "{quota:?}"
    );
    let home = home.with_variable("SAMOVAR_CACHE_MAX_SIZE_BYTES", "1GB");
    let home = home.with_variable("SAMOVAR_CACHE_MIN_FREE_BYTES", "900000TB");
    let disk = home.run(&["pull", "test/demo"]);
    assert!(disk.code == 74 && disk.stderr.contains("cache.min_free_bytes"), "{disk:?}");
}

#[test]
fn what_a_source_says_is_told_with_what_to_do() {
    let (hub, repo) = hub();
    repo.put("demo-Q4_0.gguf", big(1));
    let home = home(&hub);
    for (name, code, says) in [
        ("test/none", 66, "test/none"),
        ("test/demo@nowhere", 66, "nowhere"),
        ("test/demo:Q2_K", 64, "Q8_0"),
        ("hf://test/demo/none.gguf", 66, "none.gguf"),
        ("../x/y", 64, "is a file"),
        ("nobody", 66, "org/name:Q4_K_M"),
        ("./model.gguf", 64, "needs no fetching"),
        ("ftp://h/x", 64, "hf://"),
        ("https://huggingface.co/models", 64, "hf://organisation/name"),
        ("qwen2.5:7b", 66, "ollama://qwen2.5:7b"),
        ("http://192.0.2.1/x.gguf", 69, "sources.allow_plain_http"),
    ] {
        let done = home.run(&["pull", name]);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{name}: {done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("\nhint: "), "{name}: {done:?}");
        assert!(done.stderr.contains(says), "{name}: {done:?}");
    }
    let offline = home.with_variable("HF_HUB_OFFLINE", "1");
    let done = offline.run(&["run", "test/demo", STORY]);
    assert_eq!(done.code, 69, "{done:?}");
    assert!(done.stderr.contains("offline") && done.stderr.contains("HF_HUB_OFFLINE"), "{done:?}");
}

#[test]
fn bytes_that_are_not_what_was_promised_are_never_kept() {
    let (hub, _) = hub();
    hub.lie(BadAnswer::WrongBytes);
    let home = home(&hub);
    let done = home.run(&["pull", "test/demo"]);
    assert_eq!(done.code, 76, "{done:?}");
    assert!(done.stderr.contains("nothing was kept"), "{done:?}");
    hub.stop_lying();
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
}

#[test]
fn a_model_is_shown_with_its_files_here_and_at_its_source() {
    let (hub, repo) = hub();
    let home = home(&hub);
    let away = home.run(&["show", "test/demo", "--json"]).json();
    assert_eq!((&away["tier"], &away["missing_bytes"]), (&"l3".into(), &away["size_bytes"]), "{away}");
    let judged = &away["variants"][0];
    assert_eq!((&judged["verdict"], &judged["is_recommended"]), (&"fits_now".into(), &true.into()), "{away}");
    let table = home.run(&["show", "test/demo"]).stdout;
    assert!(table.contains("fits now") && table.contains("samovar pull hf://test/demo:Q8_0"), "{table}");
    let sent = hub.sent().of("test/demo/demo-Q8_0.gguf");
    assert!(sent <= 2 * (512 << 10), "{sent} bytes for its header, twice");
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
    let here = home.run(&["show", "test/demo", "--json"]).json();
    assert_eq!((&here["tier"], &here["architecture"]), (&"l2".into(), &"llama".into()), "{here}");
    assert_eq!(here["artifact"]["key"]["commit"], repo.head());
    let digest = repo.digest("demo-Q8_0.gguf").to_string();
    let table = home.run(&["show", "test/demo"]).stdout;
    assert!(
        table.contains(digest.rsplit(':').next().expect("hex")) && table.contains(&repo.head()),
        "{table}"
    );
}

#[test]
fn a_pull_without_a_quantization_takes_the_largest_that_fits_and_says_why() {
    let hub = Hub::start_blocking();
    let repo = hub.add_repo("test/two");
    repo.put("two-Q4_K_M.gguf", fs_err::read(MODEL_FILE).expect("model")).put("two-Q8_0.gguf", big(8));
    let home = home(&hub);
    let done = home.run(&["pull", "test/two"]);
    assert!(done.code == 0 && done.stdout.starts_with("hf://test/two:Q8_0: "), "{done:?}");
    assert!(done.stderr.contains("test/two: Q8_0: the largest of 2 variants that fits in "), "{done:?}");
    let again = home.run(&["pull", "test/two"]);
    assert!(again.stdout.starts_with("hf://test/two:Q8_0 is already on disk"), "{again:?}");
    assert!(!again.stderr.contains("the largest"), "{again:?}");
}

#[test]
fn what_is_removed_is_gone_and_says_what_that_freed() {
    let (hub, repo) = hub();
    repo.put("demo-Q4_0.gguf", big(1));
    let home = home(&hub);
    assert_eq!(home.run(&["pull", "test/demo:Q8_0", "test/demo:Q4_0"]).code, 0);
    let unclear = home.run(&["rm", "test/demo"]);
    assert_eq!(unclear.code, 64, "{unclear:?}");
    assert!(
        unclear.stderr.contains("hf://test/demo:Q4_0") && unclear.stderr.contains("hf://test/demo:Q8_0"),
        "{unclear:?}"
    );
    let done = home.run(&["rm", "test/demo:Q4_0"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "removed hf://test/demo:Q4_0: 1.0 MB freed\n"),
        "{done:?}"
    );
    let json = home.run(&["rm", "--json", "test/demo"]).json();
    assert_eq!(json[0]["freed_bytes"], fs_err::metadata(MODEL_FILE).expect("model").len());
    let again = home.run(&["rm", "test/demo"]);
    assert!(again.code == 66 && again.stderr.contains("is not on disk"), "{again:?}");
}

#[test]
fn a_model_in_use_stays_until_it_is_not() {
    let (hub, _) = hub();
    let home = home(&hub);
    assert_eq!(home.run(&["warm", "test/demo:Q8_0"]).code, 0);
    let pid = home.daemon_pid().expect("a daemon").to_string();
    let held = home.run(&["rm", "test/demo"]);
    assert_eq!(held.code, 75, "{held:?}");
    assert!(held.stderr.contains(&pid) && held.stderr.contains("samovar stop"), "{held:?}");
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert_eq!(home.run(&["rm", "test/demo"]).code, 0);
}

#[test]
fn a_name_whose_bytes_another_model_uses_is_removed_and_the_bytes_stay() {
    let (hub, _) = hub();
    let home = home(&hub);
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    assert_eq!(home.run(&["pull", "test/demo:Q8_0"]).code, 0);
    let done = home.run(&["rm", "test/demo"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert!(done.stdout.contains("stay, as demo uses them"), "{done:?}");
    assert!(!home.run(&["list"]).stdout.contains("test/demo"));
    assert_eq!(home.run(&["run", "-n", "4", "demo", STORY]).code, 0);
    assert_eq!(home.run(&["verify"]).code, 0);
}

#[test]
fn a_pinned_model_survives_collection_and_a_dry_run_changes_nothing() {
    let hub = Hub::start_blocking();
    for name in ["kept", "left"] {
        hub.add_repo(&format!("test/{name}")).put("m-Q4_K_M.gguf", [big(1), name.into()].concat());
    }
    let home = home(&hub);
    assert_eq!(home.run(&["pull", "test/kept", "test/left"]).code, 0);
    let pinned = home.run(&["pin", "test/kept"]);
    assert!(pinned.code == 0 && pinned.stdout.contains("stays on disk"), "{pinned:?}");
    assert!(!home.socket().exists(), "no daemon is needed for that");
    let dry = home.run(&["gc", "--dry-run", "--max-size", "1", "--json"]).json();
    assert_eq!(
        (&dry["is_dry_run"], &dry["removed"][0]["reference"]),
        (&true.into(), &"hf://test/left:Q4_K_M".into()),
        "{dry}"
    );
    let names = |home: &Home| home.run(&["list"]).stdout;
    assert!(names(&home).contains("test/left"));
    let done = home.run(&["gc", "--max-size", "1"]);
    assert!(done.code == 0 && done.stdout.contains("1 pinned"), "{done:?}");
    assert!(names(&home).contains("test/kept") && !names(&home).contains("test/left"));
    assert_eq!(home.run(&["unpin", "test/kept"]).code, 0);
    assert_eq!(home.run(&["gc", "--max-size", "1"]).code, 0);
    assert!(!names(&home).contains("test/kept"));
    assert_eq!(home.run(&["gc", "--max-age", "never"]).code, 64);
}

#[test]
fn looking_at_the_list_puts_nothing_into_the_store() {
    let home = Home::new().with_config("[models.tale]\nsource = 'demo'\n");
    for _ in 0..2 {
        let list = home.run(&["list", "--json"]).json();
        let names: Vec<_> =
            list["models"].as_array().expect("models").iter().map(|model| model["name"].clone()).collect();
        assert_eq!(names, ["demo", "tale"], "{list}");
        assert!(list["models"].as_array().expect("models").iter().all(|model| model["is_here"] == true));
        assert_eq!(home.run(&["df", "--json"]).json()["artifacts"], 0);
    }
}

#[test]
fn damage_is_found_told_and_mended() {
    let (hub, repo) = hub();
    let home = home(&hub);
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
    assert_eq!(home.run(&["verify"]).code, 0);
    let blob = blob_of(&home, &repo.digest("demo-Q8_0.gguf").to_string());
    let mut bytes = fs_err::read(&blob).expect("blob");
    bytes[1000] ^= 1;
    fs_err::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");
    fs_err::write(&blob, bytes).expect("damage");
    let found = home.run(&["verify", "test/demo"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stdout.contains("test/demo"), "{found:?}");
    let mended = home.run(&["verify", "--repair"]);
    assert_eq!(mended.code, 0, "{mended:?}");
    assert_eq!(home.run(&["verify"]).code, 0);
    assert_eq!(home.run(&["run", "-n", "4", "test/demo:Q8_0", STORY]).code, 0);
}

fn blob_of(home: &Home, digest: &str) -> std::path::PathBuf {
    let hex = digest.rsplit(':').next().expect("hex");
    home.path().join("cache/blobs/sha256").join(&hex[..2]).join(hex)
}

#[test]
fn a_model_is_carried_across_an_air_gap() {
    let (hub, _) = hub();
    let home = home(&hub);
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
    let folder = home.path().join("carried");
    let folder = folder.to_str().expect("path");
    let done = home.run(&["export", "test/demo", "--to", folder]);
    assert_eq!(done.code, 0, "{done:?}");
    let other = Home::new().with_variable("HF_HUB_OFFLINE", "1");
    let done = other.run(&["import", folder]);
    assert!(done.code == 0 && done.stdout.contains("hf://test/demo:Q8_0"), "{done:?}");
    assert_eq!(other.run(&["run", "-n", "4", "test/demo:Q8_0", STORY]).code, 0);
    assert_eq!(other.run(&["import", "/nowhere"]).code, 66);
}

#[test]
fn models_of_others_are_shared_and_left_as_they_are() {
    let home = Home::new();
    let folder = home.path().join("theirs");
    fs_err::create_dir(&folder).expect("directory");
    fs_err::copy(MODEL_FILE, folder.join("tale.gguf")).expect("copies");
    let path = folder.to_str().expect("path");
    let dry = home.run(&["adopt", "--dry-run", "--from", path]);
    assert!(dry.code == 0 && dry.stdout.contains("1 model would be adopted"), "{dry:?}");
    let adopted = home.run(&["adopt", "--json", "--from", path]).json();
    let reference = adopted["artifacts"][0]["reference"].as_str().expect("a reference").to_owned();
    let again = home.run(&["adopt", "--from", path]);
    assert!(again.code == 0 && again.stdout.contains("nothing new"), "{again:?}");
    assert_eq!(home.run(&["run", "-n", "4", &reference, STORY]).code, 0);
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert_eq!(home.run(&["rm", &reference]).code, 0);
    assert!(folder.join("tale.gguf").exists());
    let none = Home::new().run(&["adopt"]);
    assert!(none.code == 66 && none.stderr.contains("--from"), "{none:?}");
}

#[test]
fn a_configured_name_stands_for_a_model_of_the_hub() {
    let (hub, _) = hub();
    let home = home(&hub).with_config("[models.tale]\nsource = 'hf://test/demo:Q8_0'\n");
    let list = home.run(&["list"]);
    assert!(list.code == 0 && list.stdout.contains("not fetched yet"), "{list:?}");
    assert_eq!(home.run(&["pull", "tale"]).code, 0);
    let row = |home: &Home| {
        let list = home.run(&["list", "--json"]).json();
        let models = list["models"].as_array().expect("models").clone();
        models.into_iter().find(|model| model["name"] == "tale").expect("tale")
    };
    assert_eq!((&row(&home)["is_here"], &row(&home)["kind"]), (&true.into(), &"config".into()));
    let answer = home.run(&["run", "--json", "-n", "4", "tale", STORY]).json();
    assert_eq!((&answer["model"], &answer["tier"]), (&"tale".into(), &"cold".into()));
}

#[test]
fn the_disk_is_accounted_for() {
    let (hub, _) = hub();
    let home = home(&hub);
    assert_eq!(home.run(&["pull", "test/demo"]).code, 0);
    let table = home.run(&["df"]);
    assert!(table.code == 0 && table.stderr.contains(home.path().to_str().expect("path")), "{table:?}");
    assert!(table.stdout.contains("of a quota of"), "{table:?}");
    let json = home.run(&["df", "--json"]).json();
    assert!(
        json.to_string().contains(&fs_err::metadata(MODEL_FILE).expect("model").len().to_string()),
        "{json}"
    );
}

#[test]
fn the_doctor_looks_at_the_store_and_asks_the_hub_only_when_told() {
    let (hub, _) = hub();
    let home = home(&hub);
    let quiet = home.run(&["doctor", "--quick"]);
    assert!(quiet.code == 0 && quiet.stdout.contains("store"), "{quiet:?}");
    assert!(hub.requests().is_empty());
    let asked = home.run(&["doctor", "--quick", "--network"]);
    assert!(asked.code == 0 && asked.stdout.contains(&hub.endpoint()), "{asked:?}");
    assert!(!hub.requests().is_empty());
    let dead = Home::new().with_variable("HF_ENDPOINT", "http://127.0.0.1:9");
    let dead = dead.with_variable("SAMOVAR_SOURCES_RETRIES", "0").run(&["doctor", "--quick", "--network"]);
    assert!(dead.code == 69 && dead.stdout.contains("127.0.0.1:9"), "{dead:?}");
}

/// The demo model in the cache of the hub's own package, as that lays it out.
pub(crate) fn in_the_hubs_cache(home: &Home) {
    let bytes = fs_err::read(MODEL_FILE).expect("model");
    let folder = home.path().join("hf/hub/models--org--tale");
    let commit = "c0ffee0000000000000000000000000000000000";
    let digest = samovar_core::Digest::of_bytes(&bytes).to_string();
    for below in ["blobs", "refs", &format!("snapshots/{commit}")] {
        fs_err::create_dir_all(folder.join(below)).expect("directories");
    }
    fs_err::write(folder.join("blobs").join(&digest), &bytes).expect("blob");
    fs_err::write(folder.join("refs/main"), commit).expect("ref");
    let link = folder.join(format!("snapshots/{commit}/tale-Q8_0.gguf"));
    fs_err::os::unix::fs::symlink(format!("../../blobs/{digest}"), link).expect("link");
}

#[test]
fn what_the_hubs_own_cache_has_is_run_from_there_and_that_is_said_in_one_line() {
    let home = Home::new().with_variable("SAMOVAR_SOURCES_OFFLINE", "1");
    in_the_hubs_cache(&home);
    let run = ["run", "-m", "hf://org/tale", "-n", "2", STORY];
    let done = home.run(&run);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert!(done.stderr.contains("hf/hub") && done.stderr.contains("nothing is fetched"), "{done:?}");
    let again = home.run(&run);
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{again:?}");
}

#[test]
fn a_daemon_and_pull_take_from_the_hubs_own_cache_and_a_switch_keeps_them_from_it() {
    let hub = Hub::start_blocking();
    let home = home(&hub);
    in_the_hubs_cache(&home);
    let off =
        home.command(&["pull", "hf://org/tale"]).env("SAMOVAR_SOURCES_NEARBY", "no").output().expect("ends");
    assert!(!off.status.success());
    let done = home.run(&["run", "-m", "hf://org/tale", "-n", "2", STORY]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("nothing is fetched"), "{done:?}");
    assert_eq!(home.run(&["stop", "--all"]).code, 0);
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert_eq!(home.run(&["rm", "hf://org/tale:Q8_0"]).code, 0);
    let pulled = home.run(&["pull", "hf://org/tale"]);
    assert_eq!(pulled.code, 0, "{pulled:?}");
    assert!(pulled.stderr.contains("nothing is fetched"), "{pulled:?}");
}
