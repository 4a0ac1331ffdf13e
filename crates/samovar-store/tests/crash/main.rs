//! What is left of a store when its process is killed, or the machine's power is cut, at any system call.
//!
//! ```text
//!   scene (hub, two models) ─► life: before ─► program, traced ──── blow at call n ─► what is left ─► judge
//!                                              open, ensure,         SIGKILL, or
//!                                              collect, repair …     the disk stops
//! ```
//!
//! Every change kills at some points of each life, spread over it; `cargo x soak` (`SAMOVAR_CRASH_ALL=1`) kills at
//! all of them. The calls of the program are counted by a tracer of our own; see its module.
#![allow(clippy::print_stdout, reason = "how many kills there were is what these tests have to say")]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod call;
mod check;
mod disk;
mod lives;
mod power;
mod program;
mod scene;
mod sweep;
mod tracer;

use program::Order;
use scene::Scene;
use sweep::{Extent, Life};

/// Sweeps a life and says what came of it.
fn survives(life: &Life, few: usize) {
    if let Err(reason) = tracer::is_allowed() {
        println!("skipped: {}: {reason}", life.name);
        return;
    }
    let tally = life
        .sweep(&Scene::new(), Extent::wished(few))
        .unwrap_or_else(|error| panic!("{}: {error:#}", life.name));
    println!("{}, killed: {tally}", life.name);
    assert!(tally.violations.is_empty(), "{}", tally.violations.join("\n"));
    assert!(tally.struck > few / 2, "hardly any kill hit: {tally}");
}

#[test]
fn a_pull_may_be_killed_anywhere() {
    survives(&lives::pull(), 32);
}

#[test]
fn a_collection_may_be_killed_anywhere() {
    survives(&lives::collect(), 24);
}

#[test]
fn taking_up_a_broken_off_collection_may_be_killed_anywhere() {
    survives(&lives::recovery(), 12);
}

#[test]
fn preparing_a_model_may_be_killed_anywhere() {
    survives(&lives::prepare(), 24);
}

#[test]
fn a_removal_may_be_killed_anywhere() {
    survives(&lives::remove(), 12);
}

#[test]
fn filling_a_lost_index_may_be_killed_anywhere() {
    survives(&lives::rebuild(), 12);
}

#[test]
fn replacing_a_broken_index_may_be_killed_anywhere() {
    survives(&lives::broken_index(), 12);
}

#[test]
fn a_migration_may_be_killed_anywhere() {
    survives(&lives::migrate(), 12);
}

#[test]
fn saving_prompt_state_may_be_killed_anywhere() {
    survives(&lives::save_prefixes(), 24);
}

#[test]
fn packing_weights_may_be_killed_anywhere() {
    survives(&lives::pack(), 24);
}

#[test]
fn a_repair_may_be_killed_anywhere() {
    survives(&lives::repair(), 16);
}

#[test]
fn an_import_may_be_killed_anywhere() {
    survives(&lives::import(), 12);
}

#[test]
fn an_adoption_may_be_killed_anywhere() {
    survives(&lives::adopt(), 12);
}

/// Sweeps a life on disks that stop, in the test of this name, and says what came of it.
fn outlasts(life: &Life, few: usize, test: &str) {
    if !power::is_inside() {
        match power::inside(test) {
            Ok(is_good) => assert!(is_good, "see above"),
            Err(reason) => println!("skipped: {}, power cut: {reason}", life.name),
        }
        return;
    }
    if let Err(reason) = disk::is_possible().and_then(|()| tracer::is_allowed()) {
        println!("skipped: {}, power cut: {reason}", life.name);
        return;
    }
    disk::takes_what_was_not_synced().expect("a careless writer loses what it wrote");
    let tally = life
        .cuts(&Scene::new(), Extent::wished(few))
        .unwrap_or_else(|error| panic!("{}, power cut: {error:#}", life.name));
    println!("{}, power cut: {tally}", life.name);
    assert!(tally.violations.is_empty(), "{}", tally.violations.join("\n"));
    assert!(tally.struck > few / 2, "hardly any cut hit: {tally}");
}

#[test]
fn the_power_may_be_cut_anywhere_in_a_pull() {
    outlasts(&lives::pull(), 8, "the_power_may_be_cut_anywhere_in_a_pull");
}

#[test]
fn the_power_may_be_cut_anywhere_in_a_collection() {
    outlasts(&lives::collect(), 6, "the_power_may_be_cut_anywhere_in_a_collection");
}

#[test]
fn the_power_may_be_cut_anywhere_while_a_lost_index_is_filled() {
    outlasts(&lives::rebuild(), 4, "the_power_may_be_cut_anywhere_while_a_lost_index_is_filled");
}

#[test]
fn the_power_may_be_cut_anywhere_in_a_repair() {
    outlasts(&lives::repair(), 4, "the_power_may_be_cut_anywhere_in_a_repair");
}

#[test]
fn the_power_may_be_cut_anywhere_while_weights_are_packed() {
    outlasts(&lives::pack(), 6, "the_power_may_be_cut_anywhere_while_weights_are_packed");
}

#[test]
fn the_power_may_be_cut_anywhere_while_a_model_is_prepared() {
    outlasts(&lives::prepare(), 6, "the_power_may_be_cut_anywhere_while_a_model_is_prepared");
}

#[test]
fn the_power_may_be_cut_anywhere_in_an_adoption() {
    outlasts(&lives::adopt(), 4, "the_power_may_be_cut_anywhere_in_an_adoption");
}

/// Not a test: what the others start in a process of its own.
#[test]
#[ignore = "started by the other tests"]
fn the_program() {
    if let Some(order) = Order::given() {
        order.obey().expect("the order can be obeyed");
    }
}
