//! How preparing a prompt (rendering, tokenizing) talks with its caller.

/// What an engine asks while it prepares a prompt.
pub trait PromptControl {
    /// Whether the caller still waits for the prompt; looked at between pieces of the work.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Does a piece of work that runs code from a stranger (a chat template), within what that may use. A process that
    /// is there for one model may end itself when such code takes more; then this does not return.
    fn confine(&self, work: &mut dyn FnMut()) {
        work();
    }
}

/// Wanted whatever happens, and confined by nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unconfined;

impl PromptControl for Unconfined {}
