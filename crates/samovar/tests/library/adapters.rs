//! Names that differ in their adapters alone: they answer differently and share what is loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar::store::StoreConfig;
use samovar::{Budget, ModelSettings, Origin, PoolConfig, Request, Runtime};
use samovar_core::port::{Capabilities, Engine};
use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_core::testing::gguf::{Writer, lora};
use samovar_core::{Adapter, Descriptor, ErrorKind, Failure, Sampling};

struct Fixture {
    home: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("tempdir") }
    }

    fn demo() -> Descriptor {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        samovar_core::format::gguf::inspect(Path::new(path)).expect("the demo model")
    }

    fn write(&self, name: &str, writer: &Writer) -> PathBuf {
        let path = self.home.path().join(name);
        fs_err::write(&path, writer.build()).expect("writes");
        path
    }

    /// A runtime with a store of its own, which asks no source.
    fn builder(&self) -> samovar::Builder {
        let mut config = StoreConfig::new(self.home.path(), self.home.path().join("state"));
        config.sources.is_offline = true;
        config.min_free_bytes = 0;
        let budget = Budget { bytes: 1 << 30, source: "a test".into() };
        Runtime::builder().store(config).pool(PoolConfig::with_budget(budget))
    }

    /// How many files lie in a folder of the store.
    fn count(&self, folder: &str) -> usize {
        let mut folders = vec![self.home.path().join(folder)];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() { folders.push(path) } else { count += 1 }
            }
        }
        count
    }

    /// A runtime in which each of these names is the demo model with an adapter.
    fn runtime(&self, engine: Option<Arc<dyn Engine>>, names: &[(&str, &Path, f32)]) -> Runtime {
        let builder = self.builder();
        let builder = match engine {
            Some(engine) => builder.engine(engine),
            None => builder,
        };
        let named = names.iter().fold(builder, |builder, (name, path, scale)| {
            let adapters = vec![Adapter { path: (*path).to_owned(), scale: *scale }];
            let settings = ModelSettings::default().adapters(adapters);
            builder.alias(*name, "demo".parse().expect("a reference"), settings)
        });
        named.build().expect("builds")
    }
}

fn story(model: &str) -> Request {
    Request::text(model, "Once upon a time").sampling(Sampling::greedy()).max_tokens(24)
}

async fn failure_of(runtime: &Runtime, model: &str) -> Failure {
    runtime.generate(story(model)).collect().await.expect_err("fails")
}

#[cfg(feature = "llama")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_over_one_base_share_it_and_answer_differently() {
    let fixture = Fixture::new();
    let adapter = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let names = [("poet", adapter.as_path(), 0.5), ("mild", &adapter, 0.25), ("plain", &adapter, 0.0)];
    let runtime = fixture.runtime(None, &names);
    let ask = async |model| runtime.generate(story(model)).collect().await.expect("answers").0;
    let [demo, poet, mild, plain] =
        [ask("demo").await, ask("poet").await, ask("mild").await, ask("plain").await];
    assert_eq!(plain, demo);
    assert!(poet != demo && mild != demo && poet != mild, "{demo:?}, {poet:?}, {mild:?}");
    let running: Vec<_> =
        ["demo", "poet", "mild", "poet"].map(|model| runtime.generate(story(model))).into_iter().collect();
    for (answer, expected) in running.into_iter().zip([&demo, &poet, &mild, &poet]) {
        assert_eq!(answer.collect().await.expect("answers").0, *expected);
    }
    let stats = runtime.stats().await;
    assert_eq!(stats.pool.loads, 1, "one load serves four names: {stats:?}");
    let info = runtime.model("poet", Origin::Network).await.expect("is known");
    assert_eq!(info.adapters, [format!("{}:0.5", adapter.display())]);
}

