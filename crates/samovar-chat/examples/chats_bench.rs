//! Measures a file of many conversations: `chats_bench [CONVERSATIONS]`, 10,000 by default. Prints JSON.
//!
//! Each conversation has ten messages of about 300 bytes. What is timed is listing, searching, opening and exporting them, keeping a turn,
//! and deleting one.

use std::error::Error;
use std::time::Instant;

use samovar_chat::{AnswerRecord, ChatHistory, ChatQuestion, Conversations, ExportFormat};
use serde_json::{Value, json};

/// Turns of a conversation.
const TURNS: usize = 5;
/// Times of each kind.
const LOOKS: usize = 200;
/// What messages consist of; word `n` stands in about one message of `n`.
const WORDS: usize = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("chats.sqlite3");
    report(&measure(&path, count)?);
    Ok(())
}

fn measure(path: &std::path::Path, count: usize) -> Result<Value, Box<dyn Error>> {
    // In memory first, and taken in as one change: each turn by itself waits for the disk.
    let source = Conversations::in_memory()?.of("");
    let history = Conversations::open(path)?.of("");
    let mut seed = 1;
    for first in (0..count).step_by(500) {
        let mut documents = Vec::new();
        for number in first..(first + 500).min(count) {
            let id = fill(&source, number, &mut seed)?;
            documents.push(source.export(id, ExportFormat::Json)?);
        }
        history.import(&format!("[{}]", documents.join(",")))?;
    }
    let all = history.list(1_000, None)?;
    let ids: Vec<i64> = all.iter().map(|head| head.id).collect();
    let list = spread(|_| history.list(50, None).map(drop))?;
    let page = spread(|look| history.list(50, Some(ids[look % ids.len()])).map(drop))?;
    let rare = spread(|look| history.search(&word(WORDS - 1 - look), 50).map(drop))?;
    let frequent = spread(|look| history.search(&word(look % 5), 50).map(drop))?;
    let open = spread(|look| history.open(ids[look * 7 % ids.len()]).map(drop))?;
    let export = spread(|look| history.export(ids[look * 7 % ids.len()], ExportFormat::Markdown).map(drop))?;
    let turn = spread(|look| {
        let question = ChatQuestion::new(format!("question {look}")).within(ids[look % ids.len()]);
        history
            .begin(&question)?
            .keep(&AnswerRecord { text: "yes".into(), ..AnswerRecord::by("demo") })
            .map(drop)
    })?;
    let began = Instant::now();
    history.forget(ids[0])?;
    let forget_ms = began.elapsed().as_secs_f64() * 1e3;
    let began = Instant::now();
    drop(Conversations::open(path)?);
    let reopen_ms = began.elapsed().as_secs_f64() * 1e3;
    let bytes = fs_err::metadata(path)?.len();
    Ok(json!({
        "conversations": count,
        "list_ms": list, "page_ms": page, "search_rare_ms": rare, "search_frequent_ms": frequent,
        "open_ms": open, "export_ms": export, "turn_ms": turn, "forget_ms": forget_ms,
        "reopen_ms": reopen_ms, "file_mb": bytes as f64 / 1e6,
    }))
}

/// A conversation of its own words.
fn fill(history: &ChatHistory, number: usize, seed: &mut u64) -> Result<i64, Box<dyn Error>> {
    let mut conversation = None;
    for turn in 0..TURNS {
        let text = format!("conversation {number}, turn {turn}: {}", sentence(seed));
        let begun = history.begin(&ChatQuestion { conversation, ..ChatQuestion::new(text) })?;
        conversation = Some(begun.conversation());
        let answer = AnswerRecord { text: sentence(seed), finish: "stop".into(), ..AnswerRecord::by("demo") };
        begun.keep(&answer)?;
    }
    Ok(conversation.ok_or("a conversation has turns")?)
}

fn sentence(seed: &mut u64) -> String {
    let words = (0..40).map(|_| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (*seed >> 33) as f64 / f64::from(u32::MAX >> 1);
        // Few words are frequent, and most are rare.
        word((WORDS as f64 * random * random * random) as usize)
    });
    words.collect::<Vec<_>>().join(" ")
}

fn word(number: usize) -> String {
    format!("w{number}x")
}

/// The middle and the 99th of a hundred times, in milliseconds.
fn spread<E>(mut look: impl FnMut(usize) -> Result<(), E>) -> Result<Value, E> {
    let mut times = Vec::with_capacity(LOOKS);
    for number in 0..LOOKS {
        let began = Instant::now();
        look(number)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({ "p50": times[LOOKS / 2], "p99": times[LOOKS * 99 / 100] }))
}

#[allow(clippy::print_stdout, reason = "what it measured is its output")]
fn report(figures: &Value) {
    println!("{figures}");
}
