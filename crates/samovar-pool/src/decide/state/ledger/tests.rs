use super::*;

const A: InstanceId = InstanceId(1);
const B: InstanceId = InstanceId(2);
const C: InstanceId = InstanceId(3);
const MODEL: ModelId = ModelId(1);
const OTHER: ModelId = ModelId(2);

fn bytes(private: u64, mapped: u64) -> Memory {
    Memory::on_host(private, mapped)
}

/// With so much of what was made of the model's own file.
fn with_made(private: u64, own: u64, made: u64) -> Memory {
    let mut memory = Memory::on_host(private, own);
    memory.mapped.insert(FileId::MADE, Bytes::host(made));
    memory
}

fn ledger(budget: u64) -> Ledger {
    Ledger::new(Bytes::host(budget))
}

#[test]
fn two_instances_of_a_model_count_its_weights_once() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &bytes(10, 50)));
    assert_eq!(ledger.cost(None, MODEL, &bytes(10, 50)).on_host(), 10);
    assert!(ledger.reserve(B, MODEL, &bytes(10, 50)));
    assert_eq!((ledger.reserved().on_host(), ledger.free().on_host()), (70, 30));
    ledger.commit(A, &bytes(10, 50));
    assert_eq!((ledger.resident().on_host(), ledger.reserved().on_host()), (60, 10));
    assert_eq!((ledger.freed_by_unload(A).on_host(), ledger.freed_by_unload(B).on_host()), (10, 10));
    ledger.release(A);
    assert_eq!(ledger.freed_by_unload(B).on_host(), 60);
    ledger.release(B);
    assert_eq!((ledger.used().on_host(), ledger.is_empty()), (0, true));
}

#[test]
fn a_parked_instance_counts_its_residue_alone() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &bytes(40, 50)));
    ledger.commit(A, &bytes(40, 50));
    assert_eq!(ledger.freed_by_park(A, Bytes::host(3)).on_host(), 87);
    ledger.park(A, Bytes::host(3));
    assert_eq!(ledger.used().on_host(), 3);
    assert_eq!(ledger.cost(Some(A), MODEL, &bytes(40, 50)).on_host(), 87);
    assert!(ledger.reserve(A, MODEL, &bytes(40, 50)));
    assert_eq!((ledger.resident().on_host(), ledger.reserved().on_host()), (0, 90));
}

#[test]
fn nothing_is_reserved_beyond_the_budget() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &bytes(60, 0)));
    assert!(!ledger.reserve(B, OTHER, &bytes(41, 0)));
    assert_eq!(ledger.used().on_host(), 60);
    assert!(ledger.reserve(B, OTHER, &bytes(40, 0)));
    assert_eq!(ledger.free().on_host(), 0);
}

#[test]
fn what_is_measured_beyond_the_budget_is_owed_and_paid_first() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &bytes(50, 0)));
    assert!(ledger.reserve(B, OTHER, &bytes(40, 0)));
    ledger.commit(B, &bytes(70, 0));
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host(), ledger.free().on_host()), (100, 20, 0));
    ledger.commit(A, &bytes(45, 0));
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host()), (100, 15));
    ledger.release(A);
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host(), ledger.free().on_host()), (70, 0, 30));
}

#[test]
fn a_smaller_budget_is_reached_as_instances_leave() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &bytes(60, 0)));
    ledger.set_budget(Bytes::host(50));
    assert_eq!((ledger.budget().on_host(), ledger.free().on_host()), (60, 0));
    ledger.release(A);
    assert_eq!((ledger.budget().on_host(), ledger.free().on_host()), (50, 50));
}

