//! Processor, memory and engine.

use std::time::{Duration, Instant};

use samovar::Builder;
use samovar_core::cores::CoreWatch;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use super::Finding;
use crate::settings::Settings;

/// A budget that holds no model worth the name.
const BUDGET_FLOOR_BYTES: u64 = 64 << 20;

/// Over so long is looked how many cores idle.
const IDLE_LOOK: Duration = Duration::from_millis(200);

pub(super) async fn processor() -> Finding {
    let mut watch = CoreWatch::new();
    watch.restart(Instant::now());
    tokio::time::sleep(IDLE_LOOK).await;
    let (cores, idle) = (watch.cores(), watch.idle(Instant::now()));
    let idle = idle.map_or_else(String::new, |idle| format!(", {idle:.1} of them idle now"));
    let features = features();
    let text = format!(
        "{} {}, {cores} cores for this process{idle}; {}",
        std::env::consts::ARCH,
        std::env::consts::OS,
        features.join(" ")
    );
    if cfg!(target_arch = "x86_64") && !features.contains(&"avx2") {
        return Finding::odd("processor", text, "without AVX2 models run several times slower");
    }
    Finding::fine("processor", text)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look_for {
        ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
    }
    look_for!("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512vnni", "avx512bf16");
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// Which native code this binary carries.
#[cfg(feature = "llama")]
pub(super) fn build() -> Finding {
    use samovar::{AmxState, build_info};
    let build = build_info();
    let text = format!(
        "llama.cpp {}, ggml {}, by {}, with {}",
        build.llama_cpp,
        build.ggml,
        build.compiler,
        build.cpu_features.join(" ")
    );
    match build.amx {
        AmxState::Absent | AmxState::Sound => Finding::fine("build", text),
        AmxState::Unsafe => Finding::odd(
            "build",
            format!("{text}; its compiler breaks AMX code"),
            "the packed layout is not used; build with clang or a newer GCC to have it",
        ),
    }
}

#[cfg(not(feature = "llama"))]
pub(super) fn build() -> Finding {
    Finding::odd("build", "without an engine", "build with the feature `llama`")
}

pub(super) fn memory(settings: &Settings) -> Finding {
    let budget = &settings.runtime.pool.budget;
    let text = format!("models may use {} ({})", ByteSize::from_bytes(budget.bytes), budget.source);
    if budget.bytes < BUDGET_FLOOR_BYTES {
        return Finding::broken(
            "memory",
            Failure::new(ErrorKind::TooLarge, format!("{text}: too little for any model"))
                .with_hint("free some memory, or set pool.budget_bytes"),
        );
    }
    Finding::fine("memory", text)
}

pub(super) async fn engine(settings: &Settings) -> Finding {
    match Builder::settings(settings.runtime.clone()).build() {
        Ok(runtime) => Finding::fine("engine", runtime.stats().await.engine),
        Err(failure) => Finding::broken("engine", failure),
    }
}
