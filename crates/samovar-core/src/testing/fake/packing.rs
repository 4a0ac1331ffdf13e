//! Packed files of a fake: bytes that say what they were made from and by which engine.

use std::fs::File;
use std::io::Write;

use super::script::Script;
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Arrangement, Layout};
use crate::model::Descriptor;
use crate::port::{LoadRequest, PackedFile};

/// The weights that follow the first line of every packed file.
const WEIGHTS: [u8; 4_096] = [0x5a; 4_096];

/// What stands in the packed file of such a model.
fn content(descriptor: &Descriptor, packing: &str, source: &str) -> Vec<u8> {
    let Descriptor { name, tensor_bytes, .. } = descriptor;
    let mut content = format!("fake packed\n{packing}\n{source}\n{name:?} {tensor_bytes}\n").into_bytes();
    content.extend(WEIGHTS);
    content
}

/// Writes it, with `halfway` in between.
pub(super) fn write(
    descriptor: &Descriptor,
    packing: &str,
    source: &str,
    mut into: &File,
    halfway: impl FnOnce() -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let content = content(descriptor, packing, source);
    let (first, second) = content.split_at(content.len() / 2);
    let refuse = |error: std::io::Error| Failure::new(ErrorKind::Storage, error.to_string());
    into.write_all(first).map_err(refuse)?;
    halfway()?;
    into.write_all(second).map_err(refuse)?;
    Ok(content.len() as u64)
}

/// How such a load comes out with this layout.
pub(super) fn arrange(script: &Script, request: LoadRequest<'_>, layout: Layout) -> Arrangement {
    match request.packed {
        _ if !layout.needs_packed_file() => Arrangement { layout, refused: None },
        None => Arrangement::default(),
        Some(packed) => match check(script, request.descriptor, packed) {
            Ok(()) => Arrangement { layout, refused: None },
            Err(refused) => Arrangement { layout: Layout::Mapped, refused: Some(refused) },
        },
    }
}

fn check(script: &Script, descriptor: &Descriptor, packed: PackedFile<'_>) -> Result<(), String> {
    let packing = script.packing.as_deref().ok_or("this engine packs no weights")?;
    if let Some(refusal) = &script.packed_refusal {
        return Err(refusal.clone());
    }
    let found = fs_err::read(packed.path).map_err(|error| error.to_string())?;
    if found == content(descriptor, packing, packed.source) {
        Ok(())
    } else {
        Err("the packed file is of another model, machine or build, or damaged".to_owned())
    }
}
