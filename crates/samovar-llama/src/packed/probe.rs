//! What this build packs on this CPU, and the key that names it.
//!
//! A fixed pattern is packed in every format by every packer, and the results are hashed: so a change of CPU, of
//! build flags or of llama.cpp's layouts makes another key, without a list of what may change. It takes a few
//! milliseconds and is done once in a process.

use std::sync::OnceLock;

use samovar_core::Descriptor;
use samovar_core::digest::Hasher;

use super::packer::{Format, Packer, Scratch, Shape};
use crate::build_info::{AmxState, build_info};

/// Two rows of blocks of any format, as many as the kernels of any CPU take at once.
const PATTERN_SHAPE: Shape = [512, 64, 1, 1];
/// Digits of the hash that the key keeps.
const DIGITS: usize = 32;

/// What a probe found.
#[derive(Debug)]
struct Findings {
    /// Formats that some packer packs, in ggml's words.
    formats: Vec<&'static str>,
    key: String,
}

/// The key of what is packed here: engine, versions and results of the probe. `None` if nothing is packed.
pub(crate) fn key() -> Option<&'static str> {
    Some(findings()?.key.as_str())
}

/// Whether weights of this model may be packed here. The shape of each is looked at when they are.
pub(crate) fn packable(descriptor: &Descriptor) -> Result<(), &'static str> {
    let Some(findings) = findings() else {
        return Err("this build packs nothing on this CPU");
    };
    if descriptor.parts > 1 {
        return Err("the model is split into several files");
    }
    let is_packed = |name: &str| findings.formats.iter().any(|format| format.eq_ignore_ascii_case(name));
    let has_any = descriptor.formats.iter().any(|format| format.matrix_bytes > 0 && is_packed(&format.name));
    if has_any { Ok(()) } else { Err("none of its number formats is packed on this CPU") }
}

fn findings() -> Option<&'static Findings> {
    static FINDINGS: OnceLock<Option<Findings>> = OnceLock::new();
    FINDINGS
        .get_or_init(|| {
            let found = probe();
            if let Some(found) = &found {
                tracing::debug!(key = %found.key, formats = ?found.formats, "weights can be packed");
            }
            found
        })
        .as_ref()
}

fn probe() -> Option<Findings> {
    let build = build_info();
    if build.amx == AmxState::Unsafe {
        return None;
    }
    let mut hasher = Hasher::new();
    let mut formats = Vec::new();
    for packer in Packer::all() {
        let mut scratch = Scratch::new(packer);
        for format in Format::all().filter(|format| packer.takes(*format, PATTERN_SHAPE)) {
            let packed = scratch.pack(format, PATTERN_SHAPE, &pattern(format.bytes(PATTERN_SHAPE))).ok()?;
            for part in [packer.name(), format.name()] {
                hasher.update(part.as_bytes());
                hasher.update(&[0]);
            }
            hasher.update(packed);
            formats.push(format.name());
        }
    }
    if formats.is_empty() {
        return None;
    }
    let hash = hasher.finish().to_string();
    let key =
        format!("llama.cpp-{}-ggml-{}-{}-{}", build.llama_cpp, build.ggml, build.binding, &hash[..DIGITS]);
    Some(Findings { formats, key })
}

/// Bytes in which no two blocks are alike.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::descriptor;
    use samovar_core::model::descriptor::TensorFormat;

    #[test]
    fn the_key_names_versions_and_is_the_same_each_time() {
        let again = probe().map(|findings| findings.key);
        assert_eq!(key(), again.as_deref());
        if let Some(key) = key() {
            assert!(key.contains(&build_info().ggml) && key.contains(build_info().binding), "{key}");
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b)), "{key}");
        }
    }

    #[test]
    fn what_no_packer_takes_is_not_packable() {
        let of = |name: &str, parts| Descriptor {
            formats: vec![TensorFormat { name: name.to_owned(), tensors: 9, bytes: 99, matrix_bytes: 90 }],
            parts,
            ..descriptor()
        };
        assert!(packable(&of("F32", 1)).is_err());
        if cfg!(target_feature = "avx2") {
            assert_eq!(packable(&of("Q4_K", 1)), Ok(()));
            assert_eq!(packable(&of("Q4_0", 1)), Ok(()));
            assert!(packable(&of("Q4_K", 2)).unwrap_err().contains("split"));
        }
    }

    #[test]
    fn the_probe_takes_milliseconds() {
        let _ = probe();
        let start = std::time::Instant::now();
        let _ = probe();
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}
