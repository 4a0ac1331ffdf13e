//! The screen at three sizes, from events as a daemon sends them, and what must never happen at any size.

use serde_json::{Value, json};

use super::board::Board;
use super::decision_lines;
use super::keys::TopState;
use super::line::{ScreenLine, columns};
use super::mode::TopMode;
use super::view::TopView;
use crate::client::DaemonEvent;

const NOW: u64 = 1_000_000_000;

/// A daemon with all that can be shown.
fn board() -> Board {
    let mut board = Board::default();
    let event = |name: &str, data: Value| DaemonEvent { id: "7-1".into(), name: name.into(), data };
    let counts = |tokens: u64| json!({ "completion_tokens": tokens });
    let snapshot = json!({
        "daemon": {
            "version": "0.1.0", "pid": 42, "started_unix_ms": NOW - 7_380_000, "listen": "127.0.0.1:7266"
        },
        "pool": {
            "requests": 1234, "hit_rate": 0.92, "loads": 14, "load_ms_p50": 912.4, "evictions": 3, "queued": 1,
            "reserved_bytes": 300_000_000, "budget_bytes": 8_000_000_000_u64, "soft_bytes": 6_800_000_000_u64
        },
        "disk": {
            "artifacts": 3, "used_bytes": 12_100_000_000_u64, "quota_bytes": 50_000_000_000_u64,
            "free_disk_bytes": 88_000_000_000_u64
        },
        "models": {
            "k1": {
                "name": "old", "state": "absent", "instances_max": 1, "hits": 7, "loads": 1, "load_ms_p50": 1500.0
            },
            "k2": {
                "name": "qwen2.5:7b", "state": "busy", "held_bytes": 900_000_000, "mapped_bytes": 4_100_000_000_u64,
                "instances": 1, "instances_max": 1, "slots": 2, "busy_slots": 2, "queued": 1, "hits": 1200, "loads": 3,
                "load_ms_p50": 912.4, "is_pinned": true
            },
            "k3": { "name": "tiny", "state": "loading", "progress": 0.1, "instances_max": 1 },
            "k4": {
                "name": "茶炊-0.5b", "state": "parked", "mapped_bytes": 500_000_000, "instances": 1, "instances_max": 1,
                "slots": 1, "hits": 34, "loads": 2, "load_ms_p50": 80.0, "idle_since_unix_ms": NOW - 1_000,
                "expires_at_unix_ms": NOW + 299_000
            },
            "k5": {
                "name": "broken", "state": "failed", "instances_max": 1, "retry_at_unix_ms": NOW + 12_000,
                "failure": "the worker was killed by SIGKILL"
            }
        },
        "requests": {
            "9": { "model": "qwen2.5:7b", "phase": "decode" },
            "11": {
                "model": "qwen2.5:7b", "client": "key chat", "phase": "decode", "began_unix_ms": NOW - 3_000,
                "usage": counts(5)
            },
            "12": {
                "model": "qwen2.5:7b", "client": "key batch", "phase": "prefill", "began_unix_ms": NOW - 1_000,
                "computed_tokens": 120, "prompt_tokens": 400
            }
        },
        "downloads": {
            "hf://org/old": { "state": "done", "ended_unix_ms": NOW - 3_600_000 },
            "hf://org/name:Q4_K_M": {
                "state": "fetching",
                "progress": { "fetching": {
                    "done_bytes": 1_722_000_000, "total_bytes": 4_100_000_000_u64, "bytes_per_s": 12e6
                } }
            }
        },
        "decisions": [
            {
                "number": 1, "at_unix_ms": NOW - 3_600_000, "model": "old", "what": "evicted",
                "text": "evicted 4.1 GB, idle 12 min"
            },
            {
                "number": 2, "at_unix_ms": NOW - 12_000, "model": "broken", "what": "died",
                "text": "died: the worker was killed by SIGKILL"
            }
        ]
    });
    board.take(&event("snapshot", snapshot), NOW - 2_000);
    let delta = json!({
        "set": {
            "models": {
                "k3": {
                    "name": "tiny", "state": "loading", "progress": 0.42, "mapped_bytes": 300_000_000,
                    "instances_max": 1
                }
            },
            "requests": {
                "11": {
                    "model": "qwen2.5:7b", "client": "key chat", "phase": "decode", "began_unix_ms": NOW - 3_000,
                    "usage": counts(35)
                },
                "13": {
                    "model": "qwen2.5:7b", "client": "", "phase": "queued", "began_unix_ms": NOW - 900, "position": 1,
                    "estimate_ms": 2_000
                }
            }
        },
        "gone": { "requests": ["9"] },
        "decisions": [{
            "number": 3, "at_unix_ms": NOW - 2_000, "model": "tiny", "what": "loading",
            "text": "loading: it was asked for"
        }]
    });
    board.take(&event("delta", delta), NOW);
    board
}

