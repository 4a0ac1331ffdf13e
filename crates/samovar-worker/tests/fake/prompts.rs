//! Prompts on their way to the engine: a template that takes too much loses its own worker, a slow prompt holds up no
//! short one, and one that is no longer wanted is given up.

use std::time::{Duration, Instant};

use samovar_core::port::PromptControl;
use samovar_core::{Chat, ErrorKind, GenerationRequest, Prompt, TokenEvent};

use crate::stand::{LIMIT, assert_died_of, broken, events, instance, long_request};

/// So many bytes make a prompt a long one.
const LONG_BYTES: usize = 100_000;

fn chat(messages: &str) -> GenerationRequest {
    let prompt = Prompt::Chat(Box::new(Chat::new(messages, 1)));
    GenerationRequest { prompt, max_tokens: Some(2), ..long_request() }
}

#[test]
fn a_template_that_eats_memory_loses_its_worker_and_is_told_why() {
    let (instance, news) = instance(&["token_us=20000"]);
    let mut running = instance.generate(long_request()).unwrap();
    while !matches!(running.blocking_next().unwrap(), TokenEvent::Token { .. }) {}
    let (_, failure) = broken(&events(instance.generate(chat("[eat]")).unwrap()));
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    assert!(failure.message.contains("chat template used more than 256 MiB"), "{failure:?}");
    assert!(failure.hint.is_some());
    // The other requests learn which one caused it.
    assert_died_of(&broken(&events(running)).1, "chat template used more than 256 MiB");
    assert_died_of(&news.first(), "chat template used more than 256 MiB");
}

#[test]
fn a_template_that_computes_without_end_is_stopped() {
    let (instance, news) = instance(&[]);
    let began = Instant::now();
    let (_, failure) = broken(&events(instance.generate(chat("[spin]")).unwrap()));
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    assert!(failure.message.contains("more than 2 seconds of processor time"), "{failure:?}");
    assert!(began.elapsed() < LIMIT);
    news.first();
}

#[test]
fn whoever_asks_for_tokens_alone_is_told_as_well() {
    let (instance, _) = instance(&[]);
    let prompt = chat("[eat]").prompt;
    let failure = instance.encode(&prompt, &samovar_core::port::Unconfined).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
}

#[test]
fn a_template_that_only_renders_or_counts_is_bounded_as_well() {
    let Prompt::Chat(eats) = chat("[eat]").prompt else { panic!("a conversation") };
    let (renders, _) = instance(&[]);
    let failure = renders.render(&eats, &samovar_core::port::Unconfined).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
    let (counts, _) = instance(&[]);
    let failure = counts.count(&Prompt::Chat(eats), &samovar_core::port::Unconfined).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
}

#[test]
fn a_long_prompt_holds_up_no_short_one() {
    let (instance, _) = instance(&[]);
    let long = format!("[linger]{}", " ".repeat(LONG_BYTES));
    let lingering: Vec<_> = (0..3).map(|_| instance.generate(chat(&long)).unwrap()).collect();
    for _ in 0..20 {
        let events = events(instance.generate(chat("[hello]")).unwrap());
        assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{events:?}");
    }
    drop(lingering);
    // Given up, they make room for the next of their kind.
    let next = format!("[hello]{}", " ".repeat(LONG_BYTES));
    let request = GenerationRequest { max_tokens: Some(0), ..chat(&next) };
    let (_, failure) = broken(&events(instance.generate(request).unwrap()));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
}

#[test]
fn tokens_that_nobody_wants_any_more_are_not_waited_for() {
    struct Until(Instant);
    impl PromptControl for Until {
        fn is_wanted(&self) -> bool {
            Instant::now() < self.0
        }
    }
    let (instance, _) = instance(&[]);
    let soon = Instant::now() + Duration::from_millis(100);
    let failure = instance.encode(&chat("[linger]").prompt, &Until(soon)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}");
    instance.probe().unwrap();
}

#[test]
fn conversations_are_answered() {
    let (instance, _) = instance(&[]);
    let request = chat(r#"[{"role":"user","content":"the quick brown fox"}]"#);
    let tokens = instance.encode(&request.prompt, &samovar_core::port::Unconfined).unwrap();
    let events = events(instance.generate(request).unwrap());
    let Some(TokenEvent::Done(done)) = events.last() else { panic!("{events:?}") };
    assert_eq!(done.usage.prompt_tokens as usize, tokens.len());
}
