//! `samovar plan`: a log of requests lived through again, without a daemon.

use serde_json::Value;

use crate::home::Home;

const LOG: &str = "\
{\"model\":\"a\",\"held_bytes\":40000000,\"mapped_bytes\":400000000,\"load_ms\":1000,\"resume_ms\":50}
{\"model\":\"b\",\"held_bytes\":40000000,\"mapped_bytes\":400000000,\"load_ms\":3000,\"resume_ms\":60}
{\"time_ms\":1763700000000,\"model\":\"a\",\"hold_ms\":10}
1763700005000 b 10
1763700010000 a 10
1763700015000 b
";

fn plan(home: &Home, more: &[&str]) -> Value {
    fs_err::write(home.path().join("requests.log"), LOG).expect("log");
    home.run(&[&["plan", "--json", "--trace", "requests.log"], more].concat()).json()
}

fn row<'a>(answer: &'a Value, budget: usize, policy: &str) -> &'a Value {
    let rows = answer["budgets"][budget]["policies"].as_array().expect("rows");
    rows.iter().find(|row| row["policy"] == policy).unwrap_or_else(|| panic!("{policy} in {answer}"))
}

#[test]
fn a_larger_budget_loads_less_and_the_future_bounds_every_policy() {
    let home = Home::new();
    let answer = plan(&home, &["--budget", "600MB,2GB", "--no-parking"]);
    assert_eq!((&answer["requests"], &answer["models"]), (&4.into(), &2.into()));
    assert_eq!(answer["assumed_holds"], 1);
    for policy in ["gdsf", "lru"] {
        assert_eq!(row(&answer, 0, policy)["load_ms"], 8_000, "{answer}");
        assert_eq!(row(&answer, 1, policy)["load_ms"], 4_000, "{answer}");
    }
    assert_eq!(answer["budgets"][1]["bound_ms"], 4_000);
    let parking = plan(&home, &["--budget", "600MB", "--policy", "gdsf"]);
    assert_eq!(row(&parking, 0, "gdsf")["load_ms"], 4_110, "{parking}");
    assert_eq!(home.daemon_pid(), None, "plan asks no daemon");
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Six hundred requests for eight models under every policy, with parking and without: what comes of it is kept in a
/// file. `SAMOVAR_TEST_BLESS=1` writes that anew, for a change that is meant to decide otherwise.
#[test]
#[allow(clippy::disallowed_methods, reason = "to bless is a wish of the user who runs the tests")]
fn a_golden_trace_is_decided_as_it_was() {
    let home = Home::new();
    let trace = format!("{GOLDEN}/requests.jsonl");
    let lived = |more: &[&str]| {
        let usual = ["plan", "--json", "--trace", &trace, "--budget", "6GB,9GB,14GB"];
        home.run(&[&usual[..], more].concat()).json()
    };
    let answer = serde_json::json!({ "parking": lived(&[]), "no_parking": lived(&["--no-parking"]) });
    let file = format!("{GOLDEN}/plan.json");
    if std::env::var_os("SAMOVAR_TEST_BLESS").is_some() {
        fs_err::write(&file, format!("{answer:#}\n")).expect("written");
    }
    let expected = fs_err::read_to_string(&file).expect("SAMOVAR_TEST_BLESS=1 writes it");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(answer, expected, "the same requests led to other decisions");
}

#[test]
fn models_that_nobody_knows_are_left_out_and_named() {
    let home = Home::new();
    fs_err::write(home.path().join("requests.log"), "0 demo\n5 nobodys-model\n").expect("log");
    let done = home.run(&["plan", "--trace", "requests.log", "--budget", "1GB"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("1 request for 1 model"), "{done:?}");
    assert!(done.stderr.contains("left out 1 request for nobodys-model"), "{done:?}");
}

#[test]
fn a_bad_line_is_named_with_its_file_and_number() {
    let home = Home::new();
    fs_err::write(home.path().join("requests.log"), "0 demo\nsoon demo\n").expect("log");
    let done = home.run(&["plan", "--trace", "requests.log"]);
    assert_eq!((done.code, done.stdout.as_str()), (64, ""), "{done:?}");
    assert!(done.stderr.contains("requests.log, line 2: \"soon\" is no time in milliseconds"), "{done:?}");
    let done = home.run(&["plan", "--trace", "none.log"]);
    assert_eq!(done.code, 66, "{done:?}");
    assert!(done.stderr.contains("hint: the daemon writes a log"), "{done:?}");
    let done = home.run(&["plan", "--trace", "requests.log", "--policy", "random"]);
    assert!(done.code == 64 && done.stderr.contains("write one of gdsf, lru"), "{done:?}");
}

#[test]
fn the_daemon_writes_a_log_that_can_be_replayed_without_the_models_and_without_their_words() {
    let home = Home::new();
    let log = home.path().join("requests.log");
    let home = home.with_variable("SAMOVAR_SERVER_REQUEST_LOG", log.to_str().expect("path"));
    for _ in 0..2 {
        assert_eq!(home.run(&["run", "-n", "4", "A secret word"]).code, 0);
    }
    assert_eq!(home.run(&["shutdown"]).code, 0);
    home.wait_until_daemon_is_gone();
    let text = fs_err::read_to_string(log).expect("log");
    assert!(!text.contains("secret") && text.contains("\"tier\":\"cold\""), "{text}");
    fs_err::write(home.path().join("elsewhere.log"), text.replace("demo", "elsewhere")).expect("log");
    let answer = home.run(&["plan", "--json", "--trace", "elsewhere.log", "--budget", "1GB"]).json();
    assert_eq!((&answer["requests"], &answer["models"]), (&2.into(), &1.into()), "{text}");
    let gdsf = row(&answer, 0, "gdsf");
    assert_eq!((&gdsf["ready"], &gdsf["loaded"]), (&1.into(), &1.into()), "{text}");
    assert_eq!(answer["assumed_holds"], 0, "{text}");
}

#[test]
fn a_line_that_a_crash_cut_off_is_passed_over_and_told() {
    let home = Home::new();
    let log = "{\"time_ms\":0,\"model\":\"demo\",\"hold_ms\":5}\n{\"time_ms\":3,\"mod\n{\"time_ms\":9,\"model\":\"demo\",\"hold_ms\":5}\n";
    fs_err::write(home.path().join("requests.log"), log).expect("log");
    let done = home.run(&["plan", "--trace", "requests.log", "--budget", "1GB"]);
    assert!(done.stdout.contains("2 requests for 1 model"), "{done:?}");
    assert!(done.stderr.contains("skipped 1 line"), "{done:?}");
}