fn view<'a>(board: &'a Board, state: &'a TopState) -> TopView<'a> {
    TopView { board, now_unix_ms: NOW, silence: None, state, remark: "" }
}

fn texts(lines: &[ScreenLine]) -> Vec<String> {
    lines.iter().map(ScreenLine::text).collect()
}

/// The whole screen as text.
fn screen(width: usize, height: usize) -> Vec<String> {
    texts(&view(&board(), &TopState::default()).screen(width, height))
}

#[test]
fn the_screen_of_an_ordinary_terminal() {
    let lines = [
        "samovar · 0.1.0 · process 42 · up 2h03m · 127.0.0.1:7266",
        "memory [AAAAAaaaaaaaaaaaaaaaaaaaaaaaabbccc++....|......] 5.8 GB of 8.0 GB (72 %)",
        "A held 900 MB  a mapped 4.9 GB  parked 500 MB  + reserved 300 MB  | soft 6.8 GB",
        "requests 3 now, 1 queued, 1234 so far · hits 92 % · loads 14, 912 ms · evicted 3",
        "disk     12.1 GB of 50.0 GB · 3 models · 88.0 GB left on the disk",
        "MODEL          STATE           HELD  MAPPED  BUSY  QUEUED  HITS  UNTIL",
        ">A qwen2.5:7b  busy          900 MB  4.1 GB   2/2       1  1200  pinned",
        " B tiny        loading 42 %       -  300 MB   0/0       0     0  -",
        " C 茶炊-0.5b   parked             -  500 MB   0/1       0    34  4m59s",
        "   broken      failed             -       -   0/0       0     0  again in 12s: …",
        "   old         absent             -       -   0/0       0     7  -",
        "REQUEST        CLIENT     PROGRESS                   TOKENS/S    AGE",
        "   qwen2.5:7b  key chat   35 tokens                      15.0     3s",
        "   qwen2.5:7b  key batch  prompt 120/400                    -     1s",
        "   qwen2.5:7b  -          queued, place 1, about 2s         -  900ms",
        "DOWNLOAD                 PROGRESS",
        "   hf://org/name:Q4_K_M  42 % of 4.1 GB, 12.0 MB/s, 3m18s left",
        "DECISIONS",
        "     2s  tiny: loading: it was asked for",
        "    12s  broken: died: the worker was killed by SIGKILL",
        "  1h00m  old: evicted 4.1 GB, idle 12 min",
        "",
        "",
        "w warm  u unload  p pin  y why  ? help  q quit",
    ];
    assert_eq!(screen(80, 24), lines);
}

#[test]
fn the_screen_of_a_small_terminal() {
    let lines = [
        "samovar · 0.1.0 · process 42 · up 2h03m…",
        "memory [Aaaab.|] 5.8 GB of 8.0 GB (72 %)",
        "A held 900 MB  a mapped 4.9 GB  parked …",
        "requests 3 now, 1 queued, 1234 so far ·…",
        "disk     12.1 GB of 50.0 GB · 3 models …",
        "MODEL 1-1 of 5  STATE  BUSY  QUEUED",
        ">A qwen2.5:7b   busy    2/2       1",
        "REQUEST        PROGRESS   TOKENS/S",
        "   qwen2.5:7b  35 tokens      15.0",
        "DOWNLOAD                 PROGRESS",
        "   hf://org/name:Q4_K_M  42 % of 4.1 GB…",
        "w warm  u unload  p pin  y why  ? help …",
    ];
    assert_eq!(screen(40, 12), lines);
}

#[test]
fn the_screen_of_a_large_terminal() {
    let lines = [
        "samovar · 0.1.0 · process 42 · up 2h03m · 127.0.0.1:7266",
        "memory [AAAAAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbcccc++.....|........] 5.8 GB of 8.0 GB (72 %)",
        "A held 900 MB  a mapped 4.9 GB  parked 500 MB  + reserved 300 MB  | soft 6.8 GB",
        "requests 3 now, 1 queued, 1234 so far · hits 92 % · loads 14, 912 ms · evicted 3",
        "disk     12.1 GB of 50.0 GB · 3 models · 88.0 GB left on the disk",
        "MODEL          STATE           HELD  MAPPED  INST  BUSY  QUEUED  HITS     LOAD  UNTIL",
        ">A qwen2.5:7b  busy          900 MB  4.1 GB   1/1   2/2       1  1200   912 ms  pinned",
        " B tiny        loading 42 %       -  300 MB   0/1   0/0       0     0        -  -",
        " C 茶炊-0.5b   parked             -  500 MB   1/1   0/1       0    34    80 ms  4m59s",
        "   broken      failed             -       -   0/1   0/0       0     0        -  again in 12s: the worker was ki…",
        "   old         absent             -       -   0/1   0/0       0     7  1500 ms  -",
        "REQUEST        CLIENT     PROGRESS                   TOKENS/S    AGE",
        "   qwen2.5:7b  key chat   35 tokens                      15.0     3s",
        "   qwen2.5:7b  key batch  prompt 120/400                    -     1s",
        "   qwen2.5:7b  -          queued, place 1, about 2s         -  900ms",
        "DOWNLOAD                 PROGRESS",
        "   hf://org/name:Q4_K_M  42 % of 4.1 GB, 12.0 MB/s, 3m18s left",
        "DECISIONS",
        "     2s  tiny: loading: it was asked for",
        "    12s  broken: died: the worker was killed by SIGKILL",
        "  1h00m  old: evicted 4.1 GB, idle 12 min",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "w warm  u unload  p pin  y why  ? help  q quit",
    ];
    assert_eq!(screen(120, 30), lines);
}

