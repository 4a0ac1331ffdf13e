//! Prompt state leaves the instance as a file and comes back as if it had never gone.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::subject::{Subject, ask, greedy, prompt, wait_until_idle};
use crate::error::ErrorKind;
use crate::generation::{CachedPrefix, GenerationRequest, Prompt};
use crate::port::Instance;
use crate::scope::Scope;

/// A file without a name, which is gone when it is dropped.
fn nameless_file() -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("samovar-state-{}-{number}", std::process::id()));
    let file = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    fs_err::remove_file(&path).unwrap();
    file.into_parts().0
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = nameless_file();
    file.write_all(bytes).unwrap();
    file
}

fn reusing(instance: &Arc<dyn Instance>, count: usize, salt: u32) -> GenerationRequest {
    GenerationRequest { reuse_prefix: true, ..greedy(prompt(instance, count, salt), 12) }
}

/// The only prefix there is, that of the request just answered.
fn only_prefix(instance: &Arc<dyn Instance>) -> CachedPrefix {
    wait_until_idle(instance);
    let prefixes = instance.prefixes().unwrap();
    let [prefix] = &prefixes[..] else { panic!("{prefixes:?} is not one prefix") };
    prefix.clone()
}

/// An instance with one saved prefix, that of `count` tokens, and the file with its state.
fn saved(subject: &Subject, count: usize) -> (Arc<dyn Instance>, CachedPrefix, File) {
    let instance = subject.load();
    let request = reusing(&instance, count, 9);
    ask(&instance, request.clone());
    let prefix = only_prefix(&instance);
    let Prompt::Tokens(asked) = &request.prompt else { panic!("invariant: prompts of the suite are tokens") };
    assert!(prefix.tokens.starts_with(asked), "{} tokens of {count} kept", prefix.tokens.len());
    let file = nameless_file();
    let written = instance.save_prefix(&prefix, &file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), written);
    (instance, prefix, file)
}

/// State that was saved is of use to an instance that never computed it, and changes no answer.
pub fn saved_prefixes_are_as_good_as_computed_ones(subject: &Subject) {
    if !subject.capabilities().saves_prefixes {
        return;
    }
    let (first, prefix, file) = saved(subject, 120);
    drop(first);
    let (fresh, restored) = (subject.load(), subject.load());
    restored.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
    assert_eq!(only_prefix(&restored).tokens, prefix.tokens);
    for asked in [160, 120, 90] {
        let expected = ask(&fresh, greedy(prompt(&fresh, asked, 9), 12));
        let answer = ask(&restored, reusing(&restored, asked, 9));
        let (cached, least) = (answer.completion.usage.cached_tokens as usize, asked.min(120) - 1);
        assert!(cached >= least, "{cached} of {asked} tokens were cached");
        subject.assert_same(&format!("restored state for {asked} tokens"), &expected, &answer);
    }
}

/// What is restored twice is there once; and it comes back after parking has thrown it away.
pub fn prefixes_are_restored_once_and_again_after_parking(subject: &Subject) {
    let capabilities = subject.capabilities();
    if !capabilities.saves_prefixes || !capabilities.can_park {
        return;
    }
    let (instance, prefix, file) = saved(subject, 100);
    instance.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
    assert_eq!(only_prefix(&instance).tokens, prefix.tokens);
    instance.park().unwrap();
    assert_eq!(instance.prefixes().unwrap(), Vec::new());
    let refused = instance.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
    instance.resume(&subject.options).unwrap();
    assert_eq!(instance.prefixes().unwrap(), Vec::new());
    instance.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
    let back = only_prefix(&instance);
    assert_eq!(back.tokens, prefix.tokens);
    assert_ne!(back.id, prefix.id, "a name that was given before");
    let answer = ask(&instance, reusing(&instance, 100, 9));
    assert_eq!(answer.completion.usage.cached_tokens, 99);
}

/// Names of kept state are never given again, and state that has gone cannot be saved.
pub fn names_of_prefixes_never_repeat(subject: &Subject) {
    if !subject.capabilities().saves_prefixes {
        return;
    }
    let instance = subject.load();
    let (mut names, mut all) = (HashSet::new(), Vec::new());
    for round in 0..subject.options.slots.max(8) * 2 {
        ask(&instance, reusing(&instance, 40, 20 + round));
        wait_until_idle(&instance);
        let newest = instance.prefixes().unwrap().pop().expect("the newest is kept");
        assert!(names.insert(newest.id), "round {round}: {} was given before", newest.id);
        all.push(newest);
    }
    let kept = instance.prefixes().unwrap();
    let gone = all.iter().find(|prefix| !kept.contains(prefix)).expect("not all is kept for ever");
    let gone = instance.save_prefix(gone, &nameless_file()).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound, "{gone:?}");
}

