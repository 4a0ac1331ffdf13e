use std::fs::File;
use std::path::Path;

use super::*;
use crate::chat::{Chat, ToolChoice};
use crate::constraint::Constraint;
use crate::footprint::{Arrangement, Layout, LoadOptions, Speed};
use crate::generation::{Completion, Delta, FinishReason, GenerationRequest, Prompt, Sampling, TokenEvent};
use crate::model::ModelFiles;
use crate::port::PackedFile;
use crate::testing::conformance::{Subject, a_gap_has_its_marks_and_no_others};

const LIMIT: Duration = Duration::from_secs(20);

fn load(engine: &FakeEngine) -> Arc<dyn Instance> {
    try_load(engine, &LoadControl::silent()).unwrap()
}

fn try_load(engine: &FakeEngine, control: &LoadControl) -> Result<Arc<dyn Instance>, Failure> {
    let (files, descriptor) = (ModelFiles::of("m.gguf"), FakeEngine::descriptor("m", 1000));
    engine.load(LoadRequest::new(&files, &descriptor, &FakeEngine::options(), control))
}

/// Packs the model `m` of the source `s`.
fn pack(engine: &FakeEngine, into: &File, control: &LoadControl) -> Result<u64, Failure> {
    let (files, descriptor) = (ModelFiles::of("m"), FakeEngine::descriptor("m", 1000));
    engine.pack(PackRequest { files: &files, descriptor: &descriptor, source: "s", into, control })
}

fn ask(text: &str) -> GenerationRequest {
    let prompt = Prompt::Text { text: text.into(), add_special: true, parse_special: false };
    GenerationRequest { sampling: Sampling::greedy(), ..GenerationRequest::new(prompt) }
}

fn answer(instance: &Arc<dyn Instance>, request: GenerationRequest) -> (String, Option<Completion>) {
    let mut generation = instance.generate(request).unwrap();
    let (mut text, mut done) = (String::new(), None);
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Token { text: part, .. } => text.push_str(&part),
            TokenEvent::Done(completion) => done = Some(completion),
            TokenEvent::Prefilling { .. }
            | TokenEvent::Prefilled { .. }
            | TokenEvent::Deltas { .. }
            | TokenEvent::Embedded(_)
            | TokenEvent::Failed(_) => (),
        }
    }
    (text, done)
}

#[test]
fn the_answer_repeats_the_prompts_words_and_is_the_same_each_time() {
    let instance = load(&FakeEngine::new());
    let (text, done) = answer(&instance, ask("a story about a fox"));
    assert!(text.contains("fox"), "{text:?}");
    assert_eq!(done.unwrap().finish, FinishReason::Stop);
    assert_eq!(answer(&instance, ask("a story about a fox")).0, text);
    assert_ne!(answer(&instance, ask("a story about a kettle")).0, text);
}

#[test]
fn a_model_whose_descriptor_has_marks_fills_gaps_in() {
    a_gap_has_its_marks_and_no_others(&Subject {
        engine: Arc::new(FakeEngine::new()),
        files: ModelFiles::of("m.gguf"),
        packed: None,
        descriptor: Descriptor { infill: Some(FakeEngine::INFILL), ..FakeEngine::descriptor("m", 1000) },
        options: FakeEngine::options(),
        tie_gap: 0.0,
    });
}

/// A conversation of a model with tools.
fn converse(messages: &str) -> GenerationRequest {
    let chat = Chat { tools: Some("[]".to_owned()), ..Chat::new(messages, 1) };
    GenerationRequest { prompt: Prompt::Chat(Box::new(chat)), ..ask("") }
}

/// What is added to an answer, and how it ends.
fn deltas(instance: &Arc<dyn Instance>, request: GenerationRequest) -> (Vec<Delta>, Completion) {
    let mut generation = instance.generate(request).unwrap();
    let mut all = Vec::new();
    loop {
        match generation.blocking_next().unwrap() {
            TokenEvent::Token { text, .. } => all.push(Delta::Text(text)),
            TokenEvent::Deltas { deltas, .. } => all.extend(deltas),
            TokenEvent::Done(completion) => return (all, completion),
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } => {}
            event @ (TokenEvent::Embedded(_) | TokenEvent::Failed(_)) => panic!("{event:?}"),
        }
    }
}

fn thinking(text: &str) -> Delta {
    Delta::Thinking(text.to_owned())
}

