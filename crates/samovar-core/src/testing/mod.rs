//! Fakes, conformance suites and the malformed corpus, for the tests of every crate above.
