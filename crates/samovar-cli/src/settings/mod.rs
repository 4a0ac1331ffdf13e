//! What is in force: flags over environment (ours, then other programs') over `samovar.toml` over defaults, each value with where it came from.
//!
//! ```text
//!   flags ─────┐
//!   SAMOVAR_* ─┤
//!   HF_*, … ───┤
//!   file ──────┼─► settle ─► Settings ─► RuntimeSettings (library), daemon, client
//!   defaults ──┘                └──────► `samovar config`
//! ```
//!
//! The tables of [`keys`] and [`model_keys`] know every setting, and those of [`variables`] the environment; nothing else reads the environment or the file.

mod entry;
mod environment;
pub(crate) mod examples;
pub(crate) mod file;
pub(crate) mod foreign;
pub(crate) mod keys;
pub(crate) mod model_keys;
mod models;
mod ollama_host;
mod provenance;
mod serving;
mod settled;
mod storage;
pub(crate) mod value;
mod values;
pub(crate) mod variables;
mod watched;

use std::path::{Path, PathBuf};

use samovar_core::{ErrorKind, Failure};

pub(crate) use entry::{Entry, entries_as_json, settings_as_json};
pub(crate) use environment::Environment;
pub(crate) use provenance::Provenance;
pub(crate) use samovar::RuntimeSettings;
pub(crate) use settled::Settings;
pub(crate) use watched::Watched;

