//! What a worker may not do.