#[test]
fn a_page_has_every_row_and_selects_none() {
    let page = texts(&view(&board(), &TopState::default()).page(1_000));
    assert_eq!(page.len(), 5 + 6 + 4 + 2 + 4);
    assert!(page.iter().all(|line| !line.starts_with('>')), "{page:?}");
    assert!(page.iter().any(|line| line.ends_with("again in 12s: the worker was ki…")), "{page:?}");
}

#[test]
fn no_size_is_exceeded_and_nothing_but_text_is_written() {
    let mut board = board();
    let name = "a\x1b[2J\r\n茶".repeat(40);
    let data = json!({ "set": {
        "models": { "k9": { "name": name, "state": "ready", "is_pinned": true, "held_bytes": u64::MAX } },
        "requests": { "99": { "model": name, "client": name, "phase": name } },
        "downloads": { name.as_str(): { "state": "failed", "ended_unix_ms": NOW, "failure": { "message": name } } },
    }, "decisions": [{ "model": name, "text": name }] });
    board.take(&DaemonEvent { id: String::new(), name: "delta".into(), data }, NOW);
    let why = TopMode::Why { name: name.clone(), lines: vec![name.clone(), "a b ".repeat(200)], skipped: 1 };
    let confirm = TopMode::Confirm { name: name.clone(), requests: 2, is_pinned: true };
    for mode in [TopMode::Board, TopMode::Help, why, confirm] {
        let state = TopState { mode, selected: Some("k9".into()) };
        for board in [&board, &Board::default()] {
            let view = TopView { silence: Some(&name), remark: &name, ..view(board, &state) };
            for (width, height) in
                (0..130).step_by(3).flat_map(|width| [0, 1, 2, 5, 9, 24, 60].map(|height| (width, height)))
            {
                let lines = view.screen(width, height);
                assert_eq!(lines.len(), height, "{width}x{height}");
                for line in &lines {
                    assert!(line.columns() <= width && columns(&line.text()) <= width, "{width}: {line:?}");
                    assert!(!line.painted(false).contains(char::is_control), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn the_selected_model_is_on_the_screen() {
    let board = board();
    for (key, shown) in [("k2", ">A qwen2.5:7b"), ("k4", ">C 茶炊-0.5b"), ("k1", ">  old")] {
        let state = TopState { mode: TopMode::Board, selected: Some(key.into()) };
        let lines = texts(&view(&board, &state).screen(40, 12));
        assert!(lines.iter().any(|line| line.starts_with(shown)), "{lines:?}");
    }
}

#[test]
fn why_is_wrapped_and_scrolls() {
    let board = board();
    let answer = json!({ "decisions": [
        { "at_ms_ago": 5_000, "model": "m", "text": "loading: it was asked for" },
        { "at_ms_ago": 61_000, "model": "m", "text": "evicted 4.1 GB" },
    ] });
    let lines = decision_lines(&answer).expect("decisions");
    let shown = |skipped: usize| {
        let mode = TopMode::Why { name: "m".into(), lines: lines.clone(), skipped };
        texts(&view(&board, &TopState { mode, selected: None }).screen(24, 12))
    };
    assert_eq!(
        shown(0)[5..9],
        ["WHY m", "     5s loading: it was", "        asked for", "  1m01s evicted 4.1 GB"]
    );
    assert_eq!(shown(2)[5..7], ["WHY m", "  1m01s evicted 4.1 GB"]);
    let none = decision_lines(&json!({ "decisions": [] })).expect("none");
    assert_eq!(none, ["nothing has been decided about it since the daemon started"]);
}

#[test]
fn a_daemon_that_has_gone_is_told_and_what_it_told_stays() {
    let (board, state) = (board(), TopState::default());
    let view = TopView { silence: Some("no daemon is running; waiting for one"), ..view(&board, &state) };
    let lines = texts(&view.screen(80, 24));
    assert_eq!(lines[0], "samovar · no daemon is running; waiting for one");
    assert!(lines[6].starts_with(">A qwen2.5:7b"), "{lines:?}");
}
