//! Lines of a screen: pieces of text with a tone, measured in terminal columns. No control character gets into one.

use unicode_width::UnicodeWidthChar;

use crate::report::harmless;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Anything.
    #[default]
    Plain,
    /// Less important.
    Dim,
    /// The head of a table.
    Head,
    /// As it should be.
    Good,
    /// Needs a look.
    Odd,
    /// Wrong.
    Bad,
    /// A model's part of a bar, by its place.
    Model(usize),
}

impl Tone {
    /// Parameters of the terminal's sequence for it.
    fn parameters(self) -> &'static str {
        const MODELS: [&str; 6] = ["30;46", "30;42", "30;43", "30;45", "30;44", "30;47"];
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Head => "1",
            Self::Good => "32",
            Self::Odd => "33",
            Self::Bad => "31",
            Self::Model(place) => MODELS[place % MODELS.len()],
        }
    }
}

/// One line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScreenLine {
    pieces: Vec<(Tone, String)>,
    columns: usize,
}

impl ScreenLine {
    /// A line of one piece.
    pub(super) fn of(tone: Tone, text: &str) -> Self {
        let mut line = Self::default();
        line.push(tone, text);
        line
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, tone: Tone, text: &str) {
        let text = clean(text);
        if text.is_empty() {
            return;
        }
        self.columns += columns(&text);
        match self.pieces.last_mut() {
            Some((last, before)) if *last == tone => before.push_str(&text),
            _ => self.pieces.push((tone, text)),
        }
    }

    /// Adds the pieces of another line.
    pub(super) fn append(&mut self, other: Self) {
        self.columns += other.columns;
        self.pieces.extend(other.pieces);
    }

    /// How many columns it takes.
    #[cfg(test)]
    pub(super) const fn columns(&self) -> usize {
        self.columns
    }

    /// The same line in so many columns at most.
    pub(super) fn fitted(mut self, width: usize) -> Self {
        if self.columns <= width {
            return self;
        }
        let mut left = width;
        for (_, text) in &mut self.pieces {
            *text = cut(text, left);
            left -= columns(text);
        }
        self.columns = width - left;
        self
    }

    /// Its text alone.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// As the terminal is sent it.
    pub(super) fn painted(&self, is_coloured: bool) -> String {
        let mut painted = String::new();
        for (tone, text) in &self.pieces {
            let parameters = if is_coloured { tone.parameters() } else { "" };
            if parameters.is_empty() {
                painted.push_str(text);
            } else {
                painted.extend(["\x1b[", parameters, "m", text.as_str(), "\x1b[0m"]);
            }
        }
        painted
    }
}

/// Text on one line that cannot command a terminal: neither by control characters nor by marks that reverse its direction.
fn clean(text: &str) -> String {
    let is_kept = |c: char| !matches!(c, '\n' | '\t' | '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    harmless(text).chars().map(|c| if is_kept(c) { c } else { '\u{fffd}' }).collect()
}

/// Columns that the text takes in a terminal.
pub(super) fn columns(text: &str) -> usize {
    // Character by character, as it is cut: together they take that much at most.
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text in so many columns at most; one that is cut ends in `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let mut taken = 0;
    let fits = |c: &char| {
        taken += c.width().unwrap_or(0);
        taken <= room
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// The text in exactly so many columns.
pub(super) fn padded(text: &str, width: usize, is_right: bool) -> String {
    let text = cut(&clean(text), width);
    let space = " ".repeat(width - columns(&text));
    if is_right { space + &text } else { text + &space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_are_never_cut_in_two() {
        assert_eq!(columns("茶炊"), 4);
        assert_eq!(cut("茶炊-7b", 7), "茶炊-7b");
        assert_eq!(cut("茶炊-7b", 4), "茶…");
        assert_eq!(cut("茶炊", 1), "…");
        assert_eq!(cut("茶炊", 0), "");
        assert_eq!(padded("茶", 4, false), "茶  ");
        assert_eq!(padded("茶炊", 4, true), "茶炊");
        assert_eq!(padded("茶炊", 3, true), "茶…");
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let line = ScreenLine::of(Tone::Bad, "a\x1b[2J\r\n\tb\u{9b}c\u{202e}d");
        assert!(!line.text().contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(!line.painted(false).contains('\x1b'));
        assert!(padded("a\nb", 4, false).starts_with("a\u{fffd}b"));
    }

    #[test]
    fn without_colours_there_are_no_sequences() {
        let mut line = ScreenLine::of(Tone::Head, "MODELS ");
        line.push(Tone::Model(7), "A");
        assert_eq!(line.painted(false), "MODELS A");
        assert_eq!(line.painted(true), "\x1b[1mMODELS \x1b[0m\x1b[30;42mA\x1b[0m");
    }

    #[test]
    fn a_line_is_cut_at_the_edge_wherever_its_pieces_end() {
        let mut line = ScreenLine::of(Tone::Plain, "one ");
        line.push(Tone::Dim, "two");
        for width in 0..8 {
            let fitted = line.clone().fitted(width);
            assert!(fitted.columns() <= width && columns(&fitted.text()) == fitted.columns(), "{fitted:?}");
        }
        assert_eq!(line.fitted(6).text(), "one t…");
    }
}
