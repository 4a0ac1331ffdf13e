//! Prompt state in files: across loads, beside running requests, and for the right model only.

use crate::support;

use std::time::Instant;

use samovar_core::footprint::KvType;
use samovar_core::port::Instance;
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{CachedPrefix, ErrorKind, GenerationRequest, LoadOptions, Prompt, Scope};
use support::{collect, greedy, load, options, start};

fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| 300 + (i * 7 + salt * 131) % 900).collect()
}

fn request(tokens: Vec<u32>, answer: u32) -> GenerationRequest {
    greedy(Prompt::Tokens(tokens), answer)
}

/// Asks once; the state that is kept of it.
fn computed(instance: &std::sync::Arc<dyn Instance>, prompt: Vec<u32>) -> CachedPrefix {
    collect(start(instance, request(prompt, 4)));
    instance.prefixes().expect("it lives").pop().expect("the prompt is kept")
}

#[test]
fn a_long_prefix_is_restored_much_faster_than_computed() {
    let options = LoadOptions { context_tokens: 2048, ..options() };
    let prompt = tokens(1500, 1);
    let first = load(&options);
    let prefix = computed(&first, prompt.clone());
    let file = tempfile::tempfile().unwrap();
    let bytes = first.save_prefix(&prefix, &file).unwrap();
    drop(first);

    let asked = [prompt, tokens(20, 2)].concat();
    let (expected, computing) = collect(start(&load(&options), request(asked.clone(), 24)));
    let again = load(&options);
    let began = Instant::now();
    again.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
    let restoring = began.elapsed().as_secs_f64() * 1e3;
    let (answer, completion) = collect(start(&again, request(asked, 24)));
    assert!(completion.usage.cached_tokens >= 1500, "{completion:?}");
    assert_eq!(answer, expected);
    println!(
        "{bytes} bytes; computed in {:.1} ms, restored in {restoring:.1} ms and answered in {:.1} ms",
        computing.prefill_ms, completion.prefill_ms
    );
    assert!(restoring + completion.prefill_ms < computing.prefill_ms / 2.0);
}

#[test]
fn state_of_another_kv_format_or_another_shape_is_refused() {
    let instance = load(&options());
    let prefix = computed(&instance, tokens(80, 3));
    let file = tempfile::tempfile().unwrap();
    instance.save_prefix(&prefix, &file).unwrap();

    let small = load(&LoadOptions { kv_type: KvType::Q8_0, ..options() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    let shape = LlamaShape { blocks: 3, ..LlamaShape::TINY };
    fs_err::write(&path, llama(shape).build()).unwrap();
    let descriptor = samovar_core::format::gguf::inspect(&path).unwrap();
    let other = support::load_file(&path, &descriptor, &options()).unwrap();
    for target in [small, other] {
        let refused = target.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{refused:?}");
        assert!(refused.message.contains("another model"), "{refused:?}");
        target.probe().unwrap();
    }
}

#[test]
fn saving_and_restoring_disturb_no_answer() {
    let instance = load(&options());
    let kept = computed(&instance, tokens(200, 4));
    let running = request(tokens(50, 5), 200);
    let (expected, _) =
        collect(start(&instance, GenerationRequest { reuse_prefix: false, ..running.clone() }));
    // Alone, so that its batches have the shape that they had.
    let answer = start(&instance, running);
    let file = tempfile::tempfile().unwrap();
    let mut saves = 0;
    while instance.measure().busy_slots > 0 || saves < 3 {
        instance.save_prefix(&kept, &file).unwrap();
        instance.restore_prefix(&kept.tokens, Scope::default(), &file).unwrap();
        saves += 1;
    }
    assert_eq!(collect(answer).0, expected);
}

#[test]
fn restored_state_pushes_out_the_longest_unused() {
    let instance = load(&options());
    let saved: Vec<_> = (10..16)
        .map(|salt| {
            let prefix = computed(&instance, tokens(60, salt));
            let file = tempfile::tempfile().unwrap();
            instance.save_prefix(&prefix, &file).unwrap();
            (prefix, file)
        })
        .collect();
    let most = instance.prefixes().unwrap().len();
    assert!(most < saved.len(), "all {most} are kept");
    for (prefix, file) in &saved {
        let oldest = instance.prefixes().unwrap().remove(0);
        instance.restore_prefix(&prefix.tokens, Scope::default(), file).unwrap();
        let kept = instance.prefixes().unwrap();
        assert_eq!(kept.len(), most);
        assert_eq!(kept.last().unwrap().tokens, prefix.tokens);
        assert!(!kept[..most - 1].iter().any(|other| other.id == oldest.id), "{} stayed", oldest.id);
    }
    // Too long for what is left beside running requests, and longer than all of the cache.
    let small = load(&LoadOptions { context_tokens: 200, slots: 1, ..options() });
    let large = load(&LoadOptions { context_tokens: 1000, ..options() });
    let prefix = computed(&large, tokens(900, 20));
    let file = tempfile::tempfile().unwrap();
    large.save_prefix(&prefix, &file).unwrap();
    let refused = small.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{refused:?}");
}

#[test]
fn files_that_cannot_be_written_are_told_apart() {
    let instance = load(&options());
    let prefix = computed(&instance, tokens(80, 6));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs_err::write(&path, b"").unwrap();
    let file = fs_err::File::open(&path).unwrap().into_parts().0;
    let refused = instance.save_prefix(&prefix, &file).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Storage, "{refused:?}");
    assert_eq!(collect(start(&instance, request(tokens(80, 6), 4))).1.usage.cached_tokens, 79);
}
