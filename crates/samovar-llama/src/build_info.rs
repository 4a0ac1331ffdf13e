//! Which native code this is, for `doctor` and for keys of saved state.

use std::sync::OnceLock;

use crate::native;

/// The native build behind this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of llama.cpp.
    pub llama_cpp: String,
    /// Version of ggml, its tensor library.
    pub ggml: String,
    /// Version of the Rust binding.
    pub binding: &'static str,
    /// The C++ compiler, such as `GNU 12.2.0`; `unknown` if it could not be asked.
    pub compiler: &'static str,
    /// CPU features that the native code was built with, such as `AVX2`, `FMA`, `AMX_INT8`.
    pub cpu_features: Vec<String>,
    /// Whether a compiler that miscompiles AMX was kept from doing so.
    pub amx: AmxState,
}

/// Whether AMX code of this build can be trusted. GCC before 11.5, 12.4, 13.3 and 14.1 drops stores to
/// the tile configuration (PR114098): models load, and die at the first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmxState {
    /// This build has no AMX code.
    Absent,
    /// It has, by a compiler without the fault or with the fault worked around.
    Sound,
    /// It has, and the fault may bite: the packed layout is not used.
    Unsafe,
}

/// Which native code this is.
pub fn build_info() -> &'static BuildInfo {
    static INFO: OnceLock<BuildInfo> = OnceLock::new();
    INFO.get_or_init(|| {
        let cpu_features = features(&native::system_info());
        let has_amx = cpu_features.iter().any(|feature| feature.starts_with("AMX"));
        let amx = match (has_amx, is_amx_sound()) {
            (false, _) => AmxState::Absent,
            (true, true) => AmxState::Sound,
            (true, false) => AmxState::Unsafe,
        };
        BuildInfo {
            llama_cpp: native::llama_version(),
            ggml: native::ggml_version(),
            binding: "0.1.160",
            compiler: env!("SAMOVAR_CXX"),
            cpu_features,
            amx,
        }
    })
}

fn is_amx_sound() -> bool {
    env!("SAMOVAR_AMX_IS_SOUND") == "true"
}

/// Reads `CPU : SSE3 = 1 | AVX = 1 | LLAMAFILE = 1 | `, keeping what is on.
fn features(system_info: &str) -> Vec<String> {
    let pairs = system_info.split(['|', ':']).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(_, value)| value.trim() == "1").map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_that_are_on() {
        let info = "CPU : SSE3 = 1 | AVX = 1 | AVX512 = 0 | OPENMP = 1 | REPACK = 1 | ";
        assert_eq!(features(info), ["SSE3", "AVX", "OPENMP", "REPACK"]);
        assert!(features("").is_empty());
    }

    #[test]
    fn the_build_knows_itself() {
        let build = build_info();
        assert!(build.llama_cpp.starts_with(|c: char| c.is_ascii_digit()), "{build:?}");
        assert!(!build.cpu_features.is_empty(), "{build:?}");
        assert_ne!(build.amx, AmxState::Unsafe, "the build support files keep the fault away");
    }
}
