//! `samovar key`: keys of clients over HTTP, in a file of the state directory. A key is printed once, and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar_core::{ErrorKind, Failure};
use samovar_server::{KeyFile, KeyRecord, KeyTerms, Scope, Secret};
use serde_json::{Value, json};

use super::Context;
use super::answer::roughly;
use crate::args::{AddKey, KeyAction};
use crate::ended::Ended;
use crate::home;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, action: KeyAction) -> Result<(), Ended> {
    let home = &context.settings.home;
    let file = KeyFile::new(home.keys_file());
    match action {
        KeyAction::List => list(context, &file),
        KeyAction::Add(arguments) => {
            home::make_private_dir(&home.state_dir)?;
            let terms = terms(&arguments)?;
            let is_first = file.read().map_err(Failure::from)?.is_empty();
            let secret = file.add(&arguments.name, terms).map_err(Failure::from)?;
            // First of all: a daemon that hangs must not keep the key from being seen.
            show(context, &arguments.name, &secret)?;
            tell_daemon(context).await;
            if is_first {
                context.report.note(
                    "This is the first key: from now on requests over HTTP need one. Restart a running daemon, so that clients do not share the state of prompts.",
                );
            }
            Ok(())
        }
        KeyAction::Rotate(named) => {
            let secret = changed(&file, |file| file.rotate(&named.name))?;
            show(context, &named.name, &secret)?;
            tell_daemon(context).await;
            Ok(())
        }
        KeyAction::Rm(named) => {
            let left = changed(&file, |file| file.remove(&named.name))?;
            tell_daemon(context).await;
            if context.report.is_json() {
                return context.report.json(&json!({ "name": named.name, "keys_left": left }));
            }
            context.report.line(&format!("the key {} is removed", named.name))?;
            if left == 0 {
                context.report.note(
                    "No key is left. A daemon that only this machine reaches needs none now; one that other machines reach refuses all requests over HTTP.",
                );
            }
            Ok(())
        }
    }
}

/// Changes a file that is there. Where it is not, there is no directory to lock it in either.
fn changed<T>(
    file: &KeyFile,
    change: impl FnOnce(&KeyFile) -> Result<T, samovar_server::KeyFileError>,
) -> Result<T, Failure> {
    if !file.path().exists() {
        return Err(Failure::new(ErrorKind::NotFound, "there are no keys")
            .with_hint("`samovar key add NAME` makes one"));
    }
    Ok(change(file)?)
}

fn terms(arguments: &AddKey) -> Result<KeyTerms, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let expires_unix_s = match arguments.expires {
        None => None,
        Some(span) if span.as_ms() < 1_000 => {
            return Err(Failure::new(ErrorKind::InvalidRequest, "--expires: the key would never be valid")
                .with_hint("write at least 1s, such as 30d"));
        }
        Some(span) => Some(now.saturating_add(span.as_duration()).as_secs()),
    };
    let mut scopes: Vec<Scope> = Vec::new();
    for scope in &arguments.scope {
        if !scopes.contains(scope) {
            scopes.push(*scope);
        }
    }
    Ok(KeyTerms {
        scopes,
        models: arguments.models.iter().map(|model| model.trim().to_owned()).collect(),
        requests_per_minute: arguments.rpm,
        tokens_per_minute: arguments.tpm,
        concurrency: arguments.concurrency,
        weight: arguments.weight,
        expires_unix_s,
    })
}

/// The one time that a key is shown: on standard output alone, so that `$(samovar key add ci)` is the key.
fn show(context: &Context, name: &str, secret: &Secret) -> Result<(), Ended> {
    if context.report.is_json() {
        return context.report.json(&json!({ "name": name, "key": secret.text() }));
    }
    context.report.line(secret.text())?;
    context.report.note(&format!(
        "This is the key {name}; it cannot be shown again. Clients send it as `authorization: Bearer …` or `x-api-key: …`."
    ));
    Ok(())
}

/// Has a running daemon follow at once. One that cannot be told looks at the file itself.
async fn tell_daemon(context: &Context) {
    let told = async {
        match context.client().connect().await? {
            Some(connection) => connection.reload_keys().await.map(drop),
            None => Ok(()),
        }
    };
    if let Err(failure) = told.await {
        let message = failure.message;
        context.report.note(&format!(
            "note: the daemon could not be told; it reads the file of keys within a second: {message}"
        ));
    }
}

fn list(context: &Context, file: &KeyFile) -> Result<(), Ended> {
    let mut keys = file.read().map_err(Failure::from)?;
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    if context.report.is_json() {
        let keys: Vec<Value> = keys.iter().map(|key| object(key, now_unix_s)).collect();
        return context.report.json(&json!({ "keys": keys }));
    }
    let mut columns = Columns::new(&[
        ("NAME", Align::Left),
        ("SCOPES", Align::Left),
        ("MODELS", Align::Left),
        ("RPM", Align::Right),
        ("TPM", Align::Right),
        ("AT ONCE", Align::Right),
        ("WEIGHT", Align::Right),
        ("EXPIRES", Align::Left),
    ]);
    for key in &keys {
        let terms = &key.terms;
        let number = |limit: Option<u32>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let models = if terms.models.is_empty() { "all".to_owned() } else { terms.models.join(",") };
        columns.row([
            key.name.clone(),
            words(&terms.scopes),
            models,
            number(terms.requests_per_minute),
            number(terms.tokens_per_minute),
            number(terms.concurrency),
            number(terms.weight),
            expiry(key, now_unix_s),
        ]);
    }
    context.report.table(columns)?;
    if keys.is_empty() {
        context.report.note("there are no keys; `samovar key add NAME` makes one");
    }
    Ok(())
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(",")
}

fn expiry(key: &KeyRecord, now_unix_s: u64) -> String {
    match key.terms.expires_unix_s {
        None => "never".to_owned(),
        Some(_) if key.has_expired(now_unix_s) => "expired".to_owned(),
        Some(end) => format!("in {}", roughly((end - now_unix_s).saturating_mul(1000))),
    }
}

/// A key for programs: neither it nor its digest.
fn object(key: &KeyRecord, now_unix_s: u64) -> Value {
    let terms = &key.terms;
    json!({
        "name": key.name,
        "created_unix_s": key.created_unix_s,
        "scopes": terms.scopes,
        "models": terms.models,
        "requests_per_minute": terms.requests_per_minute,
        "tokens_per_minute": terms.tokens_per_minute,
        "concurrency": terms.concurrency,
        "weight": terms.weight,
        "expires_unix_s": terms.expires_unix_s,
        "has_expired": key.has_expired(now_unix_s),
    })
}
