//! A worker that says of itself what is not true, or takes what its model does not explain: no other loses anything.

use samovar_core::testing::FakeEngine;

use crate::stand::{assert_died_of, engine, instance, load};

#[test]
fn who_claims_the_whole_machine_is_ended_and_nobody_hears_the_figure() {
    let (outcome, obituaries) = load(&engine(&["held=1099511627776"]));
    // Whether the load or its own heartbeat says so first.
    let failure = match outcome {
        Err(failure) => failure,
        Ok(instance) => {
            assert!(instance.measure().held_bytes < 1 << 30, "{:?}", instance.measure());
            obituaries.first()
        }
    };
    assert_died_of(&failure, "said that it holds 1048576 MiB");
}

#[test]
fn a_figure_that_is_too_high_is_put_right() {
    let (instance, obituaries) = instance(&["held=805306368", "mapped=1125899906842624"]);
    let measured = instance.measure();
    let model = FakeEngine::descriptor("fake", 1 << 20);
    assert!(measured.held_bytes < 256 << 20, "{measured:?}");
    assert!(measured.mapped_bytes <= model.file_bytes, "{measured:?}");
    assert_eq!(obituaries.all(), [], "so much may be a fault of the prediction");
}

#[test]
fn who_makes_threads_without_end_is_ended() {
    let (_instance, obituaries) = instance(&["idle=crowd"]);
    assert_died_of(&obituaries.first(), "threads where no model explains more");
}