/// The longest unused state comes first; private requests leave none.
pub fn prefixes_come_in_the_order_of_their_last_use(subject: &Subject) {
    if !subject.capabilities().saves_prefixes {
        return;
    }
    let instance = subject.load();
    ask(&instance, GenerationRequest { reuse_prefix: false, ..reusing(&instance, 60, 3) });
    wait_until_idle(&instance);
    assert_eq!(instance.prefixes().unwrap(), Vec::new());
    let begins = |kept: &[CachedPrefix]| -> Vec<Vec<u32>> {
        kept.iter().map(|prefix| prefix.tokens[..30].to_vec()).collect()
    };
    for salt in [0, 1, 2, 0] {
        ask(&instance, reusing(&instance, 60, salt));
        wait_until_idle(&instance);
    }
    let expected: Vec<Vec<u32>> = [1, 2, 0]
        .into_iter()
        .map(|salt| match prompt(&instance, 30, salt) {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text { .. } | Prompt::Chat(_) | Prompt::Infill(_) => Vec::new(),
        })
        .collect();
    assert_eq!(begins(&instance.prefixes().unwrap()), expected);
}

/// Tokens of the prompt that a client is told were cached.
fn told(instance: &Arc<dyn Instance>, scope: Scope) -> u32 {
    let answer = ask(instance, GenerationRequest { scope, ..reusing(instance, 100, 5) });
    wait_until_idle(instance);
    answer.completion.usage.cached_tokens
}

/// Where clients do not share, no client takes over or learns of another's prompt, not even as saved state.
pub fn private_prefixes_are_of_one_client_alone(subject: &Subject) {
    if !subject.capabilities().reuses_prefixes {
        return;
    }
    let instance = subject.load();
    let [alice, bob] = ["alice", "bob"].map(|name| Scope::of_client(name, true));
    let told_in_turn = [alice, bob, Scope::default(), alice, bob].map(|scope| told(&instance, scope));
    assert_eq!(told_in_turn, [0, 0, 0, 99, 99]);
    if !subject.capabilities().saves_prefixes {
        return;
    }
    let prefixes = instance.prefixes().unwrap();
    let [.., of_alice, of_bob] = &prefixes[..] else { panic!("{prefixes:?} are not both clients' prefixes") };
    assert_eq!((of_alice.scope, of_bob.scope), (alice, bob));
    let file = nameless_file();
    instance.save_prefix(of_alice, &file).unwrap();
    let fresh = subject.load();
    fresh.restore_prefix(&of_alice.tokens, alice, &file).unwrap();
    assert_eq!([bob, alice].map(|scope| told(&fresh, scope)), [0, 99]);
}

/// Where clients share, each is told only of what was its own.
pub fn what_is_anothers_is_not_told(subject: &Subject) {
    if !subject.capabilities().reuses_prefixes {
        return;
    }
    let instance = subject.load();
    let [alice, bob] = ["alice", "bob"].map(|name| Scope::of_client(name, false));
    assert_eq!([alice, bob, alice, bob].map(|scope| told(&instance, scope)), [0, 0, 99, 99]);
}

/// Bytes that are not what `save_prefix` wrote for these tokens are refused, and harm nothing.
pub fn wrong_state_is_refused(subject: &Subject) {
    if !subject.capabilities().saves_prefixes {
        return;
    }
    let (instance, prefix, file) = saved(subject, 60);
    let bytes = content(&file);
    let target = subject.load();
    let cut = bytes.len() * 2 / 3;
    let wrong = [
        Vec::new(),
        vec![0; 10_000],
        b"GGUF".repeat(500),
        bytes[..1].to_vec(),
        bytes[..cut].to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        [&bytes[..], &[0]].concat(),
        bytes[1..].to_vec(),
    ];
    for wrong in wrong {
        let refused = target.restore_prefix(&prefix.tokens, Scope::default(), &file_of(&wrong)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{} bytes: {refused:?}", wrong.len());
    }
    let mut others = prefix.tokens.clone();
    others.swap(10, 11);
    for tokens in [&others[..], &prefix.tokens[..50], &[]] {
        let refused = target.restore_prefix(tokens, Scope::default(), &file).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{refused:?}");
    }
    assert_eq!(target.prefixes().unwrap(), Vec::new());
    let expected = ask(&instance, greedy(prompt(&instance, 60, 9), 8));
    subject.assert_same("after refused state", &expected, &ask(&target, greedy(prompt(&target, 60, 9), 8)));
    target.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
}
