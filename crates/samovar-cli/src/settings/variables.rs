//! Variables of the environment: those that are no settings of the file, those of other programs, and the one that sets a setting.

use super::keys::{KEYS, Key, nearest};
use super::model_keys::MODEL_KEYS;

/// Variables of other programs that set a key of ours, where neither flag nor `SAMOVAR_*` does.
pub(crate) const FOREIGN: &[(&str, &str)] =
    &[("sources.offline", "HF_HUB_OFFLINE"), ("sources.hub_endpoint", "HF_ENDPOINT")];

/// Variables that are not settings of the file.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("SAMOVAR_HOME", "One directory for configuration, cache, state and socket, instead of the XDG places."),
    ("SAMOVAR_CONFIG", "The configuration file, instead of `samovar.toml` in the home."),
    (
        "SAMOVAR_API_KEY",
        "A key for the daemon, for programs that `samovar link` sets up and for its `--check`.",
    ),
    ("NO_COLOR", "Set to anything: no colours on the terminal."),
];

/// What the programs around us call their settings, honoured so that users need not set a thing twice.
pub(crate) const ECOSYSTEM: &[(&str, &str)] = &[
    ("HF_ENDPOINT", "The hub, unless `SAMOVAR_SOURCES_HUB_ENDPOINT` names one."),
    ("HF_HUB_OFFLINE", "1 = fetch nothing, unless `SAMOVAR_SOURCES_OFFLINE` says otherwise."),
    ("HF_TOKEN", "The token for the hub."),
    ("HUGGING_FACE_HUB_TOKEN", "The same, where `HF_TOKEN` is not set."),
    (
        "HF_TOKEN_PATH",
        "A file with the token, read where no variable holds one. Default: `token` in `HF_HOME`.",
    ),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1 = send no token."),
    ("HF_HOME", "Where the hub's own programs keep their files. Default: `~/.cache/huggingface`."),
    ("HF_HUB_CACHE", "Where `samovar adopt` looks for their models. Default: `hub` in `HF_HOME`."),
    (
        "OLLAMA_HOST",
        "Where `samovar serve --as-ollama` listens for Ollama's clients, if it is an address. Default: `127.0.0.1:11434`.",
    ),
    (
        "OLLAMA_MODELS",
        "Where `samovar adopt` and `samovar migrate` look for Ollama's models. Default: `~/.ollama/models`.",
    ),
    (
        "OLLAMA_KEEP_ALIVE, OLLAMA_CONTEXT_LENGTH, OLLAMA_NUM_PARALLEL",
        "What `samovar migrate ollama` takes over for all models.",
    ),
    ("AWS_*", "Keys, region and endpoint for s3://…, as the AWS programs read them."),
    ("GOOGLE_*", "Credentials for gs://…"),
    ("AZURE_*", "Credentials for az://…"),
    ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "The proxies for network access."),
];

/// The variable of a setting's path.
pub(crate) fn variable_of(path: &str) -> String {
    format!("SAMOVAR_{}", path.replace('.', "_").to_uppercase())
}

/// The variable that a name that means nothing is most like, if it is like one.
pub(crate) fn meant_by(unknown: &str) -> Option<String> {
    let of_models = MODEL_KEYS.iter().map(|key| variable_of(&format!("defaults.{}", key.path)));
    let all: Vec<String> = KEYS
        .iter()
        .map(Key::variable)
        .chain(of_models)
        .chain(VARIABLES.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    // What all of them begin with makes none of them more alike.
    let tail = |name: &str| name.strip_prefix("SAMOVAR_").unwrap_or(name).to_owned();
    let tails: Vec<String> = all.iter().map(|name| tail(name)).collect();
    let near = nearest(&tail(unknown), tails.iter().map(String::as_str))?;
    all.iter().find(|name| tail(name) == near).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_a_slip_of_the_finger_is_known_again() {
        let meant = |name: &str| meant_by(name).unwrap_or_default();
        assert_eq!(meant("SAMOVAR_POOL_BUDGT_BYTES"), "SAMOVAR_POOL_BUDGET_BYTES");
        assert_eq!(meant("SAMOVAR_BUDGET_BYTES"), "SAMOVAR_POOL_BUDGET_BYTES");
        assert_eq!(meant("SAMOVAR_HOMES"), "SAMOVAR_HOME");
        assert_eq!(meant("SAMOVAR_ZZZ"), "");
    }
}
