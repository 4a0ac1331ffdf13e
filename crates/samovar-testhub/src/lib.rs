//! A model hub for tests, which lies when it is told to.
#![forbid(unsafe_code)]
