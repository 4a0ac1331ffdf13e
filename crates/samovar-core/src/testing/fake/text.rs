//! Text of an answer as it may be shown: whole characters, and nothing of a stop string.

/// Collects the bytes of tokens and gives out text that is decided.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// With their places among those of the request.
    stop: Vec<(u32, String)>,
    bytes: Vec<u8>,
    text: String,
}

/// What came of one more token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Text to show; the answer goes on.
    Text(String),
    /// The last text before the stop string of this place.
    Stopped(String, u32),
}

impl Withheld {
    pub(super) fn new(stop: &[String]) -> Self {
        let stop = (0..).zip(stop).filter(|(_, stop)| !stop.is_empty());
        Self { stop: stop.map(|(place, stop)| (place, stop.clone())).collect(), ..Self::default() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Shown {
        self.bytes.extend_from_slice(bytes);
        self.take_characters();
        let found =
            |(place, stop): &(u32, String)| Some((self.text.find(stop.as_str())?, stop.len(), *place));
        if let Some((at, _, place)) = self.stop.iter().filter_map(found).min() {
            self.text.truncate(at);
            return Shown::Stopped(std::mem::take(&mut self.text), place);
        }
        let keep = self.stop_begun();
        let undecided = self.text.split_off(self.text.len() - keep);
        Shown::Text(std::mem::replace(&mut self.text, undecided))
    }

    /// All that is left, at the end of the answer.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(&String::from_utf8_lossy(&self.bytes));
        self.text
    }

    /// Moves whole characters from bytes to text; what can no longer become one is replaced.
    fn take_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    self.text.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
                    self.bytes.drain(..valid);
                    let Some(wrong) = error.error_len() else { return };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.bytes.drain(..wrong);
                }
            }
        }
    }

    /// Bytes at the end of the text with which a stop string may have begun.
    fn stop_begun(&self) -> usize {
        let begun = |(_, stop): &(u32, String)| {
            let ends = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
            ends.filter(|at| self.text.ends_with(&stop[..*at])).max()
        };
        self.stop.iter().filter_map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_is_withheld() {
        let mut withheld = Withheld::new(&[]);
        let bytes = "é".as_bytes();
        assert_eq!(withheld.push(&bytes[..1]), Shown::Text(String::new()));
        assert_eq!(withheld.push(&bytes[1..]), Shown::Text("é".into()));
        assert_eq!(withheld.push(&[0xff]), Shown::Text("\u{fffd}".into()));
        withheld.push(&bytes[..1]);
        assert_eq!(withheld.finish(), "\u{fffd}");
    }

    #[test]
    fn a_stop_string_split_over_tokens_is_never_shown() {
        let mut withheld = Withheld::new(&[String::new(), "END".into()]);
        assert_eq!(withheld.push(b"so E"), Shown::Text("so ".into()));
        assert_eq!(withheld.push(b"N"), Shown::Text(String::new()));
        assert_eq!(withheld.push(b"E"), Shown::Text("EN".into()));
        assert_eq!(withheld.push(b"ND now"), Shown::Stopped(String::new(), 1));
    }
}