/// Two thoughts, then two calls.
fn thoughts_and_calls() -> [Vec<Delta>; 4] {
    let call = |index: u32| {
        let arguments = Delta::Arguments { index, text: "{}".to_owned() };
        vec![Delta::Call { index, id: format!("call_{index}"), name: "clock".to_owned() }, arguments]
    };
    [vec![thinking("so")], vec![thinking(" then")], call(0), call(1)]
}

fn thinker() -> Arc<dyn Instance> {
    let script = Script { deltas: thoughts_and_calls().into(), ..Script::default() };
    load(&FakeEngine::builder().script(script).build())
}

#[test]
fn a_conversation_hears_the_scripts_thoughts_and_calls_and_its_budgets_count() {
    let instance = thinker();
    let question = converse(r#"[{"role":"user","content":"the time?"}]"#);
    let (said, done) = deltas(&instance, question.clone());
    assert_eq!(said, thoughts_and_calls().concat());
    assert_eq!((done.finish, done.usage.completion_tokens), (FinishReason::ToolCalls, 4));
    assert_eq!(done.usage.thinking_tokens, 2);
    let (said, done) =
        deltas(&instance, GenerationRequest { thinking_budget_tokens: Some(1), ..question.clone() });
    assert_eq!((said[0].clone(), done.usage.thinking_tokens), (thinking("so"), 1));
    let (said, done) = deltas(&instance, GenerationRequest { max_tokens: Some(3), ..question.clone() });
    assert_eq!((said.len(), done.finish), (4, FinishReason::Length));
    let one_call = |chat: &mut Chat| chat.parallel_tool_calls = false;
    let no_call = |chat: &mut Chat| chat.tool_choice = ToolChoice::None;
    let with = |change: fn(&mut Chat)| {
        let mut request = question.clone();
        let Prompt::Chat(chat) = &mut request.prompt else { panic!("a conversation") };
        change(chat);
        deltas(&instance, request)
    };
    assert_eq!(with(one_call).0, thoughts_and_calls()[..3].concat());
    let (said, done) = with(no_call);
    assert!(matches!(&said[..3], [Delta::Thinking(_), Delta::Thinking(_), Delta::Text(_)]), "{said:?}");
    assert_eq!(done.finish, FinishReason::Stop);
}

#[test]
fn the_result_of_a_tool_is_answered_in_its_own_words() {
    let said = r#"[{"role":"user","content":"\"role\":\"tool\""},{"role":"tool","content":"noon"}]"#;
    let (said, done) = deltas(&thinker(), converse(said));
    assert!(said.iter().all(|delta| matches!(delta, Delta::Text(_))), "{said:?}");
    assert_eq!(done.finish, FinishReason::Stop);
}

#[test]
fn a_constraint_is_answered_by_json_or_by_the_script_or_refused() {
    let constrained = |instance: &Arc<dyn Instance>, constraint: Constraint| {
        let sampling = Sampling { temperature: 2.0, ..Sampling::default() };
        let request = GenerationRequest { constraint: Some(constraint), sampling, ..ask("a fox") };
        answer(instance, GenerationRequest { ignore_eos: true, ..request }).0
    };
    let instance = load(&FakeEngine::new());
    assert_eq!(constrained(&instance, Constraint::JsonObject), "{}");
    let regex = GenerationRequest { constraint: Some(Constraint::Regex("a".to_owned())), ..ask("a fox") };
    assert_eq!(instance.generate(regex).map(|_| ()).unwrap_err().kind, ErrorKind::InvalidRequest);
    let script = Script { constrained: Some("aé".to_owned()), ..Script::default() };
    let instance = load(&FakeEngine::builder().script(script).build());
    assert_eq!(constrained(&instance, Constraint::Regex("aé".to_owned())), "aé");
    // Thoughts come before it, and are not bound by it.
    let question = converse(r#"[{"role":"user","content":"the time?"}]"#);
    let json = GenerationRequest { constraint: Some(Constraint::JsonObject), ..question };
    let (said, _) = deltas(&thinker(), json);
    let text = |text: &str| Delta::Text(text.to_owned());
    assert_eq!(said, [thinking("so"), thinking(" then"), text("{"), text("}")]);
}

#[test]
fn a_gated_load_waits_and_can_be_cancelled() {
    let engine = FakeEngine::builder().gate_loads().build();
    let control = LoadControl::silent();
    let cancel = control.cancel_flag();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| try_load(&engine, &control).map(|_| ()));
        engine.blocking_wait_until(LIMIT, |counts| counts.loads_started == 1).unwrap();
        assert_eq!(engine.counts().loads_finished, 0);
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(loading.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    });
    assert_eq!(engine.counts().loads_cancelled, 1);
    engine.loads_gate().open();
    let instance = load(&engine);
    assert_eq!(engine.counts().live_instances, 1);
    drop(instance);
    assert_eq!(engine.counts().live_instances, 0);
}

