//! A model's answer as it comes: untouched into a pipe; harmless and broken between words on a terminal.
//!
//! Lines of code keep their ends: what is indented or between fences is never broken.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{harmless, write};
use crate::ended::Ended;

/// Narrower, and breaking lines does more harm than good.
const WIDTH_MIN: usize = 20;
const FENCE: &str = "```";

/// An answer on its way to standard output. [`Prose::end`] shows what is still held back.
#[derive(Debug)]
pub(crate) struct Prose {
    breaker: Option<Breaker>,
    /// Thoughts are dimmed; without colours they stand below a heading.
    is_coloured: bool,
    line: Line,
    /// What was shown last is a thought.
    is_thinking: bool,
    /// Nothing was shown since a thought began or ended: empty lines are left out.
    is_fresh: bool,
}

/// How what was shown ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing was shown.
    None,
    /// With a line break.
    Ended,
    /// In the middle of a line.
    Open,
}

impl Prose {
    /// `width` in columns, for a terminal.
    pub(super) fn new(width: Option<usize>, is_coloured: bool) -> Self {
        let breaker = width.map(Breaker::new);
        Self { breaker, is_coloured, line: Line::None, is_thinking: false, is_fresh: false }
    }

    /// Shows more text, at once but for a word that may still grow.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), Ended> {
        write_some(&self.text(text))
    }

    /// Whether a person reads, who is shown thoughts.
    pub(crate) fn shows_thoughts(&self) -> bool {
        self.breaker.is_some()
    }

    /// Shows more of a thought, apart from the answer; nothing where no person reads.
    pub(crate) fn thought(&mut self, text: &str) -> Result<(), Ended> {
        write_some(&self.thinking(text))
    }

    /// Shows the rest and ends the line, if one was begun.
    pub(crate) fn end(&mut self) -> Result<(), Ended> {
        let rest = self.rest() + self.line_end();
        write_some(&rest)
    }

    fn text(&mut self, text: &str) -> String {
        if self.breaker.is_none() {
            return self.seen(text.to_owned());
        }
        // A line break after a thought does not begin the answer.
        if self.is_thinking && text.trim().is_empty() {
            return String::new();
        }
        let turn = if self.is_thinking { self.turn("Answer:\n") } else { String::new() };
        turn + &self.broken(text)
    }

    fn thinking(&mut self, text: &str) -> String {
        if self.breaker.is_none() || !self.is_thinking && text.trim().is_empty() {
            return String::new();
        }
        let turn = if self.is_thinking { String::new() } else { self.turn("Thinking:\n") };
        turn + &self.broken(text)
    }

    /// Ends what was shown, with an empty line behind it.
    fn turn(&mut self, heading: &str) -> String {
        let mut shown = self.rest();
        if self.line != Line::None {
            shown.push_str(self.line_end());
            shown.push('\n');
        }
        if !self.is_coloured {
            shown.push_str(heading);
        }
        (self.is_thinking, self.is_fresh) = (!self.is_thinking, true);
        shown
    }

    fn broken(&mut self, text: &str) -> String {
        let text = if self.is_fresh { text.trim_start_matches('\n') } else { text };
        self.is_fresh &= text.is_empty();
        let shown = self.breaker.as_mut().map(|breaker| breaker.push(&harmless(text))).unwrap_or_default();
        self.seen(shown)
    }

    /// Ends a line that is open.
    fn line_end(&mut self) -> &'static str {
        if self.line != Line::Open {
            return "";
        }
        self.line = Line::Ended;
        "\n"
    }

    /// What is still held back.
    fn rest(&mut self) -> String {
        let rest = self.breaker.as_mut().map(Breaker::finish).unwrap_or_default();
        self.seen(rest)
    }

    /// Text as it goes out. Each piece of a thought is dimmed for itself, so that nothing else ever is.
    fn seen(&mut self, text: String) -> String {
        let Some(last) = text.chars().last() else { return text };
        self.line = if last == '\n' { Line::Ended } else { Line::Open };
        if self.is_thinking && self.is_coloured { format!("\x1b[2m{text}\x1b[0m") } else { text }
    }
}

fn write_some(text: &str) -> Result<(), Ended> {
    if text.is_empty() { Ok(()) } else { write(text.as_bytes()) }
}

/// Breaks lines between words.
#[derive(Debug, Default)]
struct Breaker {
    width: usize,
    /// Columns of this line that are shown.
    column: usize,
    /// Blanks after them that are not.
    blanks: usize,
    /// What follows, as far as it has come.
    word: String,
    /// This line is code.
    is_verbatim: bool,
    /// Between two fences.
    is_fenced: bool,
}

impl Breaker {
    fn new(width: usize) -> Self {
        Self { width: width.max(WIDTH_MIN), ..Self::default() }
    }

