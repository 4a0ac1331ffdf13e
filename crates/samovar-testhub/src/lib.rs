//! A model hub for tests, which lies when it is told to.
//!
//! ```text
//!   test ──► Hub ──────────── repositories, plain files, an Ollama registry
//!             │ lie(…)         what is untrue, where, how many times
//!             │ hold_after(…)  stop in the middle of a file until release(…)
//!             │ sent()         what went out, to the byte
//!             ▼
//!   origin ───302──► cdn       three listeners with an address each, so that
//!      └──────302──► elsewhere a token that crosses over is seen
//! ```
//!
//! It speaks HTTP/1.1 over bare sockets, since a proper server library would refuse to tell most of these
//! lies. It runs on threads of its own, so a test may block, or pause its clock.
//!
//! It is never part of the product, and never listens on anything but the loopback interface.
#![forbid(unsafe_code)]

mod bad_answer;
mod content;
mod count;
mod gate;
mod hub;
mod reply;
mod repo;
mod request;
mod route;
mod rule;
mod send;
mod serve;
mod state;

pub use bad_answer::{BadAnswer, Denial, RetryAfter, evil_names, evil_tags, odd_names};
pub use content::Content;
pub use count::{Counts, Listener, Route, Seen, Sent};
pub use hub::Hub;
pub use repo::{FileSpec, Repo};
pub use rule::{Rule, Times};
