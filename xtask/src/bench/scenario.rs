//! A scenario file: the question, how often to ask it, and the plan of the measurement that answers it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::measure::Measure;
use crate::tree::Tree;

const FOLDER: &str = "bench/scenarios";

/// One file of `bench/scenarios`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Scenario {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub(crate) name: String,
    /// What the figures answer.
    pub(crate) question: String,
    /// How often each side is measured, in turn.
    pub(crate) rounds: u32,
    /// The measurement with its plan.
    #[serde(flatten)]
    pub(crate) measure: Measure,
}

impl Scenario {
    /// Reads the scenario of this name.
    pub(crate) fn read(tree: &Tree, name: &str) -> Result<Self> {
        let known = names(tree)?;
        if !known.iter().any(|other| other == name) {
            bail!("no scenario is called {name}; there are {}", known.join(", "));
        }
        let text = fs_err::read_to_string(tree.root().join(FOLDER).join(format!("{name}.toml")))?;
        let mut scenario: Self = toml::from_str(&text).with_context(|| format!("{FOLDER}/{name}.toml"))?;
        name.clone_into(&mut scenario.name);
        Ok(scenario)
    }
}

/// The names of all scenarios, sorted.
pub(crate) fn names(tree: &Tree) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(tree.root().join(FOLDER))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_repository_can_be_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root");
        let tree = Tree::at(root);
        for name in names(&tree).expect("scenarios") {
            Scenario::read(&tree, &name).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
}
