//! Downloads as they get on: a bar each for a person, a line now and then in a pipe, events for programs.
//!
//! ```text
//!   terminal   hf://org/name:Q4_K_M  ━━━━━━━━────────  51 %, 340 MB of 668 MB, 55 MB/s, 6s left
//!   pipe       hf://org/name:Q4_K_M: 50 %, 334 MB of 668 MB, 55 MB/s, 6s left        (each tenth)
//!   --json     {"event":"fetching","model":"hf://org/name:Q4_K_M","done_bytes":340000000,…}
//! ```

use std::path::Path;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use samovar::store::{Progress, Transfer};
use samovar_core::units::{ByteSize, TimeSpan};
use serde_json::{Value, json};

use super::Report;
use crate::ended::Ended;

/// Parts of a bar: fine enough for a smooth one, and whatever the model's size.
pub(super) const BAR_STEPS: u64 = 10_000;
/// More of a name would leave no room for the bars.
const WIDTH_MAX: usize = 48;
/// Lines that a pipe gets of one download.
const LINES: u64 = 10;

/// That nothing has to be fetched.
pub(crate) fn nearby(from: &Path, bytes: u64) -> String {
    let size = ByteSize::from_bytes(bytes);
    format!("{size} used from {}, without a second copy; nothing is fetched", from.display())
}

/// Several downloads side by side.
pub(crate) struct Downloads<'a> {
    report: &'a Report,
    format: ProgressFormat,
    bars: MultiProgress,
    all: Vec<Download>,
    /// Columns of the longest name, so that the bars stand in one line.
    width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgressFormat {
    Bars,
    Lines,
    Events,
    Silent,
}

struct Download {
    model: String,
    bar: Option<ProgressBar>,
    /// The step of the last line: 0 = none yet, 1 = no answer from the source, 2 = what was chosen, then three more than the tenths
    /// that were told.
    told: u64,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(report: &'a Report, models: impl IntoIterator<Item = String>, is_quiet: bool) -> Self {
        let format = match report {
            _ if is_quiet => ProgressFormat::Silent,
            report if report.is_json() => ProgressFormat::Events,
            report if report.stderr_is_terminal() => ProgressFormat::Bars,
            _ => ProgressFormat::Lines,
        };
        let all: Vec<Download> =
            models.into_iter().map(|model| Download { model, bar: None, told: 0 }).collect();
        let width = all.iter().map(|download| download.model.chars().count()).max().unwrap_or(0);
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { report, format, bars, all, width: width.min(WIDTH_MAX) }
    }

    /// Shows how the download of this place in the list gets on.
    ///
    /// # Errors
    /// `OutputClosed` when the events have no reader any more.
    pub(crate) fn show(&mut self, place: usize, progress: &Progress) -> Result<(), Ended> {
        let Some(download) = self.all.get_mut(place) else { return Ok(()) };
        match self.format {
            ProgressFormat::Silent => {}
            ProgressFormat::Events => return self.report.event(&event(&download.model, progress)),
            ProgressFormat::Lines => {
                if let Some(line) = download.line(progress) {
                    self.report.note(&line);
                }
            }
            ProgressFormat::Bars => {
                if let Progress::Chosen { reason, .. } = progress {
                    let line = format!("{}: {reason}", download.model);
                    self.bars.suspend(|| self.report.note(&line));
                    return Ok(());
                }
                let (is_coloured, width) = (self.report.colours_stderr(), self.width);
                let bar = download.bar.get_or_insert_with(|| {
                    let bar = self.bars.add(ProgressBar::new(BAR_STEPS));
                    bar.set_style(style(is_coloured));
                    bar.set_prefix(format!("{:<width$}", super::harmless(&download.model)));
                    bar
                });
                bar.set_position(step(progress, BAR_STEPS));
                bar.set_message(sentence(progress));
            }
        }
        Ok(())
    }

    /// Takes the bar of one download away.
    pub(crate) fn end(&mut self, place: usize) {
        if let Some(bar) = self.all.get_mut(place).and_then(|download| download.bar.take()) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// A line on standard output, above the bars.
    pub(crate) fn line(&self, text: &str) -> Result<(), Ended> {
        if self.format == ProgressFormat::Silent {
            return Ok(());
        }
        self.bars.suspend(|| self.report.line(text))
    }

    /// Something on standard error, above the bars.
    pub(crate) fn beside(&self, say: impl FnOnce(&Report)) {
        self.bars.suspend(|| say(self.report));
    }
}

impl Drop for Downloads<'_> {
    fn drop(&mut self) {
        (0..self.all.len()).for_each(|place| self.end(place));
    }
}

impl Download {
    /// A line for a pipe, when there is something new to tell.
    fn line(&mut self, progress: &Progress) -> Option<String> {
        let told = match progress {
            // What is nearby is told once it is over.
            Progress::Resolving | Progress::Nearby { .. } => 0,
            Progress::Unanswered { .. } => 1,
            Progress::Chosen { .. } => 2,
            Progress::Fetching(_) => 3 + step(progress, LINES),
            Progress::Verifying(_) => 4 + LINES,
        };
        if told <= self.told {
            return None;
        }
        self.told = told;
        Some(format!("{}: {}", self.model, sentence(progress)))
    }
}

pub(super) fn style(is_coloured: bool) -> ProgressStyle {
    let template =
        if is_coloured { "{prefix}  {bar:24.cyan/dim}  {msg}" } else { "{prefix}  {bar:24}  {msg}" };
    ProgressStyle::with_template(template)
        .expect("invariant: the templates are well-formed")
        .progress_chars("━━─")
}