#[test]
fn each_file_is_counted_once_whoever_maps_it() {
    let (packed, hybrid) = (with_made(1, 0, 52), with_made(1, 50, 52));
    let mut ledger = ledger(200);
    assert!(ledger.reserve(A, MODEL, &bytes(1, 50)));
    ledger.commit(A, &bytes(1, 50));
    assert_eq!(ledger.cost(None, MODEL, &packed).on_host(), 53, "another file");
    assert_eq!(ledger.cost(None, MODEL, &hybrid).on_host(), 53, "the model's own file is mapped already");
    assert!(ledger.reserve(B, MODEL, &hybrid));
    assert_eq!((ledger.resident().on_host(), ledger.reserved().on_host()), (51, 53));
    ledger.commit(B, &hybrid);
    assert_eq!(ledger.resident().on_host(), 104);
    assert_eq!((ledger.freed_by_unload(A).on_host(), ledger.freed_by_unload(B).on_host()), (1, 53));
    assert_eq!(ledger.together([A, B].into_iter()), with_made(2, 50, 52));
    ledger.release(A);
    assert_eq!((ledger.used().on_host(), ledger.freed_by_unload(B).on_host()), (103, 103));
    ledger.release(B);
    assert!(ledger.reserve(A, MODEL, &packed) && ledger.reserve(B, MODEL, &packed));
    assert_eq!(ledger.used().on_host(), 54);
}

#[test]
fn a_hybrid_that_came_to_be_plain_counts_one_file() {
    let mut ledger = ledger(200);
    assert!(ledger.reserve(A, MODEL, &with_made(1, 50, 52)));
    ledger.commit(A, &bytes(1, 50));
    assert_eq!((ledger.used().on_host(), ledger.cost(None, MODEL, &bytes(1, 50)).on_host()), (51, 1));
}

#[test]
fn what_came_to_be_plain_shares_with_others_what_they_map() {
    let packed = with_made(1, 0, 52);
    let mut ledger = ledger(110);
    assert!(ledger.reserve(A, MODEL, &bytes(1, 50)));
    ledger.commit(A, &bytes(1, 50));
    assert!(ledger.reserve(B, MODEL, &packed));
    assert!(ledger.reserve(C, OTHER, &bytes(6, 0)));
    ledger.commit(B, &bytes(1, 50));
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host()), (58, 0), "both map the model's own file");
    assert_eq!((ledger.freed_by_unload(A).on_host(), ledger.freed_by_unload(B).on_host()), (1, 1));
}

#[test]
fn what_came_to_be_plain_alone_counts_the_models_own_file() {
    let mut ledger = ledger(60);
    assert!(ledger.reserve(A, MODEL, &with_made(1, 0, 52)));
    ledger.commit(A, &bytes(1, 50));
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host()), (51, 0));
    assert_eq!(ledger.cost(None, MODEL, &bytes(1, 50)).on_host(), 1, "another that maps it adds nothing");
}

#[test]
fn weights_that_are_owed_are_paid_as_weights_that_others_share() {
    let mut ledger = ledger(100);
    assert!(ledger.reserve(A, MODEL, &with_made(7, 0, 36)));
    assert!(ledger.reserve(C, OTHER, &bytes(50, 0)));
    ledger.set_budget(Bytes::host(50));
    ledger.commit(A, &bytes(7, 36));
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host()), (57, 36));
    ledger.release(C);
    assert_eq!((ledger.used().on_host(), ledger.owed().on_host()), (43, 0));
    assert_eq!(ledger.cost(None, MODEL, &bytes(7, 36)).on_host(), 7);
}

#[test]
fn each_arena_has_its_own_budget_and_its_own_debts() {
    let device = samovar_core::Arena::device(1).expect("it is counted");
    let on_device = |private: u64| Memory {
        private: Bytes::host(10).with(device, private),
        mapped: [(FileId::OWN, Bytes::host(20).with(device, 30))].into(),
    };
    let mut ledger = Ledger::new(Bytes::host(100).with(device, 50));
    assert!(ledger.reserve(A, MODEL, &on_device(15)));
    assert!(!ledger.reserve(B, OTHER, &on_device(1)), "the host has room, the device has 5");
    assert!(ledger.reserve(B, MODEL, &on_device(5)), "the weights are there already, in both");
    assert_eq!(ledger.free(), Bytes::host(60));
    ledger.commit(A, &on_device(25));
    assert_eq!((ledger.used(), ledger.owed()), (Bytes::host(40).with(device, 50), Bytes::on(device, 10)));
    assert_eq!(ledger.freed_by_all(&[(A, Bytes::NONE)].into()), Bytes::host(10).with(device, 15));
    ledger.release(B);
    assert_eq!((ledger.used(), ledger.owed()), (Bytes::host(30).with(device, 50), Bytes::on(device, 5)));
    ledger.release(A);
    assert!(ledger.is_empty() && ledger.used().is_none() && ledger.owed().is_none());
}
