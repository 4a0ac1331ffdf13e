//! What other programs' variables and files tell: the hub's token, keys of object stores, where their models lie.
//!
//! ```text
//!   token    HF_TOKEN > HUGGING_FACE_HUB_TOKEN > the file HF_TOKEN_PATH > HF_HOME/token
//!   models   HF_HUB_CACHE > HF_HOME/hub · OLLAMA_MODELS · LM Studio's folder
//! ```
//!
//! Reads; never writes there. What it reads is never printed: only where it was.

use std::path::{Path, PathBuf};

use samovar::store::config::Secret;

use super::{Environment, Provenance};
use crate::home;

/// A token is a few dozen characters; a file larger than this is something else.
const TOKEN_MAX_BYTES: u64 = 8 << 10;
/// Variables that object stores are set up with.
const OBJECT_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// What other programs left for us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign {
    /// The hub's token and where it was.
    pub(crate) token: Option<(Secret, Provenance)>,
    /// Settings of object stores, by the lower-case names that their programs use.
    pub(crate) object_options: Vec<(String, Secret)>,
    /// Where models of other programs lie.
    pub(crate) places: Places,
    /// What else their files may refer to.
    pub(crate) variables: Variables,
    /// What was there but could not be used.
    pub(crate) remarks: Vec<String>,
}

/// Where models of other programs lie, whether anything is there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The Hugging Face cache.
    pub(crate) hub: Option<PathBuf>,
    /// Ollama's store.
    pub(crate) ollama: Option<PathBuf>,
    /// LM Studio's folder.
    pub(crate) lm_studio: Option<PathBuf>,
}

/// The variables of this process, for configuration files of other programs that refer to them. Never shown.
#[derive(Clone, Default)]
pub(crate) struct Variables(Environment);

impl Variables {
    /// A variable's text; an empty one counts as not set.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.text(name)
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables")
    }
}

impl Foreign {
    /// Reads the variables, and the token's file where no variable holds one.
    pub(crate) fn read(environment: &Environment) -> Self {
        let mut remarks = Vec::new();
        let token = token(environment, &mut remarks);
        Self {
            token,
            object_options: object_options(environment),
            places: places(environment),
            variables: Variables(environment.clone()),
            remarks,
        }
    }

    /// The variables behind the settings of object stores.
    pub(crate) fn object_variables(&self) -> Vec<String> {
        self.object_options.iter().map(|(name, _)| name.to_uppercase()).collect()
    }
}

/// What the hub's own programs take for yes.
pub(super) fn is_yes(text: &str) -> bool {
    matches!(text.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn token(environment: &Environment, remarks: &mut Vec<String>) -> Option<(Secret, Provenance)> {
    if environment.text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|text| is_yes(&text)) {
        return None;
    }
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = environment.text(variable) {
            let secret = checked(&text, variable, remarks)?;
            return Some((secret, Provenance::Environment { variable: variable.to_owned() }));
        }
    }
    let path = environment.path("HF_TOKEN_PATH").or_else(|| Some(hub_home(environment)?.join("token")))?;
    let text = token_file(&path, remarks)?;
    let secret = checked(&text, &path.display().to_string(), remarks)?;
    Some((secret, Provenance::Whole { path }))
}

fn token_file(path: &Path, remarks: &mut Vec<String>) -> Option<String> {
    let text = match fs_err::metadata(path) {
        Ok(facts) if facts.is_file() && facts.len() <= TOKEN_MAX_BYTES => fs_err::read_to_string(path),
        Ok(_) => {
            remarks.push(format!("{} is not a file with a token", path.display()));
            return None;
        }
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => Some(text),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            None
        }
        Err(error) => {
            remarks.push(format!(
                "the token in {} could not be read: {}",
                path.display(),
                home::plain(&error)
            ));
            None
        }
    }
}

/// A token that a header can carry. An empty one is none.
fn checked(text: &str, place: &str, remarks: &mut Vec<String>) -> Option<Secret> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        remarks.push(format!("{place} does not contain a token; nothing is sent"));
        return None;
    }
    Some(Secret::new(text))
}

fn object_options(environment: &Environment) -> Vec<(String, Secret)> {
    OBJECT_PREFIXES
        .iter()
        .flat_map(|prefix| environment.names(prefix))
        .filter_map(|name| Some((name.to_lowercase(), Secret::new(environment.text(&name)?))))
        .collect()
}

