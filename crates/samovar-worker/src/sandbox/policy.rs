//! What a worker is to be left with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much the sandbox matters to the user who runs the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As much as this system offers.
    #[default]
    Auto,
    /// All of it, or the worker does not run.
    Require,
    /// None of it.
    Off,
}

impl Mode {
    /// The word that settings and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// What a worker keeps when it [enters](super::enter) its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPolicy {
    /// How much it matters.
    pub mode: Mode,
    /// Files, and folders with all that is under them, that it may open for reading. Links are followed now.
    pub readable: Vec<PathBuf>,
    /// A folder whose names it may list, with those of its folders; that alone lets it read no file there.
    pub listable: Option<PathBuf>,
    /// A folder in which it may make, write and remove files, besides those that it was given open.
    pub writable: Option<PathBuf>,
    /// Most bytes of memory of its own, which mapped files are not part of. An allocation past it fails.
    pub memory_limit_bytes: Option<u64>,
    /// Most bytes that a file may have which it writes.
    pub written_limit_bytes: Option<u64>,
    /// Whether it computes and reads only when no other program wants to.
    pub is_background: bool,
}

impl SandboxPolicy {
    /// A plan to read these files: those of a model.
    pub fn reading(mode: Mode, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { mode, readable: files.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same, and `path` may be read too.
    #[must_use]
    pub fn and_reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_named_may_be_read_and_none_that_their_names_suggest() {
        let plan =
            SandboxPolicy::reading(Mode::Auto, ["/models/big-00001-of-00003.gguf", "/models/config.json"]);
        let plan = plan.and_reading("/packed/x");
        let expected = ["/models/big-00001-of-00003.gguf", "/models/config.json", "/packed/x"];
        assert_eq!(plan.readable, expected.map(PathBuf::from));
    }
}
