//! Models of the store through the façade, on the fake engine and a hub of our own: fetched once, kept, found
//! again by another process and without a network.

use std::sync::Arc;
use std::time::Duration;

use samovar::store::{AdoptKind, AdoptOptions, AdoptRoot, Progress, StoreConfig};
use samovar::{
    AnswerEvent, Budget, CacheStatus, CreateFrom, Message, ModelSettings, Origin, PackOptions, PoolConfig,
    Preset, Request, Runtime, SamplingOptions, TemplateOrigin, VariantForm, Verdict, Wait, WarmOptions,
};
use samovar_core::model::ArtifactRef;
use samovar_core::port::Capabilities;
use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{Digest, ErrorKind, Failure, ModelRef, Sampling};
use samovar_testhub::{Content, FileSpec, Hub, Repo};

const MODEL: &str = "hf://test/tiny:Q8_0";
const FILE: &str = "tiny-Q8_0.gguf";

struct Fixture {
    hub: Hub,
    home: tempfile::TempDir,
}

impl Fixture {
    /// A hub with one model, and an empty home.
    async fn new() -> Self {
        let hub = Hub::start().await;
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        hub.add_repo("test/tiny").put(FILE, fs_err::read(demo).expect("the demo model"));
        Self { hub, home: tempfile::tempdir().expect("tempdir") }
    }

    fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.home.path().join("cache"), self.home.path().join("state"));
        config.sources.hub_endpoint = Some(self.hub.endpoint());
        config.min_free_bytes = 0;
        config
    }

    fn runtime_with(engine: FakeEngine, config: StoreConfig, budget_bytes: u64) -> Runtime {
        let budget = Budget { bytes: budget_bytes, source: "a test".into() };
        Runtime::builder()
            .store(config)
            .pool(PoolConfig::with_budget(budget))
            .engine(Arc::new(engine))
            .alias("writer", MODEL.parse::<ModelRef>().expect("a reference"), ModelSettings::default())
            .build()
            .expect("builds")
    }

    fn runtime(&self) -> Runtime {
        Self::runtime_with(FakeEngine::new(), self.config(), 1 << 30)
    }

    fn sent_bytes(&self) -> u64 {
        self.hub.sent().of(&format!("test/tiny/{FILE}"))
    }

    fn size() -> u64 {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        fs_err::metadata(demo).expect("the demo model").len()
    }
}

