//! Models by the dice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::footprint::{KvType, Layout};
use samovar_core::units::KeepAlive;
use samovar_core::{Descriptor, Footprint, LoadOptions, ModelKey};

use crate::ask::{Instances, ModelSpec};
use crate::dice::Dice;

/// Models of all sizes, some in two sizes of context, some of several instances, some that need others, some that
/// never fit.
pub(super) fn make_specs(dice: &mut Dice) -> Vec<Arc<ModelSpec>> {
    let mut specs: Vec<Arc<ModelSpec>> = Vec::new();
    for number in 0..dice.between(2, 9) {
        let mapped_bytes = dice.between(0, 60);
        let slots = dice.between(1, 4) as u32;
        let usual = if dice.chance(30) { Layout::Repacked } else { Layout::Mapped };
        let keep_alive = some_keep_alive(dice);
        let sizes = dice.between(1, 3) as u32;
        let descriptor = Arc::new(some_descriptor(dice, mapped_bytes / 2));
        let held_bytes = dice.between(1, 40);
        let min = if dice.chance(70) { 1 } else { dice.between(1, 4) as u32 };
        let max = if dice.chance(60) { min } else { min + dice.between(0, 3) as u32 };
        let needs: Vec<_> = (0..2).filter_map(|_| dice.pick(&specs).filter(|_| dice.chance(15))).collect();
        for size in 1..=sizes {
            let layout = if dice.chance(20) { dice.pick(&[Layout::Packed, Layout::Hybrid]) } else { None };
            let layout = layout.unwrap_or(usual);
            specs.push(Arc::new(ModelSpec {
                key: ModelKey::new(format!("key {number}")),
                name: format!("model {number}"),
                path: PathBuf::from("/nowhere"),
                descriptor: Arc::clone(&descriptor),
                options: LoadOptions {
                    context_tokens: 512 * size,
                    slots: if dice.chance(10) { slots + 1 } else { slots },
                    layout,
                    kv_type: KvType::F16,
                    threads: 1,
                    lock_memory: false,
                },
                footprint: Footprint { held_bytes: held_bytes * u64::from(size), mapped_bytes },
                load_ms: dice.chance(20).then(|| dice.between(1, 60_000)),
                keep_alive,
                instances: Instances { min, max },
                needs: needs.clone(),
            }));
        }
    }
    specs
}

/// With a KV cache of a size that matters, or with none to speak of, so that wishes can be merged.
fn some_descriptor(dice: &mut Dice, tensor_bytes: u64) -> Descriptor {
    let blocks = if dice.chance(50) { 4 } else { 0 };
    Descriptor { blocks, ..samovar_core::testing::FakeEngine::descriptor("dice", tensor_bytes) }
}

pub(super) fn some_keep_alive(dice: &mut Dice) -> KeepAlive {
    match dice.between(0, 6) {
        0 => KeepAlive::ParkAtOnce,
        1 => KeepAlive::UntilEvicted,
        _ => KeepAlive::Ms(dice.between(1, 30_000)),
    }
}

/// The keys of all that a model needs.
pub(super) fn all_needs(spec: &ModelSpec) -> BTreeSet<ModelKey> {
    spec.needs.iter().flat_map(|need| all_needs(need).into_iter().chain([need.key.clone()])).collect()
}
