//! What a worker is to be left with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How much the sandbox matters to whoever runs the daemon.
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
pub struct Plan {
    /// How much it matters.
    pub mode: Mode,
    /// Files, and folders with all that is under them, that it may open for reading. Links are followed now.
    pub readable: Vec<PathBuf>,
    /// Most bytes of memory of its own, which mapped files are not part of. An allocation past it fails.
    pub memory_limit_bytes: Option<u64>,
    /// Most bytes that a file may have which it writes through a descriptor that it was given.
    pub written_limit_bytes: Option<u64>,
    /// Whether it computes and reads only when nobody else wants to.
    pub is_background: bool,
}

impl Plan {
    /// A plan to read the model at `path`: that file, and its other parts if its name says that there are some.
    pub fn reading(mode: Mode, path: &Path) -> Self {
        Self { mode, readable: parts_of(path), ..Self::default() }
    }

    /// The same, and `path` may be read too.
    #[must_use]
    pub fn and_reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }
}

/// A model in parts is called `NAME-00001-of-00003.gguf` and so on, in one folder.
fn parts_of(path: &Path) -> Vec<PathBuf> {
    const MOST_PARTS: u32 = 1000;
    let whole = || vec![path.to_owned()];
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return whole() };
    let Some((stem, extension)) = name.rsplit_once('.') else { return whole() };
    let Some((rest, count)) = stem.rsplit_once("-of-") else { return whole() };
    let Some((base, number)) = rest.rsplit_once('-') else { return whole() };
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match count.parse::<u32>() {
        Ok(parts) if is_number(count) && is_number(number) && parts <= MOST_PARTS => (1..=parts)
            .map(|part| path.with_file_name(format!("{base}-{part:05}-of-{count}.{extension}")))
            .collect(),
        _ => whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_parts_may_be_read_whole() {
        let plan = Plan::reading(Mode::Auto, Path::new("/models/big-00001-of-00003.gguf"));
        let names: Vec<_> = plan.readable.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/models/big-00001-of-00003.gguf",
                "/models/big-00002-of-00003.gguf",
                "/models/big-00003-of-00003.gguf"
            ]
        );
    }

    #[test]
    fn any_other_name_stands_for_itself() {
        for name in
            ["/m/a.gguf", "/m/a-1-of-3.gguf", "/m/a-00001-of-99999.gguf", "/m/out-of-reach.gguf", "/m/x"]
        {
            assert_eq!(Plan::reading(Mode::Auto, Path::new(name)).readable, [PathBuf::from(name)]);
        }
    }
}
