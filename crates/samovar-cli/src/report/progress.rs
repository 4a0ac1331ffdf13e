//! One line on standard error: what a person is waiting for. A spinner, and for downloads a bar.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use samovar::store::Progress as Step;
use samovar::{Preparing, Wait};
use samovar_core::units::{ByteSize, TimeSpan};

use super::downloads;

const TICK: Duration = Duration::from_millis(100);

/// What a person is waiting for; invisible in a pipe. Gone without a trace when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_visible: bool,
    is_coloured: bool,
    /// What is shown now is a bar.
    is_bar: Cell<bool>,
}

impl Progress {
    pub(super) fn new(is_visible: bool, is_coloured: bool) -> Self {
        let target = if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(spinner(is_coloured));
        Self { bar, is_visible, is_coloured, is_bar: Cell::new(false) }
    }

    /// Shows a sentence.
    pub(crate) fn say(&self, text: impl Into<String>) {
        if !self.is_visible {
            return;
        }
        self.begin_again();
        if self.is_bar.replace(false) {
            self.bar.set_style(spinner(self.is_coloured));
        }
        self.bar.set_message(super::harmless(&text.into()).into_owned());
        self.bar.enable_steady_tick(TICK);
    }

    /// Whether a person sees it.
    pub(super) const fn is_visible(&self) -> bool {
        self.is_visible
    }

    /// Shows what a request waits for.
    pub(crate) fn waiting(&self, model: &str, wait: &Wait) {
        match wait {
            Wait::Fetching(step @ (Step::Fetching(_) | Step::Verifying(_))) => self.fetching(model, step),
            wait => self.say(sentence(model, wait)),
        }
    }

    /// Shows a download as a bar.
    pub(crate) fn fetching(&self, model: &str, step: &Step) {
        if !self.is_visible {
            return;
        }
        self.begin_again();
        if !self.is_bar.replace(true) {
            self.bar.disable_steady_tick();
            self.bar.set_length(downloads::BAR_STEPS);
            self.bar.set_style(downloads::style(self.is_coloured));
        }
        self.bar.set_prefix(super::harmless(short(model)).into_owned());
        self.bar.set_message(downloads::sentence(step));
        self.bar.set_position(downloads::step(step, downloads::BAR_STEPS));
    }

    /// A line that was cleared shows nothing until it is begun again.
    fn begin_again(&self) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
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

fn spinner(is_coloured: bool) -> ProgressStyle {
    let template = if is_coloured { "{spinner:.cyan} {msg}" } else { "{spinner} {msg}" };
    ProgressStyle::with_template(template)
        .expect("invariant: the templates are well-formed")
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
}

/// A file without the way to it.
fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn sentence(model: &str, wait: &Wait) -> String {
    let model = short(model);
    match wait {
        Wait::Fetching(Step::Resolving) => format!("Asking the source of {model}"),
        Wait::Fetching(Step::Unanswered { reason }) => {
            format!("Asking the source of {model}: no answer ({reason})")
        }
        Wait::Fetching(step) => format!("Fetching {model}: {}", downloads::sentence(step)),
        Wait::Queued { position, estimate_ms } => {
            let about = estimate_ms
                .map(|ms| format!(", about {}", TimeSpan::from_seconds(ms.div_ceil(1000))))
                .unwrap_or_default();
            format!("Waiting for {model}: place {position} in the queue{about}")
        }
        Wait::Loading { fraction, instance, of } => {
            let which = if *of > 1 { format!(" instance {instance}/{of}") } else { String::new() };
            format!("Loading {model}{which} {:.0} %", fraction.clamp(0.0, 1.0) * 100.0)
        }
        Wait::Preparing(preparing) => {
            let Preparing { fraction, quantization, disk_bytes, memory_bytes, eta_ms, .. } = preparing;
            let about = eta_ms
                .map(|ms| format!(", about {} left", TimeSpan::from_seconds(ms.div_ceil(1000))))
                .unwrap_or_default();
            let [disk, memory] = [disk_bytes, memory_bytes].map(|bytes| ByteSize::from_bytes(*bytes));
            let percent = fraction.clamp(0.0, 1.0) * 100.0;
            format!(
                "Preparing {model} as {quantization}, once: {percent:.0} %{about} ({disk} of disk, {memory} of memory)"
            )
        }
        Wait::Resuming => format!("Resuming {model}"),
        _ => format!("Waiting for {model}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cleared_can_be_used_again() {
        let progress = Progress::new(true, false);
        progress.say("Reading the prompt");
        progress.clear();
        assert!(progress.bar.is_finished());
        progress.say("Thinking");
        assert!(!progress.bar.is_finished());
    }

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
            "Loading demo instance 2/3 50 %"
        );
        assert_eq!(sentence("/models/tiny.gguf", &Wait::Resuming), "Resuming tiny.gguf");
        let preparing = Preparing {
            fraction: 0.42,
            quantization: samovar::Quantization::Q8_0,
            disk_bytes: 2_000_000_000,
            memory_bytes: 500_000_000,
            eta_ms: Some(11_200),
            ..Preparing::default()
        };
        assert_eq!(
            sentence("o/n", &Wait::Preparing(preparing)),
            "Preparing n as Q8_0, once: 42 %, about 12s left (2.0 GB of disk, 500 MB of memory)"
        );
        assert_eq!(
            sentence("hf://o/n:Q4_K_M", &Wait::Fetching(Step::Resolving)),
            "Asking the source of n:Q4_K_M"
        );
    }
}
