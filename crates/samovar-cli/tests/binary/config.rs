//! Settings: what is in force and where it came from.

use serde_json::Value;

use crate::home::Home;

fn from<'a>(config: &'a Value, key: &str) -> (&'a Value, &'a str) {
    let values = config["values"].as_array().expect("values");
    let value = values.iter().find(|value| value["key"] == key).unwrap_or_else(|| panic!("{key}"));
    (&value["value"], value["from"].as_str().expect("text"))
}

#[test]
fn every_value_says_where_it_came_from() {
    let home = Home::new()
        .with_config(
            "[pool]\nbudget_bytes = '2GB'\nsoft_ratio = 0.5\n[models.tiny]\nsource = 'demo'\nslots = 2\n",
        )
        .with_variable("SAMOVAR_POOL_SOFT_RATIO", "0.75")
        .with_variable("SAMOVAR_NONSENSE", "1");
    let config = home.run(&["config", "--json", "--socket", "/tmp/s"]).json();
    let file = home.path().join("samovar.toml");
    assert_eq!(
        from(&config, "pool.budget_bytes"),
        (&2_000_000_000_u64.into(), format!("{}:2", file.display()).as_str())
    );
    assert_eq!(from(&config, "pool.soft_ratio"), (&0.75.into(), "SAMOVAR_POOL_SOFT_RATIO"));
    assert_eq!(from(&config, "server.socket"), (&"/tmp/s".into(), "--socket"));
    assert_eq!(from(&config, "pool.queue_total").1, "default");
    assert_eq!(from(&config, "models.tiny.slots").0, 2);
    assert_eq!(config["unknown_variables"][0], "SAMOVAR_NONSENSE");
    let table = home.run(&["config"]);
    assert!(
        table.stdout.contains("SAMOVAR_POOL_SOFT_RATIO") && table.stderr.contains("SAMOVAR_NONSENSE"),
        "{table:?}"
    );
}

#[test]
fn a_configured_name_works_and_a_broken_one_is_told() {
    let home = Home::new().with_config(
        "default_model = 'tiny'\n[models.tiny]\nsource = 'demo'\nslots = 2\n[models.gone]\nsource = './gone.gguf'\n",
    );
    let answer = home.run(&["run", "--json", "-n", "4", "Hello"]).json();
    assert_eq!(answer["model"], "tiny");
    assert_eq!(home.stats()["models"][0]["slots"], 2);
    let list = home.run(&["list"]);
    assert!(
        list.stdout.contains("tiny") && list.stderr.contains("gone cannot be used: there is no file"),
        "{list:?}"
    );
}

#[test]
fn a_context_larger_than_the_model_was_trained_with_is_said() {
    let home = Home::new().with_config("[models.tiny]\nsource = 'demo'\ncontext_tokens = 1000000\n");
    let show = home.run(&["show", "tiny"]);
    assert!(show.stdout.contains("1000000 are configured"), "{show:?}");
    let doctor = home.run(&["doctor", "--quick"]);
    assert!(doctor.stdout.contains("as it was trained, and not 1000000"), "{doctor:?}");
    for _ in 0..2 {
        assert_eq!(home.run(&["run", "-n", "2", "tiny", "Hello"]).code, 0);
    }
    let log = fs_err::read_to_string(home.path().join("state/daemon.log")).expect("log");
    assert_eq!(log.matches("no larger than the model was trained with").count(), 1, "{log}");
    let plain = Home::new().run(&["doctor", "--quick"]);
    assert!(!plain.stdout.contains("✓ names"), "{plain:?}");
}

#[test]
fn the_template_is_a_valid_file() {
    let home = Home::new();
    let template = home.run(&["config", "--template"]).stdout;
    let home = home.with_config(&template);
    assert_eq!(home.run(&["config"]).code, 0);
}

#[test]
fn whoever_uncomments_the_whole_template_is_served() {
    let home = Home::new().with_variable("SAMOVAR_SERVER_LISTEN", "127.0.0.1:0");
    let template = home.run(&["config", "--template"]).stdout;
    let is_setting = |line: &&str| !line.starts_with("# ");
    let lines: Vec<&str> =
        template.lines().filter(is_setting).map(|line| line.trim_start_matches('#')).collect();
    let home = home.with_config(&lines.join("\n"));
    let done = home.run(&["run", "-n", "4", "Hello"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let show = home.run(&["show", "demo", "--json"]).json();
    assert_eq!(show["context_tokens"], show["trained_context_tokens"], "{show}");
}

#[test]
fn a_variable_that_means_nothing_is_said_once_with_what_was_meant() {
    let home = Home::new().with_variable("SAMOVAR_POOL_BUDGT_BYTES", "1GB");
    let done = home.run(&["run", "-n", "2", "Hello"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stderr.matches("SAMOVAR_POOL_BUDGT_BYTES").count(), 1, "{done:?}");
    assert!(done.stderr.contains("did you mean SAMOVAR_POOL_BUDGET_BYTES?"), "{done:?}");
    let doctor = home.run(&["doctor", "--quick"]);
    assert!(doctor.stdout.contains("did you mean SAMOVAR_POOL_BUDGET_BYTES?"), "{doctor:?}");
}

#[test]
fn help_of_a_verb_is_asked_for_in_both_ways() {
    let home = Home::new();
    let asked = home.run(&["help", "run"]);
    assert_eq!((asked.code, asked.stdout), (0, home.run(&["run", "--help"]).stdout));
    assert_eq!(home.run(&["help"]).stdout, home.run(&["--help"]).stdout);
}
