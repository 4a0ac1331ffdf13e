//! The engines of this build: the one place where cargo features choose them. It loads no model.

use std::sync::Arc;

use samovar_core::port::{Engine, EngineId, Engines};
use samovar_core::{ErrorKind, Failure};

/// One line per engine. Each model goes to the first engine that runs its format. Making an engine is cheap: its native
/// library starts with the first load.
const ENGINES: &[fn() -> Arc<dyn Engine>] = &[
    #[cfg(feature = "llama")]
    || {
        let converter = Arc::new(crate::converter::SafetensorsConverter);
        Arc::new(samovar_llama::LlamaEngine::new().converting(converter))
    },
    #[cfg(feature = "candle")]
    || Arc::new(samovar_candle::CandleEngine::new()),
];

/// The engines that this build has, as one: each model goes to the first engine that runs its format.
///
/// # Errors
/// `Unsupported`: it has none.
pub fn default_engine() -> Result<Arc<dyn Engine>, Failure> {
    let engines: Vec<_> = ENGINES.iter().map(|make| make()).collect();
    if engines.is_empty() {
        return Err(Failure::new(ErrorKind::Unsupported, "this build has no engine")
            .with_hint("build with the feature `llama` or `candle`, or give one with Builder::engine"));
    }
    Ok(Arc::new(Engines::new(engines)))
}

/// The engine with this id: the daemon tells each of its workers which engine to run.
///
/// # Errors
/// `Unsupported`: this build has no engine with this id.
pub fn engine_named(id: &EngineId) -> Result<Arc<dyn Engine>, Failure> {
    let has_id = |engine: &Arc<dyn Engine>| engine.engines().iter().any(|known| known.id == *id);
    ENGINES.iter().map(|make| make()).find(has_id).ok_or_else(|| {
        Failure::new(ErrorKind::Unsupported, format!("this build has no engine {id}"))
            .with_hint("give the workers a program that was built with it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "llama", feature = "candle"))]
    #[test]
    fn each_engine_of_the_build_is_found_by_its_id() {
        for known in default_engine().expect("an engine").engines() {
            let named = engine_named(&known.id).expect("it is of this build");
            assert_eq!(named.engines().len(), 1, "{}", known.id);
            assert_eq!(named.engines()[0].id, known.id);
        }
    }

    #[test]
    fn an_engine_that_the_build_lacks_is_refused_by_its_id() {
        let failure = engine_named(&EngineId::new("steam")).map(drop).expect_err("it is unknown");
        assert_eq!(failure.kind, ErrorKind::Unsupported);
        assert!(failure.message.contains("steam") && failure.hint.is_some(), "{failure:?}");
    }
}
