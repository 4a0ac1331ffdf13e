//! Models at random.

use std::collections::BTreeSet;
use std::sync::Arc;

use samovar_core::footprint::{KvType, Layout};
use samovar_core::port::{Capabilities, EngineId};
use samovar_core::units::KeepAlive;
use samovar_core::{Arena, Bytes, Cost, Descriptor, FileId, Footprint, LoadOptions, ModelFiles, ModelKey};

use crate::ask::{Instances, ModelSpec};
use crate::rng::Rng;

/// Models of all sizes, some in two sizes of context, some of several instances, some that need others, some that
/// never fit. `can_park` is what the engine can do with each of them.
///
/// `devices` are the arenas beside the host, and have dice of their own: what is on the host does not depend on them.
pub(super) fn make_specs(
    rng: &mut Rng,
    can_park: bool,
    devices: &[Arena],
    of_devices: &mut Rng,
) -> Vec<Arc<ModelSpec>> {
    let mut specs: Vec<Arc<ModelSpec>> = Vec::new();
    for number in 0..rng.between(2, 9) {
        let mapped_bytes = rng.between(0, 60);
        let slots = rng.between(1, 4) as u32;
        let usual = if rng.chance(30) { Layout::Repacked } else { Layout::Mapped };
        let keep_alive = some_keep_alive(rng);
        let sizes = rng.between(1, 3) as u32;
        let descriptor = Arc::new(some_descriptor(rng, mapped_bytes / 2));
        let held_bytes = rng.between(1, 40);
        let min = if rng.chance(70) { 1 } else { rng.between(1, 4) as u32 };
        let max = if rng.chance(60) { min } else { min + rng.between(0, 3) as u32 };
        let needs: Vec<_> = (0..2).filter_map(|_| rng.pick(&specs).filter(|_| rng.chance(15))).collect();
        let parts: Vec<_> = devices.iter().filter_map(|arena| some_part(of_devices, *arena)).collect();
        for size in 1..=sizes {
            let layout = if rng.chance(20) { rng.pick(&[Layout::Packed, Layout::Hybrid]) } else { None };
            let layout = layout.unwrap_or(usual);
            let options = LoadOptions {
                context_tokens: 512 * size,
                slots: if rng.chance(10) { slots + 1 } else { slots },
                layout,
                kv_type: KvType::F16,
                threads: 1,
                lock_memory: false,
                pooling: None,
                draft: None,
            };
            let footprint = Footprint { held_bytes: held_bytes * u64::from(size), mapped_bytes };
            let mut cost = Cost::on_host(&descriptor, &options, footprint);
            for (arena, private, mapped) in &parts {
                cost.memory.private += Bytes::on(*arena, private * u64::from(size));
                let file = cost.memory.mapped.entry(FileId::OWN).or_default();
                *file += Bytes::on(*arena, *mapped);
            }
            specs.push(Arc::new(ModelSpec {
                key: ModelKey::new(format!("key {number}")),
                name: format!("model {number}"),
                files: ModelFiles::of("/nowhere"),
                descriptor: Arc::clone(&descriptor),
                engine: EngineId::new("fake"),
                capabilities: Capabilities { can_park, ..Capabilities::default() },
                options,
                cost,
                load_ms: rng.chance(20).then(|| rng.between(1, 60_000)),
                keep_alive,
                instances: Instances { min, max },
                needs: needs.clone(),
                has_fixed_slots: true,
                usual: None,
            }));
        }
    }
    specs
}

/// What a model takes of a device, of its own and shared, if it is on that at all.
fn some_part(rng: &mut Rng, arena: Arena) -> Option<(Arena, u64, u64)> {
    rng.chance(50).then(|| (arena, rng.between(0, 30), rng.between(0, 40)))
}

/// With a KV cache of a size that matters, or with none to speak of, so that wishes can be merged.
fn some_descriptor(rng: &mut Rng, tensor_bytes: u64) -> Descriptor {
    let blocks = if rng.chance(50) { 4 } else { 0 };
    Descriptor { blocks, ..samovar_core::testing::FakeEngine::descriptor("dice", tensor_bytes) }
}

pub(super) fn some_keep_alive(rng: &mut Rng) -> KeepAlive {
    match rng.between(0, 6) {
        0 => KeepAlive::ParkAtOnce,
        1 => KeepAlive::UntilEvicted,
        _ => KeepAlive::Ms(rng.between(1, 30_000)),
    }
}

/// The keys of all that a model needs.
pub(super) fn all_needs(spec: &ModelSpec) -> BTreeSet<ModelKey> {
    spec.needs.iter().flat_map(|need| all_needs(need).into_iter().chain([need.key.clone()])).collect()
}
