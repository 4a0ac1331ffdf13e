//! What the tests and the process that they start say to each other.

use samovar_worker::sandbox::{Report, SandboxPolicy};
use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, AttemptResult};

/// Carries the order into the process.
pub(crate) const ORDER: &str = "SAMOVAR_SANDBOX_ORDER";
/// Begins the line with the account.
pub(crate) const ACCOUNT: &str = "@account ";

/// What a process is to try, and under which plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) plan: SandboxPolicy,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) starts_a_thread_first: bool,
    pub(crate) hides_landlock: bool,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Why the sandbox could not be entered.
    pub(crate) refused: Option<String>,
    pub(crate) report: Option<Report>,
    /// One for each attempt, in order.
    pub(crate) outcomes: Vec<AttemptResult>,
}

#[allow(dead_code, reason = "each side uses its own half")]
impl Order {
    /// The order of the process that calls this.
    #[expect(clippy::disallowed_methods, reason = "the way by which a test tells its own process what to do")]
    pub(crate) fn given() -> Self {
        let text = std::env::var(ORDER).expect("started by the sandbox's tests");
        serde_json::from_str(&text).expect("an order as a scene writes it")
    }
}

#[allow(dead_code, reason = "each side uses its own half")]
impl Account {
    #[allow(clippy::print_stdout, reason = "the tests read it there")]
    pub(crate) fn say(&self) {
        println!("{}", self.line());
    }

    /// As the tests expect it.
    pub(crate) fn line(&self) -> String {
        format!("\n{ACCOUNT}{}", serde_json::to_string(self).expect("an account is plain"))
    }
}