fn ask(model: &str) -> Request {
    Request::chat(model, [Message::user("Hello")]).max_tokens(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_model_is_fetched_for_the_first_request_and_found_by_the_next() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let (_, first) = runtime.generate(ask(MODEL)).collect().await.expect("answers");
    let (_, second) = runtime.generate(ask("test/tiny:Q8_0")).collect().await.expect("answers");
    assert_eq!((first.tier, second.tier), (CacheStatus::Fetched, CacheStatus::Hit));
    assert!(first.timings.fetch_ms > 0.0 && second.timings.fetch_ms == 0.0);
    let stats = runtime.stats().await;
    assert_eq!((stats.tiers.l3.hits, stats.pool.loads), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_fetched_and_not_loaded() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let (told, mut waits) = tokio::sync::mpsc::channel(1_000);
    let took_ms = runtime.fetch("writer", WarmOptions::default().waits(told)).await.expect("fetches");
    assert!(took_ms.is_some_and(|ms| ms > 0.0), "{took_ms:?}");
    assert!(matches!(waits.try_recv(), Ok(Wait::Fetching(_))));
    let stats = runtime.stats().await;
    assert_eq!((stats.tiers.l3.hits, stats.pool.loads), (1, 0));
    let again = runtime.fetch(MODEL, WarmOptions::default()).await.expect("is here");
    assert_eq!(again, None);
    assert!(runtime.fetch("hf://test/none:Q8_0", WarmOptions::default()).await.is_err(), "it is nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_of_a_repository_is_fetched_and_prepared_for_the_first_request_to_its_name() {
    let fixture = Fixture::new().await;
    let poet = fixture.hub.add_repo("test/poet");
    for file in ["adapter_config.json", "adapter_model.safetensors", "README.md"] {
        poet.put(file, file.as_bytes().to_vec());
    }
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder()
        .script(script)
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let adapter = "hf://test/poet:0.5".parse().expect("an adapter");
    let runtime = Runtime::builder()
        .store(fixture.config())
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() }))
        .engine(Arc::new(engine.clone()))
        .alias("poet", "demo".parse().expect("a reference"), ModelSettings::default().adapters([adapter]))
        .build()
        .expect("builds");
    for _ in 0..2 {
        runtime.generate(ask("poet")).collect().await.expect("answers");
    }
    assert_eq!(engine.counts().preparations_finished, 1);
    let sent = fixture.hub.sent();
    assert!(sent.of("test/poet/adapter_config.json") > 0 && sent.of("test/poet/README.md") == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_safetensors_is_prepared_once_it_is_fetched_and_leaves_with_what_was_made_of_it() {
    const PUBLISHED: &str = "test/published";
    let fixture = Fixture::new().await;
    let repository = fixture.hub.add_repo(PUBLISHED);
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        repository.put(file, file.as_bytes().to_vec());
    }
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).gate_packs().build();
    let runtime = Fixture::runtime_with(engine.clone(), fixture.config(), 1 << 30);
    let (told, mut waits) = tokio::sync::mpsc::channel(1_000);
    let (mut fetched, mut prepared) = (false, false);
    let hear = async {
        while let Some(wait) = waits.recv().await {
            fetched |= matches!(wait, Wait::Fetching(_));
            if matches!(wait, Wait::Preparing(_)) {
                prepared = true;
                engine.packs_gate().open();
            }
        }
    };
    let (took, ()) = tokio::join!(runtime.fetch(PUBLISHED, WarmOptions::default().waits(told)), hear);
    assert!(took.expect("is prepared").is_some() && fetched && prepared);
    let names: Vec<String> = runtime.models().await.into_iter().map(|model| model.name).collect();
    assert!(names.contains(&PUBLISHED.to_owned()), "{names:?}");
    let usage = runtime.disk_use().await.expect("is looked at");
    assert_eq!(usage.prepared, 1);
    runtime.remove(PUBLISHED).await.expect("is removed");
    let usage = runtime.disk_use().await.expect("is looked at");
    assert_eq!((usage.prepared, usage.prepared_bytes), (0, 0));
    // The number format that its owner chooses is the model's own, also of a newer commit.
    let options = samovar::PrepareOptions::default().quantization(samovar::Quantization::Q8_0);
    runtime.prepare(PUBLISHED, options).await.expect("is fetched and prepared");
    repository.put("model.safetensors", b"other weights".to_vec());
    assert!(!runtime.pull(PUBLISHED, None).await.expect("asks its source").was_here);
    let newer = runtime.prepare(PUBLISHED, samovar::PrepareOptions::default()).await.expect("is prepared");
    assert!(newer.quantization == samovar::Quantization::Q8_0 && newer.took_ms.is_some(), "{newer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runtime_finds_it_without_a_network() {
    let fixture = Fixture::new().await;
    fixture.runtime().generate(ask(MODEL)).collect().await.expect("answers");
    let sent = fixture.sent_bytes();
    let mut config = fixture.config();
    config.sources.is_offline = true;
    let other = Fixture::runtime_with(FakeEngine::new(), config, 1 << 30);
    let (_, summary) = other.generate(ask(MODEL)).collect().await.expect("answers offline");
    assert_eq!(summary.tier, CacheStatus::Cold);
    assert_eq!(fixture.sent_bytes(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_first_requests_fetch_once() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let answers: Vec<_> = (0..10).map(|_| runtime.generate(ask(MODEL))).collect();
    for answer in answers {
        answer.collect().await.expect("answers");
    }
    // Each may have looked at the header; the whole came once.
    assert_eq!(runtime.stats().await.tiers.l3.hits, 1);
    assert_eq!(runtime.stats().await.pool.loads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_model_packed_hears_of_the_fetch_before() {
    let fixture = Fixture::new().await;
    let script = Script { packing: Some("this machine".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let runtime = Fixture::runtime_with(engine.clone(), fixture.config(), 1 << 30);
    let (told, mut waits) = tokio::sync::mpsc::channel(1_000);
    // It measures nothing, which is said at the end.
    let failure = runtime.pack(MODEL, PackOptions::default().waits(told)).await.expect_err("no figures");
    assert_eq!((failure.kind, engine.counts().packs_finished), (ErrorKind::EngineFailed, 1));
    let mut heard = Vec::new();
    while let Some(wait) = waits.recv().await {
        heard.push(wait);
    }
    assert!(heard.contains(&Wait::Fetching(Progress::Resolving)), "{heard:?}");
    assert!(heard.iter().any(|wait| matches!(wait, Wait::Fetching(Progress::Fetching(_)))), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_hears_of_the_fetch() {
    let fixture = Fixture::new().await;
    let mut answer = fixture.runtime().generate(ask(MODEL));
    let mut heard = Vec::new();
    while let Some(event) = answer.next().await {
        if let AnswerEvent::Waiting(Wait::Fetching(progress)) = event {
            heard.push(progress);
        }
    }
    assert!(heard.contains(&Progress::Resolving), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_can_never_fit_is_refused_by_its_header_alone() {
    let fixture = Fixture::new().await;
    let small = Fixture::runtime_with(FakeEngine::new(), fixture.config(), 1 << 20);
    let failure = small.generate(ask(MODEL)).collect().await.expect_err("too large");
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{failure:?}");
    assert!(failure.message.contains("nothing was fetched"), "{failure:?}");
    let store = small.store().await.expect("opens");
    assert!(store.list().expect("lists").is_empty());
}

/// A budget that some of [`add_variants`] fit.
const FEW: u64 = 64 << 20;

/// A repository of one model in several quantizations. The header of the smallest is sound; the largest are never fetched.
fn add_variants(hub: &Hub) -> Repo {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
    let unread = |mib: u64| {
        FileSpec::new(Content::pattern(mib << 20, mib)).with_digest(Digest::of_bytes(&mib.to_le_bytes()))
    };
    let repo = hub.add_repo("test/many");
    repo.put("many-Q4_K_M.gguf", fs_err::read(demo).expect("the demo model"));
    repo.put("many-Q6_K.gguf", Content::pattern(12 << 20, 1));
    repo.put("many-Q8_0.gguf", unread(200)).put("many-F16.gguf", unread(400));
    repo
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_judged_at_its_source_by_the_header_of_one_variant() {
    let fixture = Fixture::new().await;
    add_variants(&fixture.hub);
    let runtime = Fixture::runtime_with(FakeEngine::new(), fixture.config(), FEW);
    let outlook = runtime.outlook("test/many", None).await.expect("is judged");
    let sent = fixture.hub.sent();
    assert_eq!(sent.files.keys().collect::<Vec<_>>(), ["test/many/many-Q4_K_M.gguf"]);
    assert!(sent.body_bytes <= 512 << 10, "{} bytes for a header", sent.body_bytes);
    let judged = outlook.variants.iter();
    let judged: Vec<_> =
        judged.map(|found| (found.quantization.as_str(), found.verdict, found.is_recommended)).collect();
    let expected = [
        ("F16", Verdict::Never, false),
        ("Q8_0", Verdict::Never, false),
        ("Q6_K", Verdict::FitsNow, true),
        ("Q4_K_M", Verdict::FitsNow, false),
    ];
    assert_eq!(judged, expected);
    let reason = "Q6_K: the largest of 4 variants that fits in 67.1 MB with 512 tokens";
    assert_eq!(outlook.reason.as_deref(), Some(reason));
    let fitting = &outlook.variants[2];
    assert_eq!((fitting.command.as_str(), fitting.bytes), ("samovar pull hf://test/many:Q6_K", 12 << 20));
    assert_eq!(fitting.missing_bytes, fitting.bytes);
    // 4,096 and 32,768 tokens are more than it was trained with.
    assert_eq!(fitting.memory.iter().map(|memory| memory.context_tokens).collect::<Vec<_>>(), [512]);
    let one = runtime.outlook("test/many:Q4_K_M", None).await.expect("is judged");
    assert!(one.variants.len() == 1 && one.variants[0].is_recommended, "{one:?}");
    assert!(runtime.store().await.expect("opens").list().expect("lists").is_empty(), "nothing was fetched");
    let nothing = runtime.outlook("demo", None).await.expect_err("is here");
    assert_eq!(nothing.kind, ErrorKind::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_a_quantization_means_the_largest_that_fits_and_keeps_meaning_it() {
    const CHOSEN: &str = "hf://test/many:Q6_K";
    let fixture = Fixture::new().await;
    let repo = add_variants(&fixture.hub);
    let runtime = Fixture::runtime_with(FakeEngine::new(), fixture.config(), FEW);
    let (sender, heard) = std::sync::mpsc::sync_channel(1_000);
    let watch = Arc::new(move |progress| drop(sender.try_send(progress)));
    let pulled = runtime.pull("test/many", Some(watch)).await.expect("pulls");
    assert_eq!(pulled.artifact.reference, CHOSEN);
    let is_told = |progress: &Progress| match progress {
        Progress::Chosen { reference, reason } => {
            reference == CHOSEN && reason.starts_with("Q6_K: the largest")
        }
        _ => false,
    };
    assert!(heard.try_iter().any(|progress| is_told(&progress)));
    // All would fit now, and what was chosen is not here any more.
    runtime.remove("test/many").await.expect("is removed");
    let larger = Fixture::runtime_with(FakeEngine::new(), fixture.config(), 1 << 40);
    assert_eq!(larger.pull("test/many", None).await.expect("pulls").artifact.reference, CHOSEN);
    // Its publisher takes it away: the name means what names meant that were never chosen for.
    repo.remove("many-Q6_K.gguf");
    let other = larger.pull("test/many", None).await.expect("pulls").artifact.reference;
    assert_eq!(other, "hf://test/many:Q4_K_M");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_chosen_for_a_name_is_meant_again_once_it_is_back() {
    let fixture = Fixture::new().await;
    add_variants(&fixture.hub);
    let runtime = Fixture::runtime_with(FakeEngine::new(), fixture.config(), FEW);
    let store = runtime.store().await.expect("opens");
    let name = "hf://test/many".parse::<ArtifactRef>().expect("a reference");
    let meant = || store.find(&name).expect("is looked up").map(|artifact| artifact.reference);
    for model in ["test/many", "test/many:Q4_K_M"] {
        runtime.pull(model, None).await.expect("pulls");
        assert_eq!(meant().as_deref(), Some("hf://test/many:Q6_K"));
    }
    runtime.remove("test/many:Q6_K").await.expect("is removed");
    assert_eq!(meant().as_deref(), Some("hf://test/many:Q4_K_M"), "what is here is used");
    runtime.pull("test/many:Q6_K", None).await.expect("pulls");
    assert_eq!(meant().as_deref(), Some("hf://test/many:Q6_K"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_prepared_of_a_published_model_is_judged_by_its_configuration() {
    let fixture = Fixture::new().await;
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
        "intermediate_size": 128, "max_position_embeddings": 256, "torch_dtype": "bfloat16"}"#;
    let weights = FileSpec::new(Content::pattern(100 << 20, 3)).with_digest(Digest::of_bytes(b"unread"));
    fixture.hub.add_repo("test/published").put("config.json", config).put("model.safetensors", weights);
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    // A model may have 85 % of it.
    let runtime = Fixture::runtime_with(engine.clone(), fixture.config(), 80 << 20);
    let outlook = runtime.outlook("test/published", None).await.expect("is judged");
    let sent_bytes = fixture.hub.sent().body_bytes;
    assert!(sent_bytes <= (64 << 10) + config.len() as u64, "{sent_bytes}");
    let judged = outlook.variants.iter();
    let judged: Vec<_> =
        judged.map(|found| (found.form, found.quantization.as_str(), found.verdict)).collect();
    let expected = [
        (VariantForm::Published, "BF16", Verdict::Unknown),
        (VariantForm::Prepared, "F16", Verdict::Never),
        (VariantForm::Prepared, "Q8_0", Verdict::FitsNow),
        (VariantForm::Prepared, "Q6_K", Verdict::FitsNow),
        (VariantForm::Prepared, "Q5_K_M", Verdict::FitsNow),
        (VariantForm::Prepared, "Q4_K_M", Verdict::FitsNow),
    ];
    assert_eq!(judged, expected);
    let best = &outlook.variants[2];
    assert!(best.is_recommended && best.usual.is_some_and(|usual| usual.context_tokens == 256), "{best:?}");
    assert_eq!(best.command, "samovar pull test/published --quantize Q8_0");
    // A fetch keeps that for the preparation, and a larger budget changes nothing of it.
    let said = |progress: Progress| match progress {
        Progress::Chosen { reason, .. } => Some(reason),
        _ => None,
    };
    let (sender, heard) = std::sync::mpsc::sync_channel(1_000);
    let watch = Arc::new(move |progress| drop(sender.try_send(progress)));
    runtime.choose("test/published", Some(watch)).await.expect("is chosen");
    let reason = heard.try_iter().find_map(said).expect("says why");
    assert!(reason.starts_with("Q8_0: the most exact format that fits"), "{reason}");
    let larger = |defaults: ModelSettings| {
        let budget = Budget { bytes: 200 << 20, source: "a test".into() };
        let builder = Runtime::builder().store(fixture.config()).pool(PoolConfig::with_budget(budget));
        builder.engine(Arc::new(engine.clone())).defaults(defaults).build().expect("builds")
    };
    let q6_k = ModelSettings::default().quantization(samovar::Quantization::Q6K);
    for (settings, format, why) in
        [(ModelSettings::default(), "Q8_0", "since it was chosen"), (q6_k, "Q6_K", "settings say so")]
    {
        let outlook = larger(settings).outlook("test/published", None).await.expect("is judged");
        assert_eq!(outlook.variants[1].verdict, Verdict::FitsNow, "F16 would fit");
        let meant = outlook.variants.iter().find(|found| found.is_recommended).expect("one is meant");
        assert_eq!(meant.quantization, format);
        assert!(outlook.reason.as_ref().is_some_and(|reason| reason.ends_with(why)), "{:?}", outlook.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_model_that_could_never_be_loaded_is_not_fetched_for_a_request() {
    let fixture = Fixture::new().await;
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
        "intermediate_size": 128, "max_position_embeddings": 256, "torch_dtype": "bfloat16"}"#;
    let weights = FileSpec::new(Content::pattern(100 << 20, 3)).with_digest(Digest::of_bytes(b"unread"));
    fixture.hub.add_repo("test/published").put("config.json", config).put("model.safetensors", weights);
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let runtime = Fixture::runtime_with(engine.clone(), fixture.config(), 20 << 20);
    let failure = runtime.generate(ask("test/published")).collect().await.expect_err("too large");
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{failure:?}");
    assert!(
        failure.message.contains("F16") && failure.message.contains("nothing was fetched"),
        "{failure:?}"
    );
    assert!(
        fixture.hub.sent().of("test/published/model.safetensors") <= 2 * (64 << 10),
        "only its beginning"
    );
    // Neither is one for an order that its settings contradict.
    let set = ModelSettings::default().quantization(samovar::Quantization::Q8_0);
    let set = Runtime::builder()
        .store(fixture.config())
        .defaults(set)
        .engine(Arc::new(engine))
        .build()
        .expect("builds");
    let order = samovar::PrepareOptions::default().quantization(samovar::Quantization::F16);
    let failure = set.prepare("test/published", order).await.expect_err("is contradicted");
    assert_eq!(failure.param.as_deref(), Some("quantization"), "{failure:?}");
    assert!(runtime.store().await.expect("opens").list().expect("lists").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_says_why_the_usual_format_is_taken_unless_the_owner_said_it() {
    let fixture = Fixture::new().await;
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
        "intermediate_size": 128, "max_position_embeddings": 256, "torch_dtype": "bfloat16"}"#;
    let weights = FileSpec::new(Content::pattern(1 << 20, 3));
    fixture.hub.add_repo("test/published").put("config.json", config).put("model.safetensors", weights);
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let chosen = async |settings: ModelSettings| {
        let budget = Budget { bytes: 200 << 20, source: "a test".into() };
        let builder = Runtime::builder().store(fixture.config()).pool(PoolConfig::with_budget(budget));
        let runtime = builder.engine(Arc::new(engine.clone())).defaults(settings).build().expect("builds");
        let (sender, heard) = std::sync::mpsc::sync_channel(1_000);
        let watch = Arc::new(move |progress| drop(sender.try_send(progress)));
        runtime.choose("test/published", Some(watch)).await.expect("is chosen");
        let said = |progress: Progress| match progress {
            Progress::Chosen { reason, .. } => Some(reason),
            _ => None,
        };
        heard.try_iter().find_map(said)
    };
    let said = chosen(ModelSettings::default()).await.expect("says why");
    assert!(said.starts_with("F16: the most exact format that fits"), "{said}");
    let set = ModelSettings::default().quantization(samovar::Quantization::Q8_0);
    assert_eq!(chosen(set).await, None);
    let candle = ModelSettings::default().engine(samovar::EngineChoice::Candle);
    assert_eq!(chosen(candle).await, None, "it is not prepared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_the_model_can_not_have_is_refused_by_its_header_alone() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let failure = runtime.generate(ask(MODEL).context_tokens(513)).collect().await.expect_err("has 512");
    assert_eq!(
        (failure.kind, failure.param.as_deref()),
        (ErrorKind::InvalidRequest, Some("context_tokens")),
        "{failure:?}"
    );
    let store = runtime.store().await.expect("opens");
    assert!(store.list().expect("lists").is_empty(), "nothing was fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_name_only_what_is_here_already() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let mut stranger = ask(MODEL);
    stranger.common.origin = Origin::Network;
    let failure = runtime.generate(stranger.clone()).collect().await.expect_err("not here");
    assert_eq!(failure.kind, ErrorKind::NotFound);
    assert!(failure.hint.is_some_and(|hint| hint.contains("samovar pull")));
    assert_eq!(fixture.hub.requests().len(), 0, "no address out of a request is asked");
    runtime.generate(ask(MODEL)).collect().await.expect("the owner may");
    runtime.generate(stranger).collect().await.expect("now it is here");
    assert!(runtime.models().await.iter().any(|model| model.name == "test/tiny:Q8_0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_the_owner_may_be_fetched_for_strangers() {
    let fixture = Fixture::new().await;
    let mut stranger = ask("writer");
    stranger.common.origin = Origin::Network;
    let (_, summary) = fixture.runtime().generate(stranger).collect().await.expect("answers");
    assert_eq!(summary.tier, CacheStatus::Fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_model_cannot_be_removed_and_one_unloaded_can() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    runtime.generate(ask(MODEL)).collect().await.expect("answers");
    let store = runtime.store().await.expect("opens");
    let key = store.list().expect("lists")[0].key_digest;
    let refusal = store.remove(&key).expect_err("it is mapped");
    assert_eq!(refusal.kind(), ErrorKind::Busy, "{refusal}");
    runtime.unload(MODEL).await.expect("unloads");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.remove(&key).is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the lease ends with the instance");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.list().expect("lists").is_empty());
    let (_, again) = runtime.generate(ask(MODEL)).collect().await.expect("fetched again");
    assert_eq!(again.tier, CacheStatus::Fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_model_is_fetched_leased_and_brought_again_with_its_model() {
    let fixture = Fixture::new().await;
    let runtime = Runtime::builder()
        .store(fixture.config())
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() }))
        .engine(Arc::new(FakeEngine::new()))
        .alias("pair", "demo".parse().expect("a reference"), ModelSettings::default().draft(MODEL))
        .build()
        .expect("builds");
    // The owner wrote its name, so it may be fetched for any client.
    let asked = || ask("pair").origin(Origin::Network);
    let (_, summary) = runtime.generate(asked()).collect().await.expect("answers");
    assert_eq!(summary.tier, CacheStatus::Fetched);
    assert_eq!(runtime.stats().await.pool.loads, 1);
    let store = runtime.store().await.expect("opens");
    let draft = || {
        let here = store.list().expect("lists");
        here.into_iter().find(|artifact| artifact.reference == MODEL).expect("is here").key_digest
    };
    let refusal = store.remove(&draft()).expect_err("it is mapped");
    assert_eq!(refusal.kind(), ErrorKind::Busy, "{refusal}");
    runtime.unload("pair").await.expect("unloads");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.remove(&draft()).is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the lease ends with the instance");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (_, again) = runtime.generate(asked()).collect().await.expect("fetched again");
    assert_eq!(again.tier, CacheStatus::Fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_twin_was_removed_still_loads() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    // The hub's file has the demo model's bytes: two artifacts, one blob.
    runtime.generate(ask("demo")).collect().await.expect("answers");
    runtime.unload("demo").await.expect("unloads");
    runtime.generate(ask(MODEL)).collect().await.expect("answers");
    runtime.unload(MODEL).await.expect("unloads");
    let store = runtime.store().await.expect("opens");
    let twins = store.list().expect("lists");
    let twin = twins.iter().find(|artifact| artifact.reference == MODEL).expect("is here").key_digest;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.remove(&twin).is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the lease ends with the instance");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runtime.generate(ask("demo")).collect().await.expect("the demo is still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_was_measured_to_hold_is_known_to_the_next_life() {
    let fixture = Fixture::new().await;
    fixture.runtime().generate(ask(MODEL)).collect().await.expect("answers");
    let runtime = fixture.runtime();
    let artifact = runtime.store().await.expect("opens").list().expect("lists").remove(0);
    assert_eq!(artifact.usage.loads, 1);
    assert!(artifact.usage.footprint.total_bytes() > 0);
    let info = runtime.model(MODEL, Origin::Owner).await.expect("is here");
    assert_eq!(info.predicted_bytes, artifact.usage.footprint.total_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_loads_fetch_once_and_never_fail() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    for _ in 0..1_000 {
        runtime.warm(MODEL, WarmOptions::default()).await.expect("loads");
        runtime.unload(MODEL).await.expect("unloads");
    }
    let stats = runtime.stats().await;
    assert_eq!((stats.pool.load_failures, stats.tiers.l3.hits), (0, 1));
    assert!(stats.tiers.l2.hit_rate().expect("was asked") > 0.99, "{:?}", stats.tiers);
    // The header was read ahead of the fetch to see whether the model fits; the whole came once.
    assert!(fixture.sent_bytes() < 4 * Fixture::size());
}

/// Changes a byte of the only model that the store has.
async fn damage(runtime: &Runtime) {
    use std::os::unix::fs::PermissionsExt;
    let store = runtime.store().await.expect("opens");
    let key = store.list().expect("lists")[0].key_digest;
    let path = store.look_at(&key).expect("is here").weights()[0].clone();
    let mut bytes = fs_err::read(&path).expect("reads");
    bytes[1_000] ^= 1;
    fs_err::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
    fs_err::write(&path, bytes).expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_meets_damage_has_the_model_brought_again_and_is_answered() {
    let cases = [
        (MODEL, Origin::Owner, CacheStatus::Fetched),
        // What its owner once had fetched, and a client of the network names.
        (MODEL, Origin::Network, CacheStatus::Fetched),
        ("demo", Origin::Owner, CacheStatus::Cold),
    ];
    for (model, origin, tier) in cases {
        let asked = || ask(model).origin(origin);
        let fixture = Fixture::new().await;
        let runtime = fixture.runtime();
        runtime.generate(ask(model)).collect().await.expect("answers");
        // Found at the next load of a daemon that knows the model …
        runtime.unload(model).await.expect("unloads");
        damage(&runtime).await;
        let (_, summary) = runtime.generate(asked()).collect().await.expect("is mended");
        assert_eq!(summary.tier, tier, "{model}, {origin:?}: the next load");
        // … and at the first look of one that does not.
        damage(&runtime).await;
        let (_, summary) = fixture.runtime().generate(asked()).collect().await.expect("is mended");
        assert_eq!(summary.tier, tier, "{model}, {origin:?}: the first look");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_a_read_only_store_that_fails_says_why() {
    let fixture = Fixture::new().await;
    fixture.runtime().generate(ask(MODEL)).collect().await.expect("answers");
    let mut config = fixture.config();
    config.read_only_dirs = vec![config.cache_dir.clone()];
    config.cache_dir = fixture.home.path().join("own");
    config.state_dir = fixture.home.path().join("own-state");
    let engine = FakeEngine::new();
    engine.fail_next_loads(1, Failure::new(ErrorKind::InvalidModel, "a tensor is missing"));
    let runtime = Fixture::runtime_with(engine, config, 1 << 30);
    let failure = runtime.generate(ask(MODEL)).collect().await.expect_err("cannot be loaded");
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    assert!(failure.message.contains("a tensor is missing"), "{failure:?}");
}

/// A folder of Ollama's with these weights, and a template and parameters of their author.
fn ollamas(fixture: &Fixture, weights: &[u8], params: &str) -> AdoptRoot {
    let root = fixture.home.path().join("ollama");
    let place = root.join("manifests/hf.co/org/name");
    for folder in [&root.join("blobs"), &place] {
        fs_err::create_dir_all(folder).expect("folder");
    }
    let layer = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of_bytes(bytes);
        fs_err::write(root.join(format!("blobs/sha256-{digest}")), bytes).expect("blob");
        serde_json::json!({
            "mediaType": format!("application/vnd.ollama.image.{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        })
    };
    let layers = [
        layer("model", weights),
        layer("template", b"<start_of_turn>user\n{{ .Prompt }}<end_of_turn>"),
        layer("params", params.as_bytes()),
    ];
    let manifest = serde_json::json!({ "schemaVersion": 2, "layers": layers });
    fs_err::write(place.join("Q8_0"), manifest.to_string()).expect("manifest");
    AdoptRoot::new(root, AdoptKind::Ollama)
}

/// A runtime that adopted them.
async fn with_ollamas(fixture: &Fixture, weights: &[u8], params: &str) -> Runtime {
    let runtime = fixture.runtime();
    let roots = vec![ollamas(fixture, weights, params)];
    let options = AdoptOptions { roots, ..AdoptOptions::default() };
    let adopted = runtime.store().await.expect("opens").adopt(&options).expect("adopts");
    assert!(adopted.skipped.is_empty(), "{adopted:?}");
    runtime
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_ollamas_brings_the_template_that_its_author_meant() {
    let fixture = Fixture::new().await;
    let weights = llama(LlamaShape::SMALLEST).build();
    let runtime = with_ollamas(&fixture, &weights, r#"{"stop": ["<end_of_turn>"]}"#).await;
    let info = runtime.model("hf.co/org/name:Q8_0", Origin::Owner).await.expect("is here");
    assert_eq!(info.chat_template, TemplateOrigin::BuiltIn("gemma".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authors_stop_strings_end_the_answers_of_requests_that_name_none() {
    let fixture = Fixture::new().await;
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
    let weights = fs_err::read(demo).expect("the demo model");
    let runtime = with_ollamas(&fixture, &weights, r#"{"stop": ["kettle"]}"#).await;
    // The fake engine says the last words of its prompt first.
    let ask = |stop: &[&str]| {
        let request =
            Request::text("hf.co/org/name:Q8_0", "once the fox and a kettle").stop(stop.iter().copied());
        request.sampling(Sampling::greedy()).max_tokens(6)
    };
    let (said, _) = runtime.generate(ask(&[])).collect().await.expect("answers");
    assert_eq!(said.trim(), "fox and a");
    let (said, _) = runtime.generate(ask(&["and"])).collect().await.expect("answers");
    assert_eq!(said.trim(), "fox");
    let (said, _) = runtime.generate(ask(&["teapots"])).collect().await.expect("answers");
    assert!(said.trim().starts_with("fox and a kettle"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authors_sampling_holds_where_a_request_says_nothing() {
    let fixture = Fixture::new().await;
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
    let weights = fs_err::read(demo).expect("the demo model");
    let runtime = with_ollamas(&fixture, &weights, r#"{"temperature": 0, "top_k": "many"}"#).await;
    let ask = || {
        let request = Request::text("hf.co/org/name:Q8_0", "once the fox and a kettle").max_tokens(32);
        request.sampling(SamplingOptions { seed: Some(1), ..SamplingOptions::default() })
    };
    let said = async |request: Request| runtime.generate(request).collect().await.expect("answers").0;
    let likeliest = said(ask().sampling(Sampling::greedy())).await;
    assert_eq!(said(ask()).await, likeliest);
    let hot = SamplingOptions { temperature: Some(2.0), seed: Some(1), ..SamplingOptions::default() };
    assert_ne!(said(ask().sampling(hot)).await, likeliest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_has_is_brought_and_pulled_without_a_fetch() {
    let fixture = Fixture::new().await;
    let mut config = fixture.config();
    config.neighbours = vec![ollamas(&fixture, &llama(LlamaShape::SMALLEST).build(), "{}")];
    config.sources.is_offline = true;
    let runtime = Fixture::runtime_with(FakeEngine::new(), config, 1 << 30);
    let name = "hf://org/name:Q8_0";
    let reference = runtime.source_of(name).await.expect("a name").expect("of the hub");
    runtime.bring(&reference, None).await.expect("is in the other program's folder");
    assert_eq!(runtime.stored(name).await.expect("reads").len(), 1);
    runtime.remove(name).await.expect("is removed");
    assert!(runtime.pull(name, None).await.expect("is there again").was_here);
    let absent = runtime.source_of("hf://org/other:Q8_0").await.expect("a name").expect("of the hub");
    assert_eq!(runtime.bring(&absent, None).await.expect_err("offline").kind, ErrorKind::Unavailable);
    assert_eq!(fixture.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_name_has_no_files_and_says_so() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let from = CreateFrom::Model("demo".to_owned());
    runtime.create("poet", from, Preset::default(), Origin::Owner).await.expect("creates");
    let pulled = runtime.pull("poet", None).await.expect_err("has no source").kind;
    let failure = runtime.verify(&["poet".to_owned()], false, None).await.expect_err("has no files");
    assert_eq!((pulled, failure.kind), (ErrorKind::InvalidRequest, ErrorKind::InvalidRequest));
    assert!(failure.message.contains("created") && failure.hint.is_some(), "{failure:?}");
    runtime.remove("poet").await.expect("the name goes");
    assert_eq!(runtime.pull("poet", None).await.expect_err("is unknown").kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_pulls_and_removes_a_model_by_any_of_its_names() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    let absent = runtime.remove("writer").await.expect_err("is not here");
    assert_eq!(absent.kind, ErrorKind::NotFound);
    let pulled = runtime.pull("writer", None).await.expect("pulls");
    assert_eq!((pulled.was_here, pulled.fetched_bytes), (false, Fixture::size()));
    assert!(runtime.pull(MODEL, None).await.expect("asks again").was_here);
    assert!(runtime.pull("demo", None).await.expect("is part of the program").was_here);
    assert_eq!(runtime.pull("nobody", None).await.expect_err("is unknown").kind, ErrorKind::NotFound);
    assert!(runtime.fetches().is_empty());
    assert_eq!(runtime.stored("test/tiny").await.expect("reads").len(), 1);

    runtime.warm("writer", WarmOptions::default()).await.expect("loads");
    let busy = runtime.remove("test/tiny").await.expect_err("is in use");
    assert_eq!(busy.kind, ErrorKind::Busy);
    assert!(busy.hint.is_some_and(|hint| hint.contains("unload")));
    runtime.shutdown(Duration::from_secs(5)).await;

    let runtime = fixture.runtime();
    let removed = runtime.remove("test/tiny").await.expect("is removed");
    assert_eq!((removed.reference.as_str(), removed.bytes), (MODEL, Fixture::size()));
    assert_eq!(runtime.remove(MODEL).await.expect_err("has gone").kind, ErrorKind::NotFound);
    assert_eq!(runtime.pull("./x.gguf", None).await.expect_err("is a file").kind, ErrorKind::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_fetched_is_listed_and_a_dropped_pull_is_resumed() {
    let fixture = Fixture::new().await;
    let runtime = fixture.runtime();
    fixture.hub.hold_after(&format!("test/tiny/{FILE}"), 1 << 16);
    let mut pull = Box::pin(runtime.pull(MODEL, None));
    let listed = async {
        loop {
            let fetches = runtime.fetches();
            if let Some(fetch) = fetches.first() {
                return fetch.reference.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let reference = tokio::select! {
        outcome = &mut pull => panic!("it is held: {outcome:?}"),
        reference = listed => reference,
    };
    assert_eq!(reference, MODEL);
    drop(pull);
    assert!(runtime.fetches().is_empty());
    fixture.hub.release(&format!("test/tiny/{FILE}"));
    assert!(!runtime.pull(MODEL, None).await.expect("goes on").was_here);
}
