//! The text of one answer: from the bytes of its tokens to what its caller hears.
//!
//! ```text
//!   plain   bytes ─► characters, stop strings ─────────────────────────────► text
//!   read    bytes ─► characters ─► reader ─► deltas ─► stop strings in text ─► deltas
//! ```
//!
//! Where a model writes thoughts or calls, they are read apart before anything is shown, and stop strings end the answer's
//! text alone: one in a thought or in a call's arguments would end an answer that has not begun, or break the JSON of a call.
//! It knows no tokens.

use crate::dialect::AnswerReader;
use crate::text_gate::TextGate;
use samovar_core::generation::DELTAS_MAX;
use samovar_core::{Delta, FinishReason, TokenEvent, TokenLogprob};

/// What is made of an answer's bytes.
#[derive(Debug)]
pub struct Answer(Kind);

#[derive(Debug)]
enum Kind {
    /// All of it is text.
    Plain(TextGate),
    /// Thoughts and calls may be in it.
    Read(Box<Read>),
}

/// An answer that is read apart.
#[derive(Debug)]
struct Read {
    reader: AnswerReader,
    /// Holds back characters that are not whole.
    characters: TextGate,
    /// Holds back text that may begin a stop string.
    stops: TextGate,
    /// A stop string has appeared.
    is_stopped: bool,
    close: Close,
}

/// Words that come with a token, or at the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Words {
    /// Text alone.
    Text(String),
    /// What the dialect's reader found.
    Deltas(Vec<Delta>),
}

/// What came of a token's bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// What is shown of them.
    pub words: Words,
    /// Nothing follows: a stop string appeared, or the only call that is wanted is whole.
    pub is_last: bool,
    /// The token belongs to a thought, its marks included.
    pub is_thought: bool,
    /// The token belongs to the answer's text, as far as can be told: to no thought and no call.
    pub is_text: bool,
}

impl Answer {
    /// An answer that ends at the first of these strings in its text. `close` ends its thoughts, where it has a reader.
    pub fn new(stop: &[String], reader: Option<(AnswerReader, String)>) -> Self {
        let stops = TextGate::new(stop);
        match reader {
            None => Self(Kind::Plain(stops)),
            Some((reader, close)) => Self(Kind::Read(Box::new(Read {
                reader,
                characters: TextGate::new(&[]),
                stops,
                is_stopped: false,
                close: Close::new(&close),
            }))),
        }
    }

    /// Whether thoughts and calls are read apart.
    pub fn is_read(&self) -> bool {
        matches!(self.0, Kind::Read(_))
    }

    /// Whether the text of a control token is read: its marks may be control tokens. It is never shown.
    pub fn wants_control(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Read(read) => read.reader.wants_special(text),
        }
    }

    /// Takes the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Said {
        match &mut self.0 {
            Kind::Plain(gate) => {
                let passed = gate.push(bytes);
                let (words, is_last) = (Words::Text(passed.text), passed.is_stopped);
                Said { words, is_last, is_thought: false, is_text: true }
            }
            Kind::Read(read) => read.push(bytes),
        }
    }

    /// The rest of an answer that ends so, and how it ends by what was in it.
    pub fn end(&mut self, finish: FinishReason) -> (Words, FinishReason) {
        match &mut self.0 {
            Kind::Plain(gate) => (Words::Text(gate.flush()), finish),
            Kind::Read(read) => read.end(finish),
        }
    }

    /// The place of the stop string that has appeared in its text, among those of the request.
    pub fn stopped_by(&self) -> Option<u32> {
        match &self.0 {
            Kind::Plain(gate) => gate.stopped_by(),
            Kind::Read(read) => read.stops.stopped_by(),
        }
    }

    /// Whether a thought is open.
    pub fn is_thinking(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Read(read) => read.reader.is_thinking(),
        }
    }

    /// Whether no character is unfinished, so that something else may follow.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Kind::Plain(gate) => gate.is_empty(),
            Kind::Read(read) => read.characters.is_empty(),
        }
    }

    /// Whether these bytes would end the open thought and say something behind it at once.
    pub fn would_pass_thought(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Read(read) => read.reader.is_thinking() && read.close.is_passed_by(bytes),
        }
    }
}

impl Read {
    fn push(&mut self, bytes: &[u8]) -> Said {
        let (was_thinking, was_in_text) = (self.reader.is_thinking(), self.reader.is_in_text());
        let text = self.characters.push(bytes).text;
        let deltas = if text.is_empty() { Vec::new() } else { self.reader.push(&text) };
        self.close.note(bytes);
        let has_text = deltas.iter().any(|delta| matches!(delta, Delta::Text(_)));
        let shown = self.without_stops(deltas);
        Said {
            words: Words::Deltas(shown),
            is_last: self.is_stopped || self.reader.is_done(),
            is_thought: was_thinking || self.reader.is_thinking(),
            is_text: has_text || (was_in_text && self.reader.is_in_text()),
        }
    }

