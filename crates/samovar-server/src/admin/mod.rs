//! The owner's API over the Unix socket.

pub mod wire;
