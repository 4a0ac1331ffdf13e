//! The screen as lines: a pure function of what the daemon told, the time, and the size of the terminal.
//!
//! ```text
//!   title, a bar per arena, requests, disk      a few lines
//!   models │ requests │ downloads │ decisions   share the rest in turns
//!   keys, or a remark                           the last line
//! ```

use samovar_core::units::{ByteSize, counted};

use super::bar::{ArenaBar, letter};
use super::board::{Board, BoardFields, is_in_memory};
use super::grid::{grid, shares};
use super::keys::TopState;
use super::line::{ScreenLine, Tone, columns};
use super::mode::TopMode;
use super::rows;
use crate::command::answer::{ms, roughly};

/// A bar is no wider than this, and no narrower.
const BAR_COLUMNS: (usize, usize) = (8, 60);
const KEYS: &str = "w warm  u unload  p pin  y why  ? help  q quit";
const HELP: [(&str, &str); 10] = [
    ("↑ ↓, j k", "select a model"),
    ("w", "warm: load it now"),
    ("u, s", "unload it as soon as no request uses it"),
    ("p", "pin it, or let it go"),
    ("y, Enter", "why: the decisions about it"),
    ("g, G", "the first model, the last one"),
    ("Ctrl-L", "paint everything again"),
    ("Ctrl-Z", "suspend; `fg` comes back"),
    ("q, Ctrl-C", "quit; the daemon runs on"),
    ("?", "this help"),
];

/// What is to be shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopView<'a> {
    pub(super) board: &'a Board,
    pub(super) now_unix_ms: u64,
    /// Why the daemon tells nothing now; what it told before is shown.
    pub(super) silence: Option<&'a str>,
    pub(super) state: &'a TopState,
    /// What became of the last order.
    pub(super) remark: &'a str,
}