    fn end(&mut self, finish: FinishReason) -> (Words, FinishReason) {
        let was_stopped = self.is_stopped;
        let rest = self.characters.flush();
        let mut deltas = if rest.is_empty() { Vec::new() } else { self.reader.push(&rest) };
        let (last, finish) = self.reader.end(finish);
        if was_stopped {
            return (Words::Deltas(Vec::new()), finish);
        }
        deltas.extend(last);
        let mut shown = self.without_stops(deltas);
        if self.is_stopped {
            let finish = if finish == FinishReason::Length { FinishReason::Stop } else { finish };
            return (Words::Deltas(shown), finish);
        }
        add_text(&mut shown, self.stops.flush());
        (Words::Deltas(shown), finish)
    }

    /// The deltas up to the first stop string in their text, but for what may begin one.
    fn without_stops(&mut self, deltas: Vec<Delta>) -> Vec<Delta> {
        let mut shown = Vec::with_capacity(deltas.len());
        for delta in deltas {
            if let Delta::Text(text) = delta {
                let passed = self.stops.push(text.as_bytes());
                add_text(&mut shown, passed.text);
                if passed.is_stopped {
                    self.is_stopped = true;
                    break;
                }
            } else {
                // No stop string goes on behind a thought or a call.
                add_text(&mut shown, self.stops.flush());
                shown.push(delta);
            }
        }
        shown
    }
}

fn add_text(deltas: &mut Vec<Delta>, text: String) {
    if text.is_empty() {
        return;
    }
    match deltas.last_mut() {
        Some(Delta::Text(before)) => before.push_str(&text),
        _ => deltas.push(Delta::Text(text)),
    }
}

impl Words {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Deltas(deltas) => deltas.is_empty(),
        }
    }

    /// Whether something that is no white space stands in the answer's text.
    pub fn have_text(&self) -> bool {
        let is_text = |text: &str| !text.trim().is_empty();
        match self {
            Self::Text(text) => is_text(text),
            Self::Deltas(deltas) => {
                deltas.iter().any(|delta| matches!(delta, Delta::Text(text) if is_text(text)))
            }
        }
    }

    /// The event that says them: text alone is a token. No event has more deltas than may be; so there may be several.
    pub fn events(self, logprob: Option<TokenLogprob>) -> impl Iterator<Item = TokenEvent> {
        let (first, rest) = match self {
            Self::Text(text) => (TokenEvent::Token { text, logprob }, Vec::new()),
            Self::Deltas(mut deltas) => {
                let rest = deltas.split_off(deltas.len().min(DELTAS_MAX));
                let first = match deltas.as_mut_slice() {
                    [] => TokenEvent::Token { text: String::new(), logprob },
                    [Delta::Text(text)] => TokenEvent::Token { text: std::mem::take(text), logprob },
                    _ => TokenEvent::Deltas { deltas, logprob },
                };
                (first, rest)
            }
        };
        let mut rest = rest.into_iter();
        let others = std::iter::from_fn(move || {
            let deltas: Vec<_> = rest.by_ref().take(DELTAS_MAX).collect();
            (!deltas.is_empty()).then_some(TokenEvent::Deltas { deltas, logprob: None })
        });
        std::iter::once(first).chain(others)
    }
}

/// Watches for the mark that ends a thought, in the bytes as the model writes them.
#[derive(Debug)]
struct Close {
    mark: Vec<u8>,
    /// The last bytes, of which a part of the mark may be.
    tail: Vec<u8>,
}

impl Close {
    fn new(mark: &str) -> Self {
        Self { mark: mark.trim().as_bytes().to_vec(), tail: Vec::new() }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let kept = self.mark.len().saturating_sub(1);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
    }