use crate::home::{self, Home};
use value::{Shape, Value};

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--home`.
    pub(crate) home: Option<PathBuf>,
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// Flag, path of the setting, text.
    pub(crate) values: Vec<(&'static str, &'static str, String)>,
}

/// Settles every setting.
///
/// # Errors
/// `InvalidRequest` for anything unknown or of the wrong shape, with its place and a hint.
pub(crate) fn settle(flags: &Flags, environment: &Environment) -> Result<Settings, Failure> {
    let home = Home::find(flags.home.as_deref(), environment)?;
    let (config_file, is_named) = config_file(flags, environment, &home)?;
    let contents = file::read(&config_file, is_named)?;
    let file_found = contents.is_some();
    let mut contents = contents.unwrap_or_default();
    for key in keys::KEYS.iter().chain(&default_keys()) {
        if let Some(settled) = from_environment(key, environment)? {
            contents.values.insert(key.path.to_owned(), settled);
        }
    }
    for (flag, path, text) in &flags.values {
        let key = keys::find(path).expect("invariant: flags name keys of the table");
        let mut settled = from_flag(flag, key, text)?;
        if let ("--port", Value::Address(wanted), Some((Value::Address(configured), _))) =
            (*flag, &mut settled.0, contents.values.get(*path))
        {
            wanted.set_ip(configured.ip());
        }
        contents.values.insert((*path).to_owned(), settled);
    }
    let config = file_found.then_some(config_file);
    Settings::assemble(home, config, environment, contents)
}

fn config_file(flags: &Flags, environment: &Environment, home: &Home) -> Result<(PathBuf, bool), Failure> {
    match flags.config.clone().or_else(|| environment.path("SAMOVAR_CONFIG")) {
        Some(named) => Ok((home::absolute(&named)?, true)),
        None => Ok((home.config_file.clone(), false)),
    }
}

/// The keys of `[defaults]` with their whole paths.
fn default_keys() -> Vec<keys::Key> {
    const PATHS: [&str; 10] = [
        "defaults.context_tokens",
        "defaults.slots",
        "defaults.layout",
        "defaults.quantization",
        "defaults.kv_type",
        "defaults.threads",
        "defaults.keep_alive",
        "defaults.lock_memory",
        "defaults.special_tokens_in_content",
        "defaults.speculation",
    ];
    let with_path = |path: &'static str| {
        let name = path.strip_prefix("defaults.").expect("invariant: written above");
        let key = model_keys::find_of_model(name).expect("invariant: PATHS follow MODEL_KEYS");
        keys::Key { path, ..*key }
    };
    PATHS.into_iter().map(with_path).collect()
}

fn from_environment(
    key: &keys::Key,
    environment: &Environment,
) -> Result<Option<(Value, Provenance)>, Failure> {
    let variable = key.variable();
    let Some(text) = environment.text(&variable) else { return from_foreign(key, environment) };
    let value = read(key, &text).map_err(|reason| fault(&variable, key, &reason))?;
    Ok(Some((value, Provenance::Environment { variable })))
}

/// What a variable of another program says about this key.
fn from_foreign(key: &keys::Key, environment: &Environment) -> Result<Option<(Value, Provenance)>, Failure> {
    let said = variables::FOREIGN
        .iter()
        .filter(|(path, _)| *path == key.path)
        .find_map(|(_, variable)| Some((*variable, environment.text(variable)?)));
    let Some((variable, text)) = said else { return Ok(None) };
    let value = match key.shape {
        // By the rule of those programs: whatever is not yes is no.
        Shape::Flag => Value::Flag(foreign::is_yes(&text)),
        _ => read(key, &text).map_err(|reason| fault(variable, key, &reason))?,
    };
    Ok(Some((value, Provenance::Environment { variable: variable.to_owned() })))
}

fn from_flag(flag: &'static str, key: &keys::Key, text: &str) -> Result<(Value, Provenance), Failure> {
    let value = read(key, text).map_err(|reason| fault(flag, key, &reason))?;
    Ok((value, Provenance::Flag { flag }))
}

fn read(key: &keys::Key, text: &str) -> Result<Value, String> {
    let here = home::absolute(Path::new(".")).map_err(|failure| failure.message)?;
    key.shape.read(&key.shape.raw_of_text(text), &here)
}

fn fault(place: &str, key: &keys::Key, reason: &str) -> Failure {
    Failure::new(ErrorKind::InvalidRequest, format!("{place}: {reason}"))
        .with_hint(format!("write {}", key.shape.expected()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path");
        fs_err::write(
            folder.path().join("samovar.toml"),
            "[server]\nlisten = '127.0.0.1:1'\ngrace = '1s'\n[pool]\nqueue_total = 1\n",
        )
        .expect("file");
        let environment = environment(&[
            ("SAMOVAR_HOME", home),
            ("SAMOVAR_SERVER_LISTEN", "127.0.0.1:2"),
            ("SAMOVAR_SERVER_GRACE", "2s"),
        ]);
        let flags =
            Flags { values: vec![("--listen", "server.listen", "127.0.0.1:3".into())], ..Flags::default() };
        let settings = settle(&flags, &environment).expect("settles");
        let entry = |key: &str| {
            let entry = settings.entries.iter().find(|entry| entry.key == key).expect("known");
            (entry.shown.clone(), entry.provenance.to_string())
        };
        assert_eq!(entry("server.listen"), ("127.0.0.1:3".into(), "--listen".into()));
        assert_eq!(entry("server.grace"), ("2s".into(), "SAMOVAR_SERVER_GRACE".into()));
        assert_eq!(entry("pool.queue_total"), ("1".into(), format!("{home}/samovar.toml:5")));
        assert_eq!(entry("pool.soft_ratio"), ("0.85".into(), "default".into()));
        assert_eq!(settings.runtime.pool.queue_total, 1);
    }

    #[test]
    fn tls_has_a_certificate_and_its_key_or_neither() {
        let with = |text: &str| {
            let folder = tempfile::tempdir().expect("temporary folder");
            fs_err::write(folder.path().join("samovar.toml"), text).expect("file");
            settle(
                &Flags { home: Some(folder.path().to_owned()), ..Flags::default() },
                &Environment::default(),
            )
            .map(|settings| {
                settings.tls.map(|files| files.certificate.strip_prefix(folder.path()).map(Path::to_owned))
            })
        };
        assert_eq!(with("").expect("settles"), None);
        let certificate = Some(Ok("c.pem".into()));
        assert_eq!(
            with("[server.tls]\ncertificate = 'c.pem'\nkey = 'k.pem'\n").expect("settles"),
            certificate
        );
        assert_eq!(
            with("[server]\ntls.certificate = 'c.pem'\ntls.key = 'k.pem'\n").expect("settles"),
            certificate
        );
        let failure = with("[server.tls]\ncertificate = 'c.pem'\n").expect_err("no key");
        assert!(
            failure
                .message
                .ends_with("samovar.toml:2: `server.tls.certificate` is set, and `server.tls.key` is not")
        );
        assert!(with("[server.tls]\nclient_ca = 'a.pem'\n").is_err());
        let failure = with("[server.tls]\ncertificat = 'c.pem'\n").expect_err("no such key");
        assert!(failure.message.ends_with("there is no key `server.tls.certificat`"), "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("did you mean `certificate`?"));
    }

    #[test]
    fn prefixes_are_a_clients_own_where_clients_are_told_apart() {
        let sharing = |more: &[(&str, &str)]| {
            let pairs = [&[("SAMOVAR_HOME", "/nowhere")], more].concat();
            settle(&Flags::default(), &environment(&pairs)).expect("settles").runtime.share_prefixes
        };
        let (all, client) = (samovar::PrefixSharing::All, samovar::PrefixSharing::Client);
        assert_eq!(sharing(&[]), all);
        assert_eq!(sharing(&[("SAMOVAR_SERVER_LISTEN", "127.0.0.1:1")]), all);
        assert_eq!(sharing(&[("SAMOVAR_SERVER_LISTEN", "0.0.0.0:1")]), client);
        let header = ("SAMOVAR_SERVER_CLIENT_HEADER", "x-client");
        assert_eq!(sharing(&[header]), client);
        assert_eq!(sharing(&[header, ("SAMOVAR_POOL_SHARE_PREFIXES", "all")]), all);
        assert_eq!(sharing(&[("SAMOVAR_POOL_SHARE_PREFIXES", "client")]), client);
    }

    #[test]
    fn a_port_alone_keeps_the_configured_address() {
        let listen = |more: &[(&str, &str)]| {
            let pairs = [&[("SAMOVAR_HOME", "/nowhere")], more].concat();
            let values = vec![("--port", "server.listen", "8000".to_owned())];
            let settings =
                settle(&Flags { values, ..Flags::default() }, &environment(&pairs)).expect("settles");
            settings.listen.expect("an address").to_string()
        };
        assert_eq!(listen(&[]), "127.0.0.1:8000");
        assert_eq!(listen(&[("SAMOVAR_SERVER_LISTEN", "10.0.0.1:1")]), "10.0.0.1:8000");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let failure = settle(
            &Flags::default(),
            &environment(&[("SAMOVAR_HOME", "/nowhere"), ("SAMOVAR_POOL_QUEUE_TOTAL", "many")]),
        )
        .expect_err("refused");
        assert!(
            failure.message.starts_with("SAMOVAR_POOL_QUEUE_TOTAL: \"many\" is not"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn our_variables_win_over_those_of_others_and_those_over_the_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path");
        fs_err::write(
            folder.path().join("samovar.toml"),
            "[sources]\noffline = false\nhub_endpoint = 'https://file.example'\n[cache]\nmax_age_days = 7\n",
        )
        .expect("file");
        let settled = |more: &[(&str, &str)]| {
            let pairs = [&[("SAMOVAR_HOME", home)], more].concat();
            settle(&Flags::default(), &environment(&pairs)).expect("settles").runtime.store
        };
        let file = settled(&[]);
        assert_eq!(file.sources.hub_endpoint.as_deref(), Some("https://file.example"));
        assert_eq!(file.max_age, std::time::Duration::from_secs(7 * 24 * 3600));
        let theirs = [("HF_ENDPOINT", "https://theirs.example"), ("HF_HUB_OFFLINE", "1")];
        let others = settled(&theirs);
        assert_eq!(others.sources.hub_endpoint.as_deref(), Some("https://theirs.example"));
        assert!(others.sources.is_offline && !file.sources.is_offline);
        let ours =
            [("SAMOVAR_SOURCES_HUB_ENDPOINT", "https://ours.example"), ("SAMOVAR_SOURCES_OFFLINE", "no")];
        let ours = settled(&[&theirs[..], &ours].concat());
        assert_eq!(ours.sources.hub_endpoint.as_deref(), Some("https://ours.example"));
        assert!(!ours.sources.is_offline);
    }

    #[test]
    fn a_token_is_settled_and_never_shown() {
        let environment = environment(&[("SAMOVAR_HOME", "/nowhere"), ("HF_TOKEN", "hf_verysecret")]);
        let settings = settle(&Flags::default(), &environment).expect("settles");
        let token = settings.runtime.store.sources.hub_token.as_ref().expect("a token");
        assert_eq!(token.reveal(), "hf_verysecret");
        let entry = settings.entries.iter().find(|entry| entry.key == "sources.hub_token").expect("an entry");
        assert_eq!((entry.shown.as_str(), entry.provenance.to_string()), ("set", "HF_TOKEN".to_owned()));
        assert!(!format!("{settings:?}").contains("verysecret"));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let flags = Flags { config: Some("/nowhere/x.toml".into()), ..Flags::default() };
        let failure = settle(&flags, &environment(&[("SAMOVAR_HOME", "/nowhere")])).expect_err("refused");
        assert_eq!(failure.kind, ErrorKind::NotFound);
    }

    #[test]
    fn models_inherit_the_defaults_and_relative_sources() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path");
        fs_err::write(
            folder.path().join("samovar.toml"),
            "[defaults]\nslots = 3\n[models.tiny]\nsource = 'm/t.gguf'\nkeep_alive = -1\n",
        )
        .expect("file");
        let settings = settle(&Flags::default(), &environment(&[("SAMOVAR_HOME", home)])).expect("settles");
        assert_eq!(settings.runtime.defaults.slots, Some(3));
        let alias = &settings.runtime.aliases[0];
        assert_eq!(alias.name, "tiny");
        assert_eq!(alias.source, samovar_core::ModelRef::file(folder.path().join("m/t.gguf")));
        assert_eq!(alias.settings.keep_alive, Some(samovar_core::units::KeepAlive::UntilEvicted));
    }

    #[test]
    fn a_draft_model_is_another_name_or_a_model_wherever_it_is() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path");
        let draft_of = |draft: &str| {
            let text =
                format!("[models.a]\nsource = 'demo'\ndraft = '{draft}'\n[models.b]\nsource = 'demo'\n");
            fs_err::write(folder.path().join("samovar.toml"), text).expect("file");
            let settings = settle(&Flags::default(), &environment(&[("SAMOVAR_HOME", home)]))?;
            Ok::<_, Failure>(settings.runtime.aliases[0].settings.draft.clone())
        };
        let path = folder.path().join("m/t.gguf").to_string_lossy().into_owned();
        for (draft, expected) in [
            ("b", "b"),
            ("m/t.gguf", path.as_str()),
            ("demo", "demo"),
            ("hf://o/n:Q4_K_M", "hf://o/n:Q4_K_M"),
        ] {
            assert_eq!(draft_of(draft).expect("settles").as_deref(), Some(expected));
        }
        let failure = draft_of("ftp://h/x").expect_err("refused");
        assert!(failure.message.contains("models.a.draft"), "{failure}");
    }
}
