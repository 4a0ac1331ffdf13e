//! A spinner with one line of text on standard error: what a person is waiting for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use samovar::Wait;
use samovar::store::{Progress as Fetch, Transfer};
use samovar_core::units::{ByteSize, TimeSpan};

const TICK: Duration = Duration::from_millis(100);

/// What a person is waiting for; invisible in a pipe. Gone without a trace when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_visible: bool,
}

impl Progress {
    pub(super) fn new(is_visible: bool, is_coloured: bool) -> Self {
        let target = if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = if is_coloured { "{spinner:.cyan} {msg}" } else { "{spinner} {msg}" };
        bar.set_style(
            ProgressStyle::with_template(template)
                .expect("invariant: the templates are well-formed")
                .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]),
        );
        Self { bar, is_visible }
    }

    /// Shows a sentence.
    pub(crate) fn say(&self, text: impl Into<String>) {
        if self.is_visible {
            self.bar.set_message(super::harmless(&text.into()).into_owned());
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Shows what a request waits for.
    pub(crate) fn waiting(&self, model: &str, wait: &Wait) {
        self.say(sentence(model, wait));
    }

    /// Clears the line, so that the answer can begin.
    pub(crate) fn clear(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A file without the way to it.
fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn sentence(model: &str, wait: &Wait) -> String {
    let model = short(model);
    match wait {
        Wait::Fetching(Fetch::Resolving) => format!("Asking for {model}"),
        Wait::Fetching(Fetch::Fetching(transfer)) => fetching(model, transfer),
        Wait::Fetching(Fetch::Verifying(_)) => format!("Checking {model}"),
        Wait::Queued { position, estimate_ms } => {
            let about = estimate_ms
                .map(|ms| format!(", about {}", TimeSpan::from_seconds(ms.div_ceil(1000))))
                .unwrap_or_default();
            format!("Waiting for {model}: place {position} in the queue{about}")
        }
        Wait::Loading { fraction, instance, of } => {
            let which = if *of > 1 { format!(" ({instance} of {of})") } else { String::new() };
            format!("Loading {model}{which} {:.0} %", fraction.clamp(0.0, 1.0) * 100.0)
        }
        Wait::Resuming => format!("Resuming {model}"),
    }
}

/// How far a download is, how fast, and when it ends.
fn fetching(model: &str, transfer: &Transfer) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes);
    let percent = transfer.done_bytes as f64 / transfer.total_bytes.max(1) as f64 * 100.0;
    let mut text = format!("Fetching {model} {percent:.0} % of {}", size(transfer.total_bytes));
    if transfer.bytes_per_s > 0.0 {
        text.push_str(&format!(", {}/s", size(transfer.bytes_per_s as u64)));
    }
    if let Some(ms) = transfer.eta_ms() {
        text.push_str(&format!(", about {} left", TimeSpan::from_seconds(ms.div_ceil(1000))));
    }
    if transfer.by_another_process {
        text.push_str(" (by another process)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_words() {
        assert_eq!(
            sentence("demo", &Wait::Queued { position: 2, estimate_ms: Some(1500) }),
            "Waiting for demo: place 2 in the queue, about 2s"
        );
        assert_eq!(
            sentence("demo", &Wait::Loading { fraction: 0.42, instance: 1, of: 1 }),
            "Loading demo 42 %"
        );
        assert_eq!(
            sentence("demo", &Wait::Loading { fraction: 0.5, instance: 2, of: 3 }),
            "Loading demo (2 of 3) 50 %"
        );
        assert_eq!(sentence("/models/tiny.gguf", &Wait::Resuming), "Resuming tiny.gguf");
    }
}
