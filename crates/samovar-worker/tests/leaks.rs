//! Whatever becomes of workers, this process keeps nothing of them. Alone in its process: see the runner's settings.

#[path = "fake/stand.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod stand;

use samovar_core::TokenEvent;

use crate::stand::{Belongings, broken, engine, events, load, long_request};

/// Two hundred lives in all.
const ROUNDS: usize = 25;

#[test]
fn two_hundred_lives_and_deaths_leave_nothing_behind() {
    let deeds = [
        "none=",
        "load=abort",
        "idle=kill",
        "token:2=segv",
        "park=abort",
        "resume=kill",
        "drop=abort",
        "start=exit:1",
    ];
    let engines: Vec<_> = deeds.iter().map(|deed| (*deed, engine(&[deed]))).collect();
    for (_, engine) in &engines {
        drop(load(engine));
    }
    let before = Belongings::now();
    for _ in 0..ROUNDS {
        for (deed, engine) in &engines {
            live(deed, engine);
        }
    }
    before.come_back();
}

fn live(deed: &str, engine: &samovar_worker::WorkerEngine) {
    let (outcome, obituaries) = load(engine);
    let Ok(instance) = outcome else {
        assert!(deed.starts_with("load") || deed.starts_with("start") || deed.starts_with("idle"), "{deed}");
        return;
    };
    let running =
        instance.generate(samovar_core::GenerationRequest { max_tokens: Some(20), ..long_request() });
    let said = running.map(events);
    let parked = instance.park();
    let resumed =
        parked.clone().and_then(|()| instance.resume(&samovar_core::testing::FakeEngine::options()));
    match deed.split_once('=').unwrap_or_default().0 {
        "none" | "drop" => {
            assert!(matches!(said.unwrap().last(), Some(TokenEvent::Done(_))));
            resumed.unwrap();
        }
        "park" => assert!(parked.is_err() && resumed.is_err()),
        "resume" => assert!(parked.is_ok() && resumed.is_err()),
        "token:2" => {
            broken(&said.unwrap());
            obituaries.first();
        }
        _ => drop(obituaries.first()),
    }
    drop(instance);
    assert_eq!(obituaries.all().len(), usize::from(!deed.starts_with("none") && !deed.starts_with("drop")));
}
