//! L2 over L3: artifacts on disk, shared, verified, and fetched once.
#![forbid(unsafe_code)]
