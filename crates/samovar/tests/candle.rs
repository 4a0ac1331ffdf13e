//! Published models through the façade, run by candle as they are: chosen by the settings, or because they cannot be prepared.

#[path = "../../samovar-candle/tests/support/published.rs"]
mod published;

use std::path::Path;

use samovar::store::StoreConfig;
use samovar::{Budget, EngineChoice, ErrorKind, ModelSettings, Origin, PoolConfig, Request, Runtime};
use samovar_core::ModelRef;
use serde_json::json;
use tempfile::TempDir;

/// A runtime with one name, for the model in this folder, and the engines of this build.
fn runtime(home: &TempDir, folder: &Path, engine: EngineChoice) -> Runtime {
    let mut config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
    config.sources.is_offline = true;
    config.min_free_bytes = 0;
    let settings = ModelSettings::default().engine(engine).context_tokens(256).slots(2);
    let source = ModelRef::file(folder.to_owned());
    Runtime::builder()
        .store(config)
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() }))
        .alias("fox", source, settings)
        .build()
        .expect("builds")
}

#[tokio::test]
async fn a_model_is_run_as_it_is_where_its_name_says_so() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = published::published_decoder("LlamaForCausalLM", &json!({}));
    let runtime = runtime(&home, folder.path(), EngineChoice::Candle);
    let info = runtime.model("fox", Origin::Network).await.expect("it is known");
    assert_eq!(info.architecture, "llama");
    for _ in 0..2 {
        let request = Request::text("fox", "Once there was").max_tokens(8);
        let (text, _) = runtime.generate(request).collect().await.expect("answers");
        assert!(!text.is_empty());
    }
    let prepared = fs_err::read_dir(home.path().join("cache/prepared")).map_or(0, Iterator::count);
    assert_eq!(prepared, 0, "nothing was prepared");
}

#[tokio::test]
async fn a_folder_that_was_moved_is_run_where_it_is_now() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = published::published_decoder("LlamaForCausalLM", &json!({}));
    let mut config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
    config.sources.is_offline = true;
    config.min_free_bytes = 0;
    let runtime = Runtime::builder()
        .store(config)
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() }))
        .defaults(ModelSettings::default().engine(EngineChoice::Candle).context_tokens(256).slots(2))
        .build()
        .expect("builds");
    let before = folder.path().display().to_string();
    runtime.model(&before, Origin::Owner).await.expect("its headers are read");
    let moved = home.path().join("moved");
    fs_err::rename(folder.path(), &moved).expect("is moved");
    let request = Request::text(moved.display().to_string(), "Once there was").max_tokens(4);
    let (text, _) = runtime.generate(request).collect().await.expect("answers");
    assert!(!text.is_empty());
}

/// The converter refuses this stretching of Qwen2's rotations, and candle computes it.
#[tokio::test]
async fn a_model_that_cannot_be_prepared_is_run_as_it_is() {
    let home = tempfile::tempdir().expect("a folder");
    let scaling = json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}});
    let folder = published::published_decoder("Qwen2ForCausalLM", &scaling);
    let request = || Request::text("fox", "Once there was").max_tokens(4);
    let auto = runtime(&home, folder.path(), EngineChoice::Auto);
    let (text, _) = auto.generate(request()).collect().await.expect("answers");
    assert!(!text.is_empty());
    // With llama.cpp it is what it was.
    if cfg!(feature = "llama") {
        let other = tempfile::tempdir().expect("a folder");
        let refused = runtime(&other, folder.path(), EngineChoice::Llama).generate(request()).collect().await;
        assert_eq!(refused.expect_err("is not prepared").kind, ErrorKind::Unsupported);
    }
}

/// What llama.cpp computes of a prepared model, against what candle computes of it as it was published.
#[cfg(feature = "llama")]
mod both {
    use samovar::AnswerEvent;
    use samovar_core::Sampling;
    use samovar_core::generation::TokenLogprob;

    use super::*;

    /// How far apart both are in what they hold of a token, at most.
    const APART: f32 = 2e-2;
    const TOKENS: u32 = 64;

    async fn answer(folder: &Path, engine: EngineChoice) -> Vec<TokenLogprob> {
        let home = tempfile::tempdir().expect("a folder");
        let runtime = runtime(&home, folder, engine);
        let request = Request::text("fox", "Once there was").sampling(Sampling::greedy());
        let mut answer = runtime.generate(request.max_tokens(TOKENS).logprobs(5));
        let mut tokens = Vec::new();
        while let Some(event) = answer.next().await {
            match event {
                AnswerEvent::Text { logprob, .. } => tokens.extend(logprob),
                AnswerEvent::Failed(failure) => panic!("{failure:?}"),
                _ => {}
            }
        }
        tokens
    }

    async fn compare(what: &str, folder: &Path) {
        let prepared = answer(folder, EngineChoice::Llama).await;
        let published = answer(folder, EngineChoice::Candle).await;
        assert!(!prepared.is_empty(), "{what} says nothing");
        for (place, (one, other)) in prepared.iter().zip(&published).enumerate() {
            if one.token != other.token {
                // A near tie goes either way, and what follows is another text.
                let second = one.top.iter().find(|candidate| candidate.token == other.token);
                let gap = second.map_or(f32::INFINITY, |second| one.logprob - second.logprob);
                assert!(gap <= 2.0 * APART, "{what}, token {place}: {one:?} and {other:?}");
                return;
            }
            let apart = (one.logprob - other.logprob).abs();
            assert!(apart <= APART, "{what}, token {place}: {one:?} and {other:?}");
        }
        assert_eq!(prepared.len(), published.len(), "{what}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_demo_model_in_its_published_form_says_the_same_on_both_engines() {
        compare("the demo model", Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model")))
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn models_of_random_weights_say_the_same_on_both_engines() {
        // Without merges it would not be prepared.
        let mut tokenizer = published::byte_tokenizer();
        tokenizer["model"]["vocab"]["on"] = json!(260);
        tokenizer["model"]["merges"] = json!(["o n"]);
        let models = [
            ("LlamaForCausalLM", json!({})),
            ("Qwen2ForCausalLM", json!({})),
            ("Qwen3ForCausalLM", json!({"head_dim": 16})),
        ];
        for (class, more) in models {
            let (config, tensors) = published::decoder(class, &more);
            let folder = published::publish(&config, &tensors, &tokenizer, &published::chat_settings());
            compare(class, folder.path()).await;
        }
    }
}