#[test]
fn scripted_load_failures_run_out() {
    let engine = FakeEngine::new();
    engine.fail_next_loads(1, Failure::new(ErrorKind::EngineFailed, "no"));
    let attempt = || try_load(&engine, &LoadControl::silent());
    assert_eq!(attempt().err().map(|failure| failure.message), Some("no".to_owned()));
    assert!(attempt().is_ok());
}

#[test]
fn a_dropped_receiver_frees_the_slot_even_at_a_closed_gate() {
    let engine = FakeEngine::builder().gate_tokens().build();
    let instance = load(&engine);
    let generation = instance.generate(ask("hello")).unwrap();
    engine.blocking_wait_until(LIMIT, |counts| counts.generations_running == 1).unwrap();
    assert_eq!(instance.measure().busy_slots, 1);
    drop(generation);
    engine.blocking_wait_until(LIMIT, |counts| counts.generations_cancelled == 1).unwrap();
    assert_eq!(instance.measure().busy_slots, 0);
}

#[test]
fn a_crash_ends_the_stream_without_a_word_and_the_instance_stays_dead() {
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let instance = load(&engine);
    let (_, done) = answer(&instance, ask("hello"));
    assert_eq!(done, None);
    assert_eq!(engine.counts().tokens, 3);
    assert_eq!(instance.probe().unwrap_err().kind, ErrorKind::EngineFailed);
    assert!(instance.generate(ask("hello")).is_err());
}