impl TopView<'_> {
    /// The lines of a terminal of this size: so many at most, each of so many columns at most.
    pub(super) fn screen(&self, width: usize, height: usize) -> Vec<ScreenLine> {
        let Some(room) = height.checked_sub(1) else { return Vec::new() };
        let mut lines = self.summary(width);
        // A small terminal shows the tables rather than the summary.
        lines.truncate(room.saturating_sub(4).max(1).min(room));
        let room = room - lines.len();
        lines.extend(match &self.state.mode {
            TopMode::Board | TopMode::Confirm { .. } => {
                self.tables(width, room, Some(self.state.place(self.board)))
            }
            TopMode::Help => help(),
            TopMode::Why { name, lines, skipped } => why(name, lines, *skipped, width),
        });
        lines.truncate(height - 1);
        lines.resize(height - 1, ScreenLine::default());
        lines.push(self.last_line());
        lines.into_iter().map(|line| line.fitted(width)).collect()
    }

    /// Everything once, for a pipe or a scrolling terminal.
    pub(super) fn page(&self, width: usize) -> Vec<ScreenLine> {
        let mut lines = self.summary(width);
        lines.extend(self.tables(width, usize::MAX, None));
        lines.into_iter().map(|line| line.fitted(width)).collect()
    }

    fn summary(&self, width: usize) -> Vec<ScreenLine> {
        let mut lines = vec![self.title()];
        lines.extend(self.bars(width));
        lines.push(self.requests_line());
        lines.push(self.disk_line());
        lines
    }

    fn title(&self) -> ScreenLine {
        let daemon = self.board.section("daemon");
        let mut line = ScreenLine::of(Tone::Head, "samovar");
        if let Some(silence) = self.silence {
            line.push(Tone::Bad, &format!(" · {silence}"));
            return line;
        }
        let up = daemon.maybe("started_unix_ms").map(|since| roughly(self.now_unix_ms.saturating_sub(since)));
        let facts = [
            daemon.text("version").to_owned(),
            daemon.maybe("pid").map(|pid| format!("process {pid}")).unwrap_or_default(),
            up.map(|up| format!("up {up}")).unwrap_or_default(),
            daemon.text("listen").to_owned(),
        ];
        for fact in facts.iter().filter(|fact| !fact.is_empty()) {
            line.push(Tone::Plain, &format!(" · {fact}"));
        }
        line
    }

    /// A bar for each arena, and what its signs mean.
    fn bars(&self, width: usize) -> Vec<ScreenLine> {
        let pool = self.board.section("pool");
        let models: Vec<BoardFields<'_>> = self
            .board
            .models()
            .into_iter()
            .map(|(_, model)| model)
            .filter(|model| is_in_memory(*model))
            .collect();
        let of =
            |name: &str, arena: BoardFields<'_>, bytes: &dyn Fn(BoardFields<'_>) -> (u64, u64)| ArenaBar {
                name: name.to_owned(),
                models: models
                    .iter()
                    .map(|model| bytes(*model))
                    .enumerate()
                    .map(|(at, (a, b))| (at, a, b))
                    .collect(),
                reserved: arena.number("reserved_bytes"),
                budget: arena.number("budget_bytes"),
                soft: arena.number("soft_bytes"),
            };
        let mut bars =
            vec![of("memory", pool, &|model| (model.number("held_bytes"), model.number("mapped_bytes")))];
        for (name, arena) in pool.inner("devices").fields() {
            bars.push(of(name, arena, &|model| (model.inner("device_bytes").number(name), 0)));
        }
        let names = bars.iter().map(|bar| columns(&bar.name)).max().unwrap_or(0);
        let mut lines: Vec<ScreenLine> = bars.iter().map(|bar| bar_line(bar, names, width)).collect();
        let sum = |field: &str| size(total(models.iter().map(|model| model.number(field))));
        let parked = models.iter().filter(|model| model.text("state") == "parked");
        let parked =
            total(parked.flat_map(|model| ["held_bytes", "mapped_bytes"].map(|part| model.number(part))));
        let legend = format!(
            "A held {}  a mapped {}  parked {}  + reserved {}  | soft {}",
            sum("held_bytes"),
            sum("mapped_bytes"),
            size(parked),
            size(pool.number("reserved_bytes")),
            size(pool.number("soft_bytes")),
        );
        lines.push(ScreenLine::of(Tone::Dim, &legend));
        lines
    }

    fn requests_line(&self) -> ScreenLine {
        let pool = self.board.section("pool");
        let mut line = ScreenLine::of(Tone::Head, "requests");
        let in_flight = self.board.requests().len();
        line.push(Tone::Plain, &format!(" {in_flight} now, "));
        let queued = pool.number("queued");
        let tone = if queued > 0 { Tone::Odd } else { Tone::Plain };
        line.push(tone, &format!("{queued} queued"));
        let hit_rate = pool.real("hit_rate").unwrap_or(0.0) * 100.0;
        line.push(Tone::Plain, &format!(", {} so far · hits {hit_rate:.0} %", pool.number("requests")));
        let loads = pool.number("loads");
        if loads > 0 {
            let median = ms(pool.real("load_ms_p50").unwrap_or(0.0));
            line.push(Tone::Plain, &format!(" · loads {loads}, {median}"));
        }
        for (field, word, tone) in [
            ("evictions", "evicted", Tone::Plain),
            ("refused", "refused", Tone::Bad),
            ("load_failures", "failed loads", Tone::Bad),
        ] {
            let number = pool.number(field);
            if number > 0 {
                line.push(tone, &format!(" · {word} {number}"));
            }
        }
        line
    }

    fn disk_line(&self) -> ScreenLine {
        let disk = self.board.section("disk");
        let mut line = ScreenLine::of(Tone::Head, "disk");
        if disk.0.is_null() {
            line.push(Tone::Dim, "     not looked at yet");
            return line;
        }
        let (used, quota) = (disk.number("used_bytes"), disk.number("quota_bytes"));
        let tone = if used > quota / 10 * 9 { Tone::Odd } else { Tone::Plain };
        line.push(tone, &format!("     {} of {}", size(used), size(quota)));
        let models = counted(disk.number("artifacts"), "model");
        line.push(
            Tone::Plain,
            &format!(" · {models} · {} left on the disk", size(disk.number("free_disk_bytes"))),
        );
        line
    }

    /// Models, requests, downloads and decisions in so many lines.
    fn tables(&self, width: usize, room: usize, selected: Option<usize>) -> Vec<ScreenLine> {
        let models = self.board.models().len();
        let requests = rows::requests(self.board, self.now_unix_ms);
        let downloads = rows::downloads(self.board, self.now_unix_ms);
        let decisions: Vec<ScreenLine> =
            self.board.decisions().map(|decision| rows::decision(decision, self.now_unix_ms)).collect();
        // Each with its head; an empty one takes no line, except the models.
        let want = |rows: usize| if rows == 0 { 0 } else { rows + 1 };
        let wants = [want(models.max(1)), want(requests.len()), want(downloads.len()), want(decisions.len())];
        let [of_models, of_requests, of_downloads, of_decisions] = shares(room, wants);
        let mut lines = self.models(width, of_models, selected);
        for (room, heads, rows) in [
            (of_requests, rows::request_heads(), &requests),
            (of_downloads, rows::download_heads(), &downloads),
        ] {
            let shown = room.saturating_sub(1).min(rows.len());
            if shown > 0 {
                lines.extend(grid(&heads, &rows[..shown], width));
            }
        }
        if of_decisions > 1 {
            lines.push(ScreenLine::of(Tone::Head, "DECISIONS"));
            lines.extend(decisions.into_iter().take(of_decisions - 1));
        }
        lines
    }

    /// As many models as there is room for, the selected one among them.
    fn models(&self, width: usize, room: usize, selected: Option<usize>) -> Vec<ScreenLine> {
        let room = room.saturating_sub(1);
        if room == 0 {
            return Vec::new();
        }
        let models = self.board.models();
        let first = (selected.unwrap_or(0) + 1).saturating_sub(room).min(models.len().saturating_sub(room));
        let last = first.saturating_add(room).min(models.len());
        let title = match models.len() {
            0 => "MODEL".to_owned(),
            all if last - first < all => format!("MODEL {}-{last} of {all}", first + 1),
            _ => "MODEL".to_owned(),
        };
        let shown = models[first..last].iter().zip(first..last).map(|((_, model), place)| {
            // A model that is not in memory is in no bar.
            let sign = if is_in_memory(*model) { letter(place) } else { ' ' };
            rows::model(*model, sign, Some(place) == selected, self.now_unix_ms)
        });
        let shown: Vec<_> = shown.collect();
        let mut lines = grid(&rows::model_heads(title), &shown, width);
        if models.is_empty() {
            lines.push(ScreenLine::of(Tone::Dim, "    no model was asked for yet"));
        }
        lines
    }

    fn last_line(&self) -> ScreenLine {
        match &self.state.mode {
            TopMode::Confirm { name, requests, is_pinned } => {
                let pinned = if *is_pinned { "it is pinned; " } else { "" };
                let answered = match requests {
                    0 => String::new(),
                    requests => format!("{} will be answered first; ", counted(*requests, "request")),
                };
                let text = format!("unload {name}? {pinned}{answered}y = yes, n = no");
                ScreenLine::of(Tone::Odd, &text)
            }
            TopMode::Why { .. } => ScreenLine::of(Tone::Dim, "↑ ↓ scroll  any other key goes back"),
            TopMode::Help => ScreenLine::of(Tone::Dim, "any key goes back"),
            TopMode::Board if !self.remark.is_empty() => ScreenLine::of(Tone::Odd, self.remark),
            TopMode::Board => ScreenLine::of(Tone::Dim, KEYS),
        }
    }
}