    /// Whether the mark is whole with these bytes, and more than white space stands behind it.
    fn is_passed_by(&self, bytes: &[u8]) -> bool {
        if self.mark.is_empty() {
            return false;
        }
        let all = [&self.tail[..], bytes].concat();
        let found = all.windows(self.mark.len()).position(|window| window == self.mark);
        found.is_some_and(|at| all[at + self.mark.len()..].iter().any(|byte| !byte.is_ascii_whitespace()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samovar_core::Chat;

    use crate::dialect::{Calls, Dialect, Form, Marks};

    use super::*;

    const CLOSE: &str = "</think>";

    fn marks(open: &str, close: &str) -> Marks {
        Marks { open: open.to_owned(), close: close.to_owned() }
    }

    fn dialect() -> Dialect {
        let form = Form::Json {
            name: "name".to_owned(),
            arguments: "arguments".to_owned(),
            id: None,
            inside: None,
            is_array: false,
        };
        let each = marks("<tool_call>", "</tool_call>");
        let calls = Calls { around_all: None, around_each: Some(each), between: String::new(), form };
        Dialect { thinking: Some(marks("<think>", CLOSE)), calls, knows_tools: true }
    }

    fn chat() -> Chat {
        let tool = r#"[{"type":"function","function":{"name":"find","parameters":{"type":"object"}}}]"#;
        Chat { tools: Some(tool.to_owned()), ..Chat::new("[]", 0) }
    }

    fn answer(stop: &[&str], chat: &Chat, opens_thinking: bool) -> Answer {
        let reader = AnswerReader::new(Arc::new(dialect()), chat, opens_thinking).unwrap();
        let stop: Vec<String> = stop.iter().map(ToString::to_string).collect();
        Answer::new(&stop, Some((reader, CLOSE.to_owned())))
    }

    /// Text, thoughts, names and arguments of all that an answer says, and how it ends.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Heard {
        text: String,
        thinking: String,
        calls: Vec<String>,
        arguments: String,
        thought_tokens: usize,
        finish: Option<FinishReason>,
        stopped_by: Option<u32>,
    }

    impl Heard {
        fn add(&mut self, words: Words) {
            let Words::Deltas(deltas) = words else { panic!("deltas are read") };
            for delta in deltas {
                match delta {
                    Delta::Text(text) => self.text += &text,
                    Delta::Thinking(text) => self.thinking += &text,
                    Delta::Call { name, .. } => self.calls.push(name),
                    Delta::Arguments { text, .. } => self.arguments += &text,
                }
            }
        }
    }

    fn heard(mut answer: Answer, pieces: &[&str], finish: FinishReason) -> Heard {
        let mut heard = Heard::default();
        let mut finish = finish;
        for piece in pieces {
            let said = answer.push(piece.as_bytes());
            heard.thought_tokens += usize::from(said.is_thought);
            heard.add(said.words);
            if said.is_last {
                finish = FinishReason::Stop;
                break;
            }
        }
        let (rest, finish) = answer.end(finish);
        heard.add(rest);
        heard.finish = Some(finish);
        heard.stopped_by = answer.stopped_by();
        heard
    }

    #[test]
    fn a_plain_answer_is_text_with_its_stop_strings() {
        let mut answer = Answer::new(&["STOP".to_owned()], None);
        let text = |text: &str| Words::Text(text.to_owned());
        assert_eq!(
            answer.push(b"<think>hm ST"),
            Said { words: text("<think>hm "), is_last: false, is_thought: false, is_text: true }
        );
        assert!(!answer.is_whole() && !answer.is_thinking() && !answer.is_read());
        assert!(!answer.wants_control("<think>") && !answer.would_pass_thought(b"</think>x"));
        let stopped = Said { words: text(""), is_last: true, is_thought: false, is_text: true };
        assert_eq!(answer.stopped_by(), None);
        assert_eq!(answer.push(b"OP!"), stopped);
        assert_eq!(answer.stopped_by(), Some(0));
        assert_eq!(answer.end(FinishReason::Stop), (text(""), FinishReason::Stop));
    }

    #[test]
    fn stop_strings_end_the_text_and_neither_thoughts_nor_arguments() {
        let pieces = ["<think>", "hm STOP", "</think>", "well ST", "OP more"];
        let said = heard(answer(&["STOP"], &chat(), false), &pieces, FinishReason::Length);
        assert_eq!((said.text.trim(), said.thinking.trim()), ("well", "hm STOP"));
        assert_eq!((said.thought_tokens, said.finish), (3, Some(FinishReason::Stop)));
        assert_eq!(said.stopped_by, Some(0));
        let call = r#"<tool_call>{"name": "find", "arguments": {"a": "STOP"}}</tool_call>"#;
        let said = heard(answer(&["STOP"], &chat(), false), &[call], FinishReason::Stop);
        assert_eq!(
            (said.calls.as_slice(), said.arguments.as_str()),
            (&["find".to_owned()][..], r#"{"a": "STOP"}"#)
        );
        assert_eq!((said.text.as_str(), said.finish), ("", Some(FinishReason::ToolCalls)));
        assert_eq!(said.stopped_by, None);
    }

    #[test]
    fn what_may_begin_a_stop_string_is_text_when_a_call_follows() {
        let call = r#"<tool_call>{"name": "find", "arguments": {}}</tool_call>"#;
        let said = heard(answer(&["x!"], &chat(), false), &["so x", call], FinishReason::Stop);
        assert_eq!((said.text.trim(), said.calls.len()), ("so x", 1));
    }

    #[test]
    fn a_call_that_broke_off_at_the_length_is_no_call() {
        let said = heard(answer(&[], &chat(), false), &[r#"<tool_call>{"name": "fi"#], FinishReason::Length);
        assert_eq!((said.calls.len(), said.finish), (0, Some(FinishReason::Length)));
        assert!(said.text.contains("fi"), "{said:?}");
    }

    #[test]
    fn one_call_is_the_last_where_no_other_may_follow() {
        let single = Chat { parallel_tool_calls: false, ..chat() };
        let call = r#"<tool_call>{"name": "find", "arguments": {}}</tool_call>"#;
        let said = heard(answer(&[], &single, false), &[call, call], FinishReason::Stop);
        assert_eq!((said.calls.len(), said.finish), (1, Some(FinishReason::ToolCalls)));
        let said = heard(answer(&[], &chat(), false), &[call, call], FinishReason::Stop);
        assert_eq!(said.calls.len(), 2);
    }

    #[test]
    fn tokens_of_thoughts_and_calls_are_none_of_the_text() {
        let is_text = |pieces: &[&str]| -> Vec<bool> {
            let mut answer = answer(&[], &chat(), false);
            pieces.iter().map(|piece| answer.push(piece.as_bytes()).is_text).collect()
        };
        let thinks = ["<think>", "hm", "</think>", "\n\n", "Yes", "<", "b", "."];
        assert_eq!(is_text(&thinks), [false, false, false, false, true, true, true, true]);
        let calls =
            ["So", "<tool_call>", r#"{"name": "#, r#""find", "#, r#""arguments": {"#, "}}", "</tool_call>"];
        assert_eq!(is_text(&calls), [true, false, false, false, false, false, false]);
    }

    #[test]
    fn half_a_character_waits_for_its_rest() {
        let mut answer = answer(&[], &chat(), true);
        let smile = "🙂".as_bytes();
        assert!(answer.is_thinking() && answer.is_whole());
        assert!(answer.push(&smile[..2]).is_thought && !answer.is_whole());
        let said = answer.push(&smile[2..]);
        assert!(answer.is_whole());
        assert_eq!(said.words, Words::Deltas(vec![Delta::Thinking("🙂".to_owned())]));
    }

    #[test]
    fn a_token_that_ends_a_thought_and_says_more_is_seen_before_it_is_taken() {
        let mut answer = answer(&[], &chat(), true);
        answer.push(b"hm\n</thi");
        assert!(answer.would_pass_thought(b"nk>{"));
        assert!(!answer.would_pass_thought(b"nk>\n\n") && !answer.would_pass_thought(b"s {"));
        answer.push(b"nk>");
        assert!(!answer.is_thinking() && !answer.would_pass_thought(b"</think>{"));
    }

    #[test]
    fn marks_may_be_control_tokens() {
        let answer = answer(&[], &chat(), false);
        assert!(answer.wants_control("<think>") && answer.wants_control("<tool_call>"));
        assert!(!answer.wants_control("<|user|>"));
    }

    #[test]
    fn text_alone_is_a_token_and_no_event_has_too_many_deltas() {
        let text = || Delta::Text("a".to_owned());
        let kinds = |words: Words| {
            let deltas = |event: TokenEvent| match event {
                TokenEvent::Token { text, .. } => (true, text.len()),
                TokenEvent::Deltas { deltas, .. } => (false, deltas.len()),
                other => panic!("{other:?}"),
            };
            words.events(None).map(deltas).collect::<Vec<_>>()
        };
        assert_eq!(kinds(Words::Text("ab".to_owned())), [(true, 2)]);
        assert_eq!(kinds(Words::Deltas(Vec::new())), [(true, 0)]);
        assert_eq!(kinds(Words::Deltas(vec![text()])), [(true, 1)]);
        assert_eq!(kinds(Words::Deltas(vec![Delta::Thinking("a".to_owned())])), [(false, 1)]);
        let many = Words::Deltas((0..DELTAS_MAX + 3).map(|_| text()).collect());
        assert_eq!(kinds(many), [(false, DELTAS_MAX), (false, 3)]);
    }
}