#[tokio::test]
async fn an_adapter_is_checked_when_its_name_is_used() {
    let fixture = Fixture::new();
    let engine = FakeEngine::builder()
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let good = fixture.write("good.gguf", &lora(&Fixture::demo(), 2));
    let other = fixture.write("other.gguf", &lora(&Descriptor { embedding_width: 64, ..Fixture::demo() }, 2));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
    let later = fixture.home.path().join("later.gguf");
    let names = [
        ("good", good.as_path(), 1.0),
        ("other", &other, 1.0),
        ("model", Path::new(model), 1.0),
        ("later", &later, 1.0),
    ];
    let runtime = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    for (name, kind, word) in [
        ("other", ErrorKind::InvalidModel, "shape"),
        ("model", ErrorKind::InvalidModel, "no LoRA adapter"),
        ("later", ErrorKind::NotFound, "later.gguf"),
    ] {
        let failure = failure_of(&runtime, name).await;
        assert_eq!(failure.kind, kind, "{name}: {failure:?}");
        assert!(failure.message.contains(word), "{name}: {failure:?}");
        assert!(failure.hint.is_some(), "{name}: {failure:?}");
    }
    assert_eq!(engine.counts().loads_started, 0);
    let listed: Vec<_> = runtime.models().await.into_iter().map(|model| model.name).collect();
    assert_eq!(listed, ["demo", "good"]);

    runtime.generate(story("good")).collect().await.expect("answers");
    fs_err::copy(&good, &later).expect("copies");
    runtime.generate(story("later")).collect().await.expect("its adapter has come");
    fs_err::copy(&other, &good).expect("copies");
    assert_eq!(failure_of(&runtime, "good").await.kind, ErrorKind::InvalidModel, "it was replaced");
    assert_eq!(engine.counts().loads_finished, 1, "one load serves both names");
}

#[tokio::test]
async fn adapters_of_all_names_over_a_model_are_promised_memory_before_they_are_attached() {
    let fixture = Fixture::new();
    let engine = FakeEngine::builder()
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let poet = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let bard = fixture.write("bard.gguf", &lora(&Fixture::demo(), 4));
    let bytes = |path| {
        samovar_core::format::gguf::inspect_adapter(path, &Fixture::demo()).expect("an adapter").tensor_bytes
    };
    let bare = Fixture::new().runtime(Some(Arc::new(engine.clone())), &[]);
    let bare = bare.spec("demo").await.expect("is known").footprint();
    let names = [("poet", poet.as_path(), 1.0), ("bard", &bard, 1.0)];
    let runtime = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    let promised = bare.held_bytes + bytes(&poet) + bytes(&bard);
    for name in ["demo", "poet", "bard"] {
        let spec = runtime.spec(name).await.expect("is known");
        assert_eq!(spec.footprint().held_bytes, promised, "{name}: its instances serve all three");
    }
    runtime.generate(story("demo")).collect().await.expect("answers");
    let pool = runtime.stats().await.pool;
    assert_eq!(pool.resident_bytes, promised + bare.mapped_bytes, "none was attached so far");
    // What cannot be attached is not counted.
    fs_err::write(&bard, "no adapter").expect("writes");
    failure_of(&runtime, "bard").await;
    let spec = runtime.spec("poet").await.expect("is known");
    assert_eq!(spec.footprint().held_bytes, bare.held_bytes + bytes(&poet));
}

#[tokio::test]
async fn engines_that_attach_no_adapters_say_so() {
    let fixture = Fixture::new();
    let adapter = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let engine: Arc<dyn Engine> = Arc::new(FakeEngine::new());
    let runtime = fixture.runtime(Some(engine), &[("poet", &adapter, 1.0)]);
    let failure = failure_of(&runtime, "poet").await;
    assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
    runtime.generate(story("demo")).collect().await.expect("answers without");
}

