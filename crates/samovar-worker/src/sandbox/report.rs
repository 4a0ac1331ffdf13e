//! How far a worker's sandbox came, part by part.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that the sandbox does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// No core dumps, few descriptors, bounded files and memory.
    Limits,
    /// The kernel takes the worker before the daemon when memory ends.
    KillOrder,
    /// No way to more rights than it has, and fewer than it had.
    Privileges,
    /// Only the files it was given, only for reading; no TCP ports; no signals to others.
    Files,
    /// No system calls for networks, programs, processes, other processes' memory or changes of the file system.
    Calls,
}

impl Part {
    /// Every part, in the order in which they are entered.
    pub const ALL: [Self; 5] = [Self::Limits, Self::KillOrder, Self::Privileges, Self::Files, Self::Calls];

    /// A word for reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::KillOrder => "kill_order",
            Self::Privileges => "privileges",
            Self::Files => "files",
            Self::Calls => "calls",
        }
    }
}

/// How one part came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartStatus {
    /// In force, by these means.
    Reached(String),
    /// Not in force, for this reason.
    Missing(String),
}

/// How far the whole came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is in force.
    None,
    /// Something is missing.
    Partial,
    /// Everything is in force.
    Full,
}

impl Level {
    /// A word for reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

/// What [`enter`](super::enter) reached. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Each part with its outcome, in order.
    #[cfg_attr(target_os = "linux", serde(deserialize_with = "crate::protocol::parts"))]
    pub parts: Vec<(Part, PartStatus)>,
}

impl Report {
    /// Of a worker that was to have no sandbox.
    pub fn off() -> Self {
        Self::missing("it is switched off")
    }

    /// Nothing was reached, for one reason.
    pub fn missing(why: &str) -> Self {
        Self { parts: Part::ALL.map(|part| (part, PartStatus::Missing(why.to_owned()))).into() }
    }

    /// How far the whole came.
    pub fn level(&self) -> Level {
        let reached = Part::ALL.iter().filter(|part| self.has(**part)).count();
        match reached {
            0 => Level::None,
            reached if reached == Part::ALL.len() => Level::Full,
            _ => Level::Partial,
        }
    }

    /// Whether a part is in force.
    pub fn has(&self, part: Part) -> bool {
        self.parts.iter().any(|(other, outcome)| *other == part && matches!(outcome, PartStatus::Reached(_)))
    }

    /// The first part that is not in force, and why.
    pub fn first_missing(&self) -> Option<(Part, &str)> {
        self.parts.iter().find_map(|(part, outcome)| match outcome {
            PartStatus::Missing(why) => Some((*part, why.as_str())),
            PartStatus::Reached(_) => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level().name())?;
        for (index, (part, outcome)) in self.parts.iter().enumerate() {
            let between = if index == 0 { ": " } else { "; " };
            match outcome {
                PartStatus::Reached(how) => write!(f, "{between}{} ({how})", part.name())?,
                PartStatus::Missing(why) => write!(f, "{between}no {} ({why})", part.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_counts_the_parts() {
        let mut report = Report::off();
        assert_eq!(report.level(), Level::None);
        report.parts[0].1 = PartStatus::Reached("ulimit".into());
        assert_eq!(report.level(), Level::Partial);
        assert_eq!(report.first_missing().map(|(part, _)| part), Some(Part::KillOrder));
        for (_, outcome) in &mut report.parts {
            *outcome = PartStatus::Reached("somehow".into());
        }
        assert_eq!((report.level(), report.first_missing()), (Level::Full, None));
    }

    #[test]
    fn the_line_names_every_part() {
        let line = Report::off().to_string();
        assert!(Part::ALL.iter().all(|part| line.contains(part.name())), "{line}");
    }
}
