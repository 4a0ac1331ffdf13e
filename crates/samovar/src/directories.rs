//! Where models and what is known of them are kept by default.
//!
//! ```text
//!   SAMOVAR_HOME=/x        /x/samovar.toml   /x/cache           /x/state
//!   otherwise (XDG)        ~/.config/…       ~/.cache/samovar   ~/.local/state/samovar
//! ```
//!
//! The command line has the same, so a program with the library inside finds what `samovar pull` fetched. Names paths; makes none.

use std::path::{Path, PathBuf};

use samovar_core::{ErrorKind, Failure, system_words};

/// Where one user's things are kept.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// The configuration of the command line; the library reads none.
    pub config_dir: PathBuf,
    /// What can be made again: models, and the index of them.
    pub cache_dir: PathBuf,
    /// What cannot.
    pub state_dir: PathBuf,
}

impl Directories {
    /// All of them in one home.
    pub fn below(home: &Path) -> Self {
        Self { config_dir: home.to_owned(), cache_dir: home.join("cache"), state_dir: home.join("state") }
    }

    /// Those of a user, by the XDG specification. `variable` looks an environment variable up, and knows no empty ones.
    ///
    /// # Errors
    /// `InvalidRequest` when neither the variables of XDG nor `HOME` say where.
    pub fn of_user(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Failure> {
        // The specification: a relative path is to be ignored.
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let user = absolute("HOME");
        let place = |name: &str, below_home: &str| {
            let named = absolute(name).or_else(|| user.as_ref().map(|user| user.join(below_home)));
            named.map(|path| path.join("samovar")).ok_or_else(|| {
                Failure::new(
                    ErrorKind::InvalidRequest,
                    "HOME is not set, so there is no place to keep things",
                )
                .with_hint("set SAMOVAR_HOME to a directory")
            })
        };
        Ok(Self {
            config_dir: place("XDG_CONFIG_HOME", ".config")?,
            cache_dir: place("XDG_CACHE_HOME", ".cache")?,
            state_dir: place("XDG_STATE_HOME", ".local/state")?,
        })
    }

    /// Those of this process: below `SAMOVAR_HOME`, or else its user's.
    ///
    /// # Errors
    /// As [`Directories::of_user`]; `Storage` when a relative `SAMOVAR_HOME` has no working directory to start from.
    pub fn of_process() -> Result<Self, Failure> {
        #[allow(
            clippy::disallowed_methods,
            reason = "the library has no settings from which a default could come"
        )]
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let Some(home) = variable("SAMOVAR_HOME") else { return Self::of_user(variable) };
        let home = std::path::absolute(&home).map_err(|error| {
            let why = format!("could not make absolute {}: {}", home.display(), system_words(&error));
            Failure::new(ErrorKind::Storage, why).with_hint("set SAMOVAR_HOME to an absolute path")
        })?;
        Ok(Self::below(&home))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_user(variables: &[(&str, &str)]) -> Result<Directories, Failure> {
        Directories::of_user(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
        })
    }

    #[test]
    fn variables_count_before_the_users_home_and_only_when_absolute() {
        let variables = [("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "relative")];
        let found = of_user(&variables).expect("a home");
        assert_eq!(found.config_dir, Path::new("/home/a/.config/samovar"));
        assert_eq!(found.cache_dir, Path::new("/c/samovar"));
        assert_eq!(found.state_dir, Path::new("/home/a/.local/state/samovar"));
    }

    #[test]
    fn without_a_home_the_hint_says_what_to_set() {
        for variables in [&[][..], &[("HOME", "relative")], &[("XDG_CACHE_HOME", "/c")]] {
            let failure = of_user(variables).expect_err("nowhere");
            assert_eq!(failure.kind, ErrorKind::InvalidRequest);
            assert!(failure.hint.is_some_and(|hint| hint.contains("SAMOVAR_HOME")));
        }
    }
}
