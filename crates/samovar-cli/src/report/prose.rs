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
    is_line_open: bool,
}

impl Prose {
    /// `width` in columns, for a terminal.
    pub(super) fn new(width: Option<usize>) -> Self {
        Self { breaker: width.map(Breaker::new), is_line_open: false }
    }

    /// Shows more text, at once but for a word that may still grow.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), Ended> {
        let shown = match &mut self.breaker {
            Some(breaker) => breaker.push(&harmless(text)),
            None => text.to_owned(),
        };
        self.show(&shown)
    }

    /// Shows the rest and ends the line, if one was begun.
    pub(crate) fn end(&mut self) -> Result<(), Ended> {
        let rest = self.breaker.as_mut().map(Breaker::finish).unwrap_or_default();
        self.show(&rest)?;
        if std::mem::take(&mut self.is_line_open) { write("\n") } else { Ok(()) }
    }

    fn show(&mut self, text: &str) -> Result<(), Ended> {
        if let Some(last) = text.chars().last() {
            self.is_line_open = last != '\n';
            write(text)?;
        }
        Ok(())
    }
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

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(broken("水水 水水", 8), "水水\n水水");
    }
}
