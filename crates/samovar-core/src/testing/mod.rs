//! Fakes, conformance suites and the malformed corpus, for the tests of every crate above.
//!
//! ```text
//!   fake          an engine that loads, speaks, hangs and dies as a script says
//!   conformance   what every engine must do
//!   gguf          a writer of small GGUF files, sound or not
//!   corpus        malformed files, one for each way that is known
//!   gate          a gate at which the fake waits until a test opens it
//!   manual_clock  time that moves only when a test moves it
//! ```
//!
//! Nothing here sleeps to wait for something: tests await counts, or open gates.

#[allow(clippy::unwrap_used, reason = "a suite of tests: what fails panics")]
pub mod conformance;
pub mod corpus;
pub mod fake;
pub mod gate;
pub mod gguf;
pub mod manual_clock;

pub use fake::FakeEngine;
pub use gate::Gate;
pub use manual_clock::ManualClock;
