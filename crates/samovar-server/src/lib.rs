//! HTTP over the runtime: OpenAI's API, operations and the local admin API.
#![forbid(unsafe_code)]

pub mod admin;
