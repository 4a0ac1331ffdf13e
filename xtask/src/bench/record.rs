//! The run file: everything needed to judge a figure, and to get it again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::machine::{Machine, Noise};
use super::samples::Samples;
use super::scenario::Scenario;
use crate::process;
use crate::tree::Tree;

/// One run of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    scenario: String,
    question: String,
    measured_at: String,
    command: String,
    commit: String,
    /// Files that differ from the commit.
    changed_files: usize,
    rounds: u32,
    machine: Machine,
    versions: BTreeMap<String, String>,
    noise_before: Noise,
    noise_after: Option<Noise>,
    /// Share of processor time that the hypervisor gave to others, 0..=1.
    stolen: Option<f64>,
    figures: Vec<Figure>,
    skipped: Vec<Skip>,
    series: Vec<Series>,
    plan: serde_json::Value,
    /// Where the run file goes.
    #[serde(skip)]
    path: PathBuf,
}

/// Everything that was measured of one thing.
#[derive(Debug, Serialize)]
struct Series {
    case: String,
    what: String,
    unit: &'static str,
    median: f64,
    samples: Vec<f64>,
}

/// A number that is worth quoting.
#[derive(Debug, Serialize)]
struct Figure {
    case: String,
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_reached: Option<bool>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// Something that was not measured.
#[derive(Debug, Serialize)]
struct Skip {
    what: String,
    why: String,
}

impl Record {
    /// An empty record of what is about to be measured; `path` is that of its run file.
    pub(crate) fn begin(tree: &Tree, scenario: &Scenario, rounds: u32, path: &Path) -> Result<Self> {
        fs_err::create_dir_all(path.parent().context("a run file lies in a folder")?)?;
        let root = tree.root().to_string_lossy();
        let git = |arguments: &[&str]| {
            let line: Vec<&str> = ["-C", &root].iter().chain(arguments).copied().collect();
            process::output("git", &line)
        };
        let mut versions = BTreeMap::new();
        for (name, program) in [("rustc", "rustc"), ("c++", "c++")] {
            if let Some(line) = process::output(program, &["--version"]).ok().as_deref().and_then(first_line)
            {
                versions.insert(name.to_owned(), line);
            }
        }
        Ok(Self {
            scenario: scenario.name.clone(),
            question: scenario.question.clone(),
            measured_at: process::output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?.trim().to_owned(),
            command: command_line(std::env::args().skip(1)),
            commit: git(&["rev-parse", "HEAD"]).unwrap_or_default().trim().to_owned(),
            changed_files: git(&["status", "--porcelain", "--untracked-files=no"])
                .map_or(0, |list| list.lines().count()),
            rounds,
            machine: Machine::read(),
            versions,
            noise_before: Noise::read(),
            noise_after: None,
            stolen: None,
            figures: Vec::new(),
            skipped: Vec::new(),
            series: Vec::new(),
            plan: serde_json::to_value(scenario)?,
            path: path.to_owned(),
        })
    }

    /// Notes which version of a program was measured.
    pub(crate) fn version(&mut self, program: &str, version: &str) {
        self.versions.insert(program.to_owned(), version.trim().to_owned());
    }

    /// Keeps everything that was measured of one thing.
    pub(crate) fn series(&mut self, case: &str, what: &str, unit: &'static str, samples: &Samples) {
        self.series.push(Series {
            case: case.to_owned(),
            what: what.to_owned(),
            unit,
            median: rounded(samples.median()),
            samples: samples.values().iter().copied().map(rounded).collect(),
        });
    }

    /// Prints a number that is worth quoting, and keeps it: what was measured outlives a measurement that is interrupted.
    pub(crate) fn figure(
        &mut self,
        case: &str,
        what: &str,
        unit: &'static str,
        value: f64,
        target: Option<Target>,
    ) {
        let is_reached = target.map(|target| target.is_reached(value));
        let (case, what) = (case.to_owned(), what.to_owned());
        let figure = Figure { case, what, value: rounded(value), unit, target, is_reached };
        println!("{figure}");
        self.figures.push(figure);
        if let Err(error) = self.write_partial() {
            eprintln!("the figures so far could not be written: {error:#}");
        }
    }

    /// Notes what was not measured.
    pub(crate) fn skip(&mut self, what: impl Into<String>, why: impl fmt::Display) {
        let (what, why) = (what.into(), why.to_string());
        eprintln!("skipped {what}: {why}");
        self.skipped.push(Skip { what, why });
    }

    /// Whether nothing was measured, and nothing skipped.
    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.skipped.is_empty()
    }

    /// Writes what there is next to the place of the run file, and returns where.
    fn write_partial(&self) -> Result<PathBuf> {
        let partial = self.path.with_extension("json.partial");
        fs_err::write(&partial, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(partial)
    }

    /// Writes the run file.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let after = Noise::read();
        self.stolen = after.stolen_since(&self.noise_before).map(rounded);
        self.noise_after = Some(after);
        Ok(fs_err::rename(self.write_partial()?, &self.path)?)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = self.is_reached.map_or(' ', |is_reached| if is_reached { '✓' } else { '✗' });
        let target = self.target.map_or_else(String::new, |target| format!("({target})"));
        write!(f, "{mark} {:12} {:60} {:>9} {} {target}", self.case, self.what, self.value, self.unit)
    }
}

/// The command without the folders of this machine.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let shown = arguments.map(|argument| {
        Path::new(&argument)
            .file_name()
            .filter(|_| Path::new(&argument).is_absolute())
            .map_or_else(|| argument.clone(), |name| name.to_string_lossy().into_owned())
    });
    shown.fold("cargo x".to_owned(), |line, argument| line + " " + &argument)
}

fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(str::to_owned)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_at_its_own_value() {
        assert!(Target::AtLeast(4.0).is_reached(4.0) && !Target::AtLeast(4.0).is_reached(3.9));
        assert!(Target::AtMost(1.3).is_reached(1.3) && !Target::AtMost(1.3).is_reached(f64::NAN));
    }

    #[test]
    fn the_command_shows_no_folder_of_this_machine() {
        let line = ["bench", "engine", "--llama-bench", "/somewhere/bin/llama-bench"].map(str::to_owned);
        assert_eq!(command_line(line.into_iter()), "cargo x bench engine --llama-bench llama-bench");
    }
}
