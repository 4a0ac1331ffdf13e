//! What stands on the screen.

/// What stands on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum TopMode {
    /// The daemon's models, requests and decisions.
    #[default]
    Board,
    /// The keys.
    Help,
    /// The decisions about a model, newest first; none while they are asked for.
    Why {
        name: String,
        lines: Vec<String>,
        /// Lines that are scrolled past.
        skipped: usize,
    },
    /// Whether a model that is in use is to be unloaded.
    Confirm { name: String, requests: u64, is_pinned: bool },
}
