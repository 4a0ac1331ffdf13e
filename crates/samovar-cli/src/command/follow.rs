//! Long work on the store, with a line that says how far it is, until it ends or the person has enough.

use std::sync::Arc;

use samovar::store::{Progress, Watch};
use samovar_core::Failure;
use samovar_core::units::ByteSize;
use tokio::sync::mpsc;

use super::Context;
use crate::ended::Ended;

/// Steps that wait to be shown; a reader that falls behind misses some.
const STEPS: usize = 16;

/// Whom the work tells how far it is, and where that is read.
pub(super) fn watch() -> (Watch, mpsc::Receiver<Progress>) {
    let (sender, steps) = mpsc::channel(STEPS);
    // Must return at once: a step for which there is no room is not shown.
    let watch: Watch = Arc::new(move |step| {
        sender.try_send(step).ok();
    });
    (watch, steps)
}

/// Waits for the work. `None` when the person pressed Ctrl-C.
///
/// # Errors
/// As the work.
pub(super) async fn follow<T>(
    context: &Context,
    first: &str,
    mut steps: mpsc::Receiver<Progress>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Option<T>, Ended> {
    let progress = context.report.progress();
    progress.say(first);
    let mut work = std::pin::pin!(work);
    let mut enough = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(Some(done?)),
            Some(step) = steps.recv() => progress.say(sentence(&step)),
            _ = &mut enough => return Ok(None),
        }
    }
}

fn sentence(step: &Progress) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let (verb, transfer) = match step {
        Progress::Resolving | Progress::Nearby { .. } | Progress::Chosen { .. } => {
            return "Looking".to_owned();
        }
        Progress::Unanswered { reason } => return format!("The source does not answer: {reason}"),
        Progress::Fetching(transfer) => ("Fetching", transfer),
        Progress::Verifying(transfer) => ("Reading", transfer),
    };
    let rate = if transfer.bytes_per_s > 0.0 {
        format!(", {}/s", size(transfer.bytes_per_s as u64))
    } else {
        String::new()
    };
    format!("{verb} {} of {}{rate}", size(transfer.done_bytes), size(transfer.total_bytes))
}

#[cfg(test)]
mod tests {
    use samovar::store::Transfer;

    use super::*;

    #[test]
    fn a_step_tells_amounts_and_the_rate_once_it_is_known() {
        let transfer = Transfer { done_bytes: 1_000_000, total_bytes: 2_000_000, ..Transfer::default() };
        assert_eq!(sentence(&Progress::Verifying(transfer)), "Reading 1.0 MB of 2.0 MB");
        let transfer = Transfer { bytes_per_s: 5e8, ..transfer };
        assert_eq!(sentence(&Progress::Fetching(transfer)), "Fetching 1.0 MB of 2.0 MB, 500 MB/s");
    }
}