#[tokio::test]
async fn an_adapter_in_safetensors_is_prepared_once_for_all_names_that_have_it() {
    let fixture = Fixture::new();
    let script = Script { preparing: Some("version 1".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder()
        .script(script)
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let published = fixture.home.path().join("published");
    fs_err::create_dir(&published).expect("a folder");
    fs_err::write(published.join("adapter_config.json"), "{}").expect("writes");
    let names = [("poet", published.as_path(), 1.0), ("mild", &published, 0.5)];
    let runtime = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    let listed: Vec<_> = runtime.models().await.into_iter().map(|model| model.name).collect();
    assert_eq!(listed, ["demo", "mild", "poet"], "what is not prepared yet has its name all the same");
    let (one, other) =
        tokio::join!(runtime.generate(story("poet")).collect(), runtime.generate(story("mild")).collect());
    one.expect("answers");
    other.expect("answers");
    runtime.generate(story("poet")).collect().await.expect("answers");
    assert_eq!((engine.counts().preparations_started, engine.counts().loads_finished), (1, 1));
    assert_eq!(
        (fixture.count("prepared"), fixture.count("packing")),
        (2, 0),
        "the file, and what is known of it"
    );
    let info = runtime.model("mild", Origin::Network).await.expect("is known");
    assert_eq!(info.adapters, [format!("{}:0.5", published.display())]);
    let later = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    later.generate(story("mild")).collect().await.expect("answers");
    assert_eq!(engine.counts().preparations_started, 1, "it is kept");
    fs_err::write(published.join("adapter_config.json"), "{ }").expect("writes");
    later.generate(story("mild")).collect().await.expect("answers");
    assert_eq!(engine.counts().preparations_started, 2, "another adapter lies there now");
    drop(runtime);
    for version in 0..6 {
        let text = " ".repeat(version);
        fs_err::write(published.join("adapter_config.json"), format!("{{ {text} }}")).expect("writes");
        later.generate(story("mild")).collect().await.expect("answers");
    }
    assert!(
        fixture.count("prepared") <= 2 * 5,
        "of files that are gone, three stay and the one that was leased"
    );
    let busy = later.remove_prepared(Some(&published)).await.expect_err("is kept");
    assert!(busy.hint.is_some_and(|hint| hint.contains("samovar shutdown")), "{}", busy.message);
}

#[cfg(feature = "llama")]
mod published {
    use samovar::{AnswerEvent, Quantization};
    use samovar_core::ModelRef;
    use samovar_core::generation::TokenLogprob;
    use serde_json::{Map, Value, json};

    use super::*;

    const RANK: usize = 4;
    const ALPHA: usize = 8;
    /// What an adapter's tensors are called.
    const PREFIX: &str = "base_model.model.";

    /// A tensor by its name, with its sides.
    type Named = (String, Vec<usize>, Vec<f32>);

    fn demo_folder() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model"))
    }

    /// The value of an F16, by its definition.
    fn half(bits: u16) -> f32 {
        let (exponent, mantissa) = (i32::from((bits >> 10) & 0x1f), f32::from(bits & 0x3ff));
        let magnitude = if exponent == 0 {
            mantissa * 2_f32.powi(-24)
        } else {
            (1.0 + mantissa / 1024.0) * 2_f32.powi(exponent - 15)
        };
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    /// The tensors of the demo model, as it is published.
    fn demo_tensors() -> Vec<Named> {
        let bytes = fs_err::read(demo_folder().join("model.safetensors")).expect("is read");
        let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: Map<String, Value> = serde_json::from_slice(header).expect("a header");
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let mut tensors = Vec::new();
        for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let shape: Vec<usize> = entry["shape"].as_array().expect("a shape").iter().map(number).collect();
            let offsets = &entry["data_offsets"];
            let halves = data[number(&offsets[0])..number(&offsets[1])].as_chunks::<2>().0;
            let numbers = halves.iter().map(|bytes| half(u16::from_le_bytes(*bytes))).collect();
            tensors.push((name.clone(), shape, numbers));
        }
        tensors
    }

    fn write_tensors(path: &Path, tensors: &[Named]) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, shape, numbers) in tensors {
            let begin = data.len();
            data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            let place = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
            header.insert(name.clone(), place);
        }
        let header = Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs_err::write(path, bytes).expect("writes");
    }

    fn noise(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 16) as u16) / 65_536.0 * 0.4 - 0.2
        };
        (0..count).map(|_| next()).collect()
    }

    /// A folder with an adapter of random weights for all matrices of the attention, and one with the demo model into which it is
    /// merged in 32-bit floats.
    fn adapter_and_merged(home: &Path, said: &Value) -> (PathBuf, PathBuf) {
        let [adapter, merged] = ["adapter", "merged"].map(|name| home.join(name));
        for folder in [&adapter, &merged] {
            fs_err::create_dir(folder).expect("a folder");
        }
        let (mut pairs, mut tensors) = (Vec::new(), demo_tensors());
        for (seed, (name, shape, numbers)) in (1..).zip(&mut tensors) {
            let Some(layer) = name.strip_suffix("_proj.weight").filter(|layer| layer.contains("self_attn"))
            else {
                continue;
            };
            let (rows, columns) = (shape[0], shape[1]);
            let (first, second) = (noise(seed, RANK * columns), noise(seed + 1000, rows * RANK));
            for (place, number) in numbers.iter_mut().enumerate() {
                let (row, column) = (place / columns, place % columns);
                let sum: f32 = (0..RANK).map(|r| second[row * RANK + r] * first[r * columns + column]).sum();
                *number += sum * ALPHA as f32 / RANK as f32;
            }
            pairs.push((format!("{PREFIX}{layer}_proj.lora_A.weight"), vec![RANK, columns], first));
            pairs.push((format!("{PREFIX}{layer}_proj.lora_B.weight"), vec![rows, RANK], second));
        }
        assert_eq!(pairs.len(), 4 * 4 * 2, "four matrices of four blocks");
        write_tensors(&adapter.join("adapter_model.safetensors"), &pairs);
        fs_err::write(adapter.join("adapter_config.json"), said.to_string()).expect("writes");
        write_tensors(&merged.join("model.safetensors"), &tensors);
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            fs_err::copy(demo_folder().join(name), merged.join(name)).expect("copies");
        }
        (adapter, merged)
    }

    fn config() -> Value {
        json!({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": false})
    }

    /// The likeliest first tokens of a story.
    async fn first_tokens(runtime: &Runtime, model: &str) -> Vec<TokenLogprob> {
        let mut answer = runtime.generate(story(model).max_tokens(1).logprobs(20));
        while let Some(event) = answer.next().await {
            match event {
                AnswerEvent::Text { logprob: Some(logprob), .. } => return logprob.top,
                AnswerEvent::Failed(failure) => panic!("{failure:?}"),
                _ => {}
            }
        }
        panic!("`{model}` said nothing")
    }

    /// How far apart two models are in what the first holds likeliest.
    fn distance(one: &[TokenLogprob], other: &[TokenLogprob]) -> f32 {
        let of = |token: &TokenLogprob| {
            let same = other.iter().find(|candidate| candidate.token == token.token);
            same.map_or(f32::INFINITY, |same| (same.logprob - token.logprob).abs())
        };
        one.iter().take(5).map(of).fold(0.0, f32::max)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_model_with_a_prepared_adapter_answers_as_the_model_that_it_is_merged_into() {
        let fixture = Fixture::new();
        let models = tempfile::tempdir().expect("a folder");
        let (adapter, merged) = adapter_and_merged(models.path(), &config());
        let adapters = vec![Adapter { path: adapter, scale: 1.0 }];
        let as_published = ModelSettings::default().quantization(Quantization::AsPublished);
        let runtime = fixture
            .builder()
            .alias("poet", "demo".parse().expect("a reference"), ModelSettings::default().adapters(adapters))
            .alias("merged", ModelRef::file(merged), as_published)
            .build()
            .expect("builds");
        let demo = first_tokens(&runtime, "demo").await;
        let poet = first_tokens(&runtime, "poet").await;
        let merged = first_tokens(&runtime, "merged").await;
        assert!(distance(&poet, &demo) > 0.5, "the adapter changes little: {poet:?} and {demo:?}");
        assert!(distance(&poet, &merged) < 0.05, "{poet:?} and {merged:?}");
        assert!(distance(&merged, &poet) < 0.05, "{merged:?} and {poet:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_adapter_that_gguf_cannot_hold_is_refused_by_its_name_and_leaves_nothing() {
        let fixture = Fixture::new();
        let models = tempfile::tempdir().expect("a folder");
        let mut said = config();
        said["use_dora"] = json!(true);
        let (adapter, _) = adapter_and_merged(models.path(), &said);
        let runtime = fixture.runtime(None, &[("poet", &adapter, 1.0)]);
        let failure = failure_of(&runtime, "poet").await;
        assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
        assert!(failure.message.contains("DoRA"), "{failure:?}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("merge")));
        assert_eq!((fixture.count("prepared"), fixture.count("packing")), (0, 0));
        runtime.generate(story("demo")).collect().await.expect("answers without");
    }
}