    fn push(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len() + 8);
        for character in text.chars() {
            match character {
                '\n' => {
                    self.place(&mut shown);
                    shown.push('\n');
                    (self.column, self.blanks) = (0, 0);
                    self.is_verbatim = self.is_fenced;
                }
                ' ' | '\t' if self.is_at_start() => {
                    self.is_verbatim = true;
                    self.show(character, &mut shown);
                }
                _ if self.is_verbatim && !(self.is_fenced && self.is_at_start()) && self.word.is_empty() => {
                    self.show(character, &mut shown);
                }
                ' ' => {
                    self.place(&mut shown);
                    self.blanks += 1;
                }
                _ => self.word.push(character),
            }
        }
        shown
    }

    fn finish(&mut self) -> String {
        let mut shown = String::new();
        self.place(&mut shown);
        (self.column, self.blanks, self.is_verbatim, self.is_fenced) = (0, 0, false, false);
        shown
    }

    fn is_at_start(&self) -> bool {
        self.column == 0 && self.word.is_empty()
    }

    fn show(&mut self, character: char, shown: &mut String) {
        self.show_blanks(shown);
        self.column += character.width().unwrap_or(1);
        shown.push(character);
    }

    fn show_blanks(&mut self, shown: &mut String) {
        shown.extend(std::iter::repeat_n(' ', self.blanks));
        self.column += std::mem::take(&mut self.blanks);
    }

    /// Shows the word, on a line of its own if this one has no room for it.
    fn place(&mut self, shown: &mut String) {
        if self.word.is_empty() {
            return;
        }
        if self.column == 0 && self.word.starts_with(FENCE) {
            self.is_fenced = !self.is_fenced;
            self.is_verbatim = true;
        }
        let columns = self.word.width();
        if self.column > 0 && !self.is_verbatim && self.column + self.blanks + columns > self.width {
            shown.push('\n');
            self.column = 0;
            self.blanks = 0;
        }
        self.show_blanks(shown);
        shown.push_str(&self.word);
        self.column += columns;
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text in pieces of three characters, as tokens come.
    fn broken(text: &str, width: usize) -> String {
        let mut breaker = Breaker { width, ..Breaker::default() };
        let characters: Vec<char> = text.chars().collect();
        let mut shown: String =
            characters.chunks(3).map(|piece| breaker.push(&piece.iter().collect::<String>())).collect();
        shown.push_str(&breaker.finish());
        shown
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(broken("the fox and the bird", 11), "the fox and\nthe bird");
        assert_eq!(broken("one\n\ntwo three", 7), "one\n\ntwo\nthree");
    }

    #[test]
    fn a_word_longer_than_a_line_is_left_whole() {
        assert_eq!(broken("a incomprehensibilities b", 10), "a\nincomprehensibilities\nb");
    }

    #[test]
    fn code_keeps_its_lines() {
        let code = "    let a_long_line = of_code();\n```\nlet another = long_line();\n```\nwords";
        assert_eq!(broken(code, 12), code);
        assert_eq!(broken("```\nx y z\n```\none two three", 8), "```\nx y z\n```\none two\nthree");
    }

    /// What a terminal of 20 columns is given.
    fn shown(is_coloured: bool, parts: &[(&str, &str)]) -> String {
        let mut prose = Prose::new(Some(20), is_coloured);
        let mut shown: String = parts
            .iter()
            .map(|(kind, text)| if *kind == "thought" { prose.thinking(text) } else { prose.text(text) })
            .collect();
        shown.push_str(&prose.rest());
        shown
    }

    #[test]
    fn thoughts_stand_before_the_answer_dimmed_or_below_a_heading() {
        let parts = [
            ("thought", "\n"),
            ("thought", "\nhm, "),
            ("thought", "so"),
            ("text", "\n\n"),
            ("text", "\nYes."),
        ];
        assert_eq!(shown(true, &parts), "\x1b[2mhm,\x1b[0m\x1b[2m so\x1b[0m\n\nYes.");
        assert_eq!(shown(false, &parts), "Thinking:\nhm, so\n\nAnswer:\nYes.");
        let again = [("text", "Yes."), ("thought", "or "), ("text", "No.")];
        assert_eq!(shown(true, &again), "Yes.\n\n\x1b[2mor\x1b[0m\n\nNo.");
    }

    #[test]
    fn a_thought_of_nothing_is_not_shown() {
        assert_eq!(shown(true, &[("thought", "\n\n"), ("text", "Yes.")]), "Yes.");
    }

    #[test]
    fn escape_sequences_in_thoughts_command_nothing() {
        assert_eq!(shown(false, &[("thought", "a\x1b[0mb")]), "Thinking:\na␛[0mb");
    }

    #[test]
    fn a_pipe_gets_the_answer_alone_and_untouched() {
        let mut prose = Prose::new(None, false);
        assert!(!prose.shows_thoughts());
        assert_eq!(
            (prose.thinking("hm"), prose.text("\n\nYes \x1b.")),
            (String::new(), "\n\nYes \x1b.".to_owned())
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(broken("水水 水水", 8), "水水\n水水");
    }
}
