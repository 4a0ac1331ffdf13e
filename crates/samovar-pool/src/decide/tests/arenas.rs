//! Memory in several arenas: each has its own budget, and only what frees the one that is short has to leave.

use std::collections::BTreeMap;

use super::*;

fn device() -> Arena {
    Arena::device(1).expect("it is counted")
}

/// So many bytes on the host, and so many on the device.
fn on_both(name: &str, host_bytes: u64, device_bytes: u64) -> Arc<ModelSpec> {
    model_with(name, host_bytes, |spec| {
        spec.cost.memory.private = spec.cost.memory.private.with(device(), device_bytes);
    })
}

/// A host of 100 bytes, and a device of 50.
fn with_device() -> Harness {
    Harness::new(|config| config.device_bytes = [(device(), 50)].into()).without_parking()
}

#[test]
fn only_what_frees_the_arena_that_is_short_leaves() {
    let mut harness = with_device();
    let (on_host, on_device) = (model("on host", 60), on_both("on device", 5, 40));
    harness.use_once(&on_host);
    harness.pass(1_000);
    harness.use_once(&on_device);
    // The older one on the host would leave first, and would free nothing on the device.
    harness.use_once(&on_both("new", 5, 30));
    assert!(harness.is_in(&on_host, ModelState::Ready) && harness.is_in(&on_device, ModelState::Absent));
    harness.use_once(&model("other", 60));
    assert!(harness.is_in(&on_host, ModelState::Absent));
}

#[test]
fn a_refusal_says_where_it_does_not_fit() {
    let mut harness = with_device();
    let refused = harness.ask(&on_both("a", 10, 51));
    let why = harness.refusal(refused).expect("it is refused");
    assert!(
        matches!(why, Error::TooLarge { needed_bytes: 51, budget_bytes: 50, arena, .. } if *arena == device())
    );
    assert_eq!(
        why.to_string(),
        "a needs 51 B on device1, but at most 50 B of the budget of 50 B can be given to it"
    );
}

#[test]
fn above_the_soft_limit_of_one_arena_only_what_is_there_leaves() {
    let mut harness = with_device();
    harness.state.config.soft_ratio = 0.8;
    let (on_host, on_device) = (model("on host", 30), on_both("on device", 5, 20));
    harness.use_once(&on_host);
    harness.use_once(&on_device);
    harness.use_once(&on_both("last", 5, 25));
    harness.finish_work();
    assert!(harness.is_in(&on_host, ModelState::Ready) && harness.is_in(&on_device, ModelState::Absent));
    let (_, reason) = &harness.decisions(What::Evicted)[0];
    assert!(
        matches!(reason, Reason::AboveSoft { used_bytes: 45, soft_bytes: 40, arena, .. } if *arena == device())
    );
}

#[test]
fn two_models_that_share_only_the_host_are_both_in_memory() {
    let mut harness = Harness::new(|config| {
        config.device_bytes = [(device(), 50), (Arena::device(2).expect("it is counted"), 50)].into();
    });
    let first = on_both("first", 10, 50);
    let second = model_with("second", 10, |spec| {
        let other = Arena::device(2).expect("it is counted");
        spec.cost.memory.private = spec.cost.memory.private.with(other, 50);
    });
    let (one, two) = (harness.ask(&first), harness.ask(&second));
    harness.finish_work();
    assert!(harness.is_granted(one) && harness.is_granted(two));
    assert_eq!(harness.state.snapshot(harness.now).pool.devices.len(), 2);
    assert_eq!(harness.model(&first).device_bytes, BTreeMap::from([(device(), 50)]));
}

#[test]
fn weights_on_a_device_leave_with_the_last_of_those_that_share_them() {
    let mut harness = with_device();
    let pair = model_with("pair", 5, |spec| spec.instances = Instances { min: 2, max: 2 });
    let mapped = [(FileId::OWN, Bytes::on(device(), 40))].into();
    let memory = Memory { private: Bytes::host(5), mapped };
    let pair = Arc::new(ModelSpec { cost: Cost { memory, ..pair.cost.clone() }, ..(*pair).clone() });
    harness.use_once(&pair);
    assert_eq!(harness.model(&pair).instances, 2);
    // Each of the two alone would free nothing on the device.
    let new = on_both("new", 5, 30);
    harness.use_once(&new);
    assert!(harness.is_in(&pair, ModelState::Absent) && harness.is_in(&new, ModelState::Ready));
}

#[test]
fn weights_on_a_device_leave_for_a_further_instance_of_another_model() {
    let mut harness = with_device();
    let pair = model_with("pair", 5, |spec| spec.instances = Instances { min: 2, max: 2 });
    let mapped = [(FileId::OWN, Bytes::on(device(), 20))].into();
    let memory = Memory { private: Bytes::host(5), mapped };
    let pair = Arc::new(ModelSpec { cost: Cost { memory, ..pair.cost.clone() }, ..(*pair).clone() });
    harness.use_once(&pair);
    assert_eq!(harness.model(&pair).instances, 2);
    let new = model_with("new", 5, |spec| {
        spec.cost.memory.private = spec.cost.memory.private.with(device(), 20);
        spec.instances = Instances { min: 2, max: 2 };
    });
    // The first finds room beside the pair, the second does not.
    harness.use_once(&new);
    assert!(harness.is_in(&pair, ModelState::Absent));
    assert_eq!(harness.model(&new).instances, 2);
}