fn places(environment: &Environment) -> Places {
    let user = user_home(environment);
    Places {
        hub: environment
            .path("HF_HUB_CACHE")
            .or_else(|| environment.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hub_home(environment)?.join("hub"))),
        ollama: environment.path("OLLAMA_MODELS").or_else(|| Some(user.as_ref()?.join(".ollama/models"))),
        lm_studio: user.map(|user| {
            let old = user.join(".cache/lm-studio/models");
            if old.is_dir() { old } else { user.join(".lmstudio/models") }
        }),
    }
}

/// Where the hub's own programs keep their files.
fn hub_home(environment: &Environment) -> Option<PathBuf> {
    let cache = || {
        let named = environment.path("XDG_CACHE_HOME");
        named.or_else(|| Some(user_home(environment)?.join(".cache")))
    };
    environment.path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
}

fn user_home(environment: &Environment) -> Option<PathBuf> {
    environment.path("HOME").filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Foreign {
        let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Foreign::read(&Environment::from_pairs(pairs))
    }

    fn token_of(foreign: &Foreign) -> Option<(&str, String)> {
        foreign.token.as_ref().map(|(secret, from)| (secret.reveal(), from.to_string()))
    }

    #[test]
    fn a_variable_wins_over_the_file_and_the_named_file_over_the_usual_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = folder.path().to_str().expect("path");
        let (usual, named) = (folder.path().join("token"), folder.path().join("named"));
        fs_err::write(&usual, "usual\n").expect("file");
        fs_err::write(&named, " named\n").expect("file");
        let usual = usual.display().to_string();
        let named = named.to_str().expect("path");
        assert_eq!(token_of(&read(&[("HF_HOME", home)])), Some(("usual", usual)));
        let pairs = [("HF_HOME", home), ("HF_TOKEN_PATH", named)];
        assert_eq!(token_of(&read(&pairs)), Some(("named", named.to_owned())));
        let pairs = [&pairs[..], &[("HUGGING_FACE_HUB_TOKEN", "old")]].concat();
        assert_eq!(token_of(&read(&pairs)), Some(("old", "HUGGING_FACE_HUB_TOKEN".to_owned())));
        let pairs = [&pairs[..], &[("HF_TOKEN", "new")]].concat();
        assert_eq!(token_of(&read(&pairs)), Some(("new", "HF_TOKEN".to_owned())));
        let pairs = [&pairs[..], &[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]].concat();
        assert_eq!(token_of(&read(&pairs)), None);
    }

    #[test]
    fn what_is_no_token_is_named_and_never_shown() {
        let foreign = read(&[("HF_TOKEN", "se cret\u{7}")]);
        assert!(foreign.token.is_none());
        assert!(foreign.remarks[0].contains("HF_TOKEN") && !foreign.remarks[0].contains("cret"));
        let foreign = read(&[("HF_TOKEN_PATH", "/")]);
        assert!(foreign.remarks[0].contains("not a file with a token"), "{:?}", foreign.remarks);
        assert!(!format!("{:?}", read(&[("HF_TOKEN", "hf_secret")])).contains("hf_secret"));
    }

    #[test]
    fn object_stores_are_set_up_as_their_programs_are() {
        let foreign = read(&[("AWS_REGION", "eu"), ("AZURE_X", ""), ("GOOGLE_Y", "z"), ("OTHER", "o")]);
        let names: Vec<&str> = foreign.object_options.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["aws_region", "google_y"]);
        assert_eq!(foreign.object_variables(), ["AWS_REGION", "GOOGLE_Y"]);
    }

    #[test]
    fn models_of_others_are_looked_for_where_their_variables_say() {
        let places = read(&[("HOME", "/home/a")]).places;
        assert_eq!(places.hub.as_deref(), Some(Path::new("/home/a/.cache/huggingface/hub")));
        assert_eq!(places.ollama.as_deref(), Some(Path::new("/home/a/.ollama/models")));
        let places = read(&[("HOME", "/home/a"), ("HF_HOME", "/h"), ("OLLAMA_MODELS", "/o")]).places;
        assert_eq!(places.hub.as_deref(), Some(Path::new("/h/hub")));
        assert_eq!(places.ollama.as_deref(), Some(Path::new("/o")));
        assert_eq!(read(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]).places.hub, Some("/c".into()));
        assert_eq!(read(&[]).places, Places::default());
    }
}