/// How far it is, in `steps`.
pub(super) fn step(progress: &Progress, steps: u64) -> u64 {
    match progress {
        Progress::Resolving | Progress::Unanswered { .. } | Progress::Chosen { .. } => 0,
        Progress::Fetching(transfer) => (share(transfer) * steps as f64) as u64,
        Progress::Verifying(_) | Progress::Nearby { .. } => steps,
    }
}

fn share(transfer: &Transfer) -> f64 {
    match transfer.total_bytes {
        0 => 0.0,
        total => (transfer.done_bytes as f64 / total as f64).clamp(0.0, 1.0),
    }
}

/// A step of a download in words, without the model's name.
pub(super) fn sentence(progress: &Progress) -> String {
    match progress {
        Progress::Resolving => "asking the source".to_owned(),
        Progress::Unanswered { reason } => format!("the source does not answer: {reason}"),
        Progress::Fetching(transfer) => amounts(transfer),
        Progress::Verifying(transfer) => format!("checking {}", ByteSize::from_bytes(transfer.total_bytes)),
        Progress::Nearby { from, bytes } => nearby(from, *bytes),
        Progress::Chosen { reason, .. } => reason.clone(),
    }
}

/// How far a download is, how fast, and when it ends.
fn amounts(transfer: &Transfer) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let amount = match transfer.total_bytes {
        0 => size(transfer.done_bytes),
        total => {
            format!("{:.0} %, {} of {}", share(transfer) * 100.0, size(transfer.done_bytes), size(total))
        }
    };
    let is_known = transfer.bytes_per_s > 0.0;
    let rate = is_known.then(|| format!("{}/s", size(transfer.bytes_per_s as u64)));
    let is_going_on = is_known && transfer.total_bytes > transfer.done_bytes;
    let left = transfer
        .eta_ms()
        .filter(|_| is_going_on)
        .map(|ms| format!("{} left", TimeSpan::from_seconds(ms.div_ceil(1000))));
    let by = transfer.by_another_process.then(|| "by another process".to_owned());
    let parts: Vec<String> = std::iter::once(amount).chain(rate).chain(left).chain(by).collect();
    parts.join(", ")
}

fn event(model: &str, progress: &Progress) -> Value {
    let with = |event: &str, transfer: &Transfer| {
        json!({
            "event": event,
            "model": model,
            "done_bytes": transfer.done_bytes,
            "total_bytes": transfer.total_bytes,
            "bytes_per_s": transfer.bytes_per_s,
            "eta_ms": transfer.eta_ms(),
            "by_another_process": transfer.by_another_process,
        })
    };
    match progress {
        Progress::Resolving => json!({ "event": "resolving", "model": model }),
        Progress::Unanswered { reason } => {
            json!({ "event": "unanswered", "model": model, "reason": reason })
        }
        Progress::Fetching(transfer) => with("fetching", transfer),
        Progress::Verifying(transfer) => with("verifying", transfer),
        Progress::Nearby { from, bytes } => {
            json!({ "event": "nearby", "model": model, "from": from, "bytes": bytes })
        }
        Progress::Chosen { reference, reason } => {
            json!({ "event": "chosen", "model": model, "reference": reference, "reason": reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done_bytes: u64, bytes_per_s: f64) -> Progress {
        Progress::Fetching(Transfer {
            done_bytes,
            total_bytes: 1_000_000_000,
            bytes_per_s,
            files: 1,
            by_another_process: false,
        })
    }

    #[test]
    fn a_download_tells_amount_rate_and_end() {
        assert_eq!(sentence(&at(0, 0.0)), "0 %, 0 B of 1.0 GB");
        assert_eq!(sentence(&at(500_000_000, 50e6)), "50 %, 500 MB of 1.0 GB, 50.0 MB/s, 10s left");
        let Progress::Fetching(transfer) = at(1_000_000_000, 50e6) else { panic!("fetching") };
        let transfer = Transfer { by_another_process: true, ..transfer };
        assert_eq!(amounts(&transfer), "100 %, 1.0 GB of 1.0 GB, 50.0 MB/s, by another process");
        assert_eq!(amounts(&Transfer { done_bytes: 5, ..Transfer::default() }), "5 B");
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_tenth_and_none_twice() {
        let mut download = Download { model: "m".into(), bar: None, told: 0 };
        let lines: Vec<String> = (0..=1000).filter_map(|n| download.line(&at(n * 1_000_000, 1e6))).collect();
        assert_eq!(lines.len(), 11);
        assert!(lines[1].starts_with("m: 10 %, 100 MB of 1.0 GB"), "{lines:?}");
        assert!(download.line(&at(0, 1e6)).is_none(), "a restart is not told again");
        let mut download = Download { model: "m".into(), bar: None, told: 0 };
        let silence = Progress::Unanswered { reason: "h could not be reached".into() };
        let line = "m: the source does not answer: h could not be reached";
        assert_eq!(download.line(&silence).as_deref(), Some(line));
        assert_eq!(download.line(&silence), None, "once");
        let chosen = Progress::Chosen { reference: "hf://o/n:Q8_0".into(), reason: "Q8_0: it fits".into() };
        assert_eq!(download.line(&chosen).as_deref(), Some("m: Q8_0: it fits"));
        assert!(download.line(&at(0, 0.0)).is_some(), "it answers after all");
    }
}