#[test]
fn a_hanging_instance_can_still_be_dropped() {
    let script = Script { hang_after_tokens: Some(2), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let instance = load(&engine);
    let generation = instance.generate(ask("hello")).unwrap();
    engine.blocking_wait_until(LIMIT, |counts| counts.tokens == 2).unwrap();
    drop(generation);
    drop(instance);
    assert_eq!(engine.counts().live_instances, 0);
}

#[test]
fn parking_gives_held_memory_back_and_refuses_requests() {
    let engine = FakeEngine::new();
    let instance = load(&engine);
    assert!(instance.measure().held_bytes > 0);
    instance.park().unwrap();
    assert_eq!(instance.measure().held_bytes, 0);
    assert_eq!(instance.generate(ask("hello")).map(|_| ()).unwrap_err().kind, ErrorKind::Unavailable);
    instance.resume(&FakeEngine::options()).unwrap();
    assert!(instance.generate(ask("hello")).is_ok());
    assert_eq!((engine.counts().parks, engine.counts().resumes), (1, 1));
}

#[test]
fn each_model_can_have_a_script_of_its_own() {
    let small = Footprint { held_bytes: 1, mapped_bytes: 2 };
    let script = Script { footprint: Some(small), ..Script::default() };
    let engine = FakeEngine::builder().script_for("small", script).build();
    let options = FakeEngine::options();
    assert_eq!(engine.footprint(&FakeEngine::descriptor("small", 9), &options), Ok(small));
    assert_ne!(engine.footprint(&FakeEngine::descriptor("other", 9), &options), Ok(small));
}

/// An engine that can pack `m`.
fn packer(packing: &str) -> FakeEngine {
    let script = Script { packing: Some(packing.to_owned()), ..Script::default() };
    FakeEngine::builder().script(script).build()
}

/// How a load comes out that is offered this packed file.
fn arrangement(engine: &FakeEngine, packed: Option<&Path>, source: &str) -> Arrangement {
    let files = ModelFiles::of("m");
    let options = LoadOptions { layout: Layout::Packed, ..FakeEngine::options() };
    let (descriptor, control) = (FakeEngine::descriptor("m", 1000), LoadControl::silent());
    let request = LoadRequest::new(&files, &descriptor, &options, &control);
    let request = request.with_packed(packed.map(|path| PackedFile { path, source }));
    engine.load(request).unwrap().arrangement()
}

#[test]
fn a_packed_file_serves_the_engine_and_the_source_it_was_made_for_and_no_other() {
    let engine = packer("here");
    let descriptor = FakeEngine::descriptor("m", 1000);
    assert_eq!(engine.packing(&descriptor).as_deref(), Some("here"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = pack(&engine, file.as_file(), &LoadControl::silent()).unwrap();
    assert_eq!(bytes, file.as_file().metadata().unwrap().len());
    let packed = Some(file.path());
    let as_packed = Arrangement { layout: Layout::Packed, refused: None };
    assert_eq!(arrangement(&engine, packed, "s"), as_packed);
    assert_eq!(arrangement(&engine, None, "s"), Arrangement::default());
    for (engine, source) in [(&packer("there"), "s"), (&engine, "another"), (&FakeEngine::new(), "s")] {
        let refused = arrangement(engine, packed, source);
        assert_eq!(refused.layout, Layout::Mapped);
        assert!(refused.refused.is_some());
    }
    let mut damaged = fs_err::read(file.path()).unwrap();
    damaged[70] ^= 1;
    fs_err::write(file.path(), damaged).unwrap();
    assert!(arrangement(&engine, packed, "s").refused.is_some());
    assert_eq!((engine.counts().packs_finished, engine.counts().packed_loads), (1, 1));
}

#[test]
fn a_gated_packing_waits_and_can_be_cancelled() {
    let script = Script { packing: Some("here".to_owned()), ..Script::default() };
    let engine = FakeEngine::builder().script(script).gate_packs().build();
    let file = tempfile::tempfile().unwrap();
    let control = LoadControl::silent();
    let cancel = control.cancel_flag();
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(&engine, &file, &control));
        engine.blocking_wait_until(LIMIT, |counts| counts.packs_started == 1).unwrap();
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(packing.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    });
    assert_eq!(engine.counts().packs_cancelled, 1);
    let refused = pack(&FakeEngine::new(), &file, &LoadControl::silent()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported);
}

#[test]
fn a_calibration_finds_what_its_files_allow() {
    let speed = |layout| Speed { layout, prefill: 1.0, decode: 1.0, decode_eight: 1.0, lacked: 0.0 };
    let speeds = vec![speed(Layout::Mapped), speed(Layout::Packed)];
    let script = Script { packing: Some("here".to_owned()), speeds: speeds.clone(), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let descriptor = FakeEngine::descriptor("m", 1000);
    let control = LoadControl::silent();
    let file = tempfile::NamedTempFile::new().unwrap();
    let calibrate = |packed: Option<PackedFile<'_>>| {
        let (files, options) = (ModelFiles::of("m"), FakeEngine::options());
        let request = LoadRequest::new(&files, &descriptor, &options, &control);
        engine.calibrate(request.with_packed(packed)).unwrap()
    };
    assert_eq!(calibrate(None), speeds[..1]);
    pack(&engine, file.as_file(), &control).unwrap();
    assert_eq!(calibrate(Some(PackedFile { path: file.path(), source: "s" })), speeds);
}

mod conformance {
    use std::sync::Arc;

    use super::FakeEngine;
    use crate::model::ModelFiles;
    use crate::testing::conformance::Subject;

    fn subject() -> Subject {
        Subject {
            engine: Arc::new(FakeEngine::new()),
            files: ModelFiles::of("fake.gguf"),
            packed: None,
            descriptor: FakeEngine::descriptor("fake", 1 << 20),
            options: FakeEngine::options(),
            tie_gap: 0.0,
        }
    }

    crate::engine_conformance!(subject());

    mod embedders {
        use super::{Arc, FakeEngine, Subject};
        use crate::embedding::Pooling;
        use crate::footprint::LoadOptions;

        fn subject(pooling: Pooling) -> Subject {
            Subject {
                engine: Arc::new(FakeEngine::builder().capabilities(FakeEngine::EMBEDS).build()),
                options: LoadOptions { pooling: Some(pooling), ..FakeEngine::options() },
                ..super::subject()
            }
        }

        crate::engine_conformance!(subject(Pooling::Mean));

        #[test]
        fn scores_of_pairs() {
            crate::testing::conformance::run_all(&subject(Pooling::Rank));
        }
    }
}

#[test]
fn a_draft_model_costs_its_weights_and_a_cache_of_its_own() {
    let (engine, descriptor) = (FakeEngine::new(), FakeEngine::descriptor("m", 1000));
    let alone = FakeEngine::options();
    let with_draft = LoadOptions { draft: Some(Box::new(FakeEngine::draft("d", 300))), ..alone.clone() };
    let [alone, both] = [alone, with_draft].map(|options| engine.footprint(&descriptor, &options).unwrap());
    assert_eq!(both.mapped_bytes, alone.mapped_bytes + 300);
    assert!(both.held_bytes > alone.held_bytes);
}