/// A bar with its name before and its numbers behind it.
fn bar_line(bar: &ArenaBar, names: usize, width: usize) -> ScreenLine {
    let used = bar.used();
    let percent = if bar.budget == 0 { 0.0 } else { used as f64 * 100.0 / bar.budget as f64 };
    let numbers = format!(" {} of {} ({percent:.0} %)", size(used), size(bar.budget));
    let (least, most) = BAR_COLUMNS;
    let room = width.saturating_sub(names + 1 + columns(&numbers)).clamp(least, most);
    let mut line = ScreenLine::of(Tone::Head, &format!("{:names$} ", bar.name));
    line.append(bar.line(room));
    let tone = if used > bar.budget { Tone::Bad } else { Tone::Plain };
    line.push(tone, &numbers);
    line
}

fn help() -> Vec<ScreenLine> {
    let mut lines = vec![ScreenLine::of(Tone::Head, "KEYS")];
    lines.extend(HELP.iter().map(|(key, text)| ScreenLine::of(Tone::Plain, &format!("  {key:<11} {text}"))));
    lines
}

fn why(name: &str, decisions: &[String], skipped: usize, width: usize) -> Vec<ScreenLine> {
    let mut lines = vec![ScreenLine::of(Tone::Head, &format!("WHY {name}"))];
    let wrapped = decisions.iter().flat_map(|decision| wrapped(decision, width));
    lines.extend(wrapped.skip(skipped).map(|line| ScreenLine::of(Tone::Plain, &line)));
    lines
}

/// A text in lines of so many columns, cut between words where there is a gap; later lines are indented.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (number, word) in text.split(' ').enumerate() {
        let line = lines.last_mut().expect("invariant: there is a line");
        if columns(line) + 1 + columns(word) > width && !line.trim().is_empty() {
            lines.push(format!("        {word}"));
        } else {
            if number > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

pub(super) fn size(bytes: u64) -> String {
    ByteSize::from_bytes(bytes).to_string()
}
