//! A gap in a text that a model fills in (fill in the middle, FIM), and the prompt that it reads for that: the text before the gap and
//! the text behind it, each behind a token that says which it is.
//!
//! ```text
//!   [begin] ([repository] name │ [file] name, text … │ [file] name) [prefix] text before [suffix] text behind [middle]
//! ```
//!
//! What does not fit the context is left out: whole further texts first, then the far ends of the text before and behind. Pure; it
//! tokenizes nothing, and no text is ever read as one of these tokens.

use serde::{Deserialize, Serialize};

/// Tokens that are left for an answer whose length the request leaves open.
pub const ANSWER_TOKENS: u32 = 256;
/// Further texts of one request at most.
pub const CHUNKS_MAX: usize = 256;
/// Stands for the name of the repository, which no request tells.
const REPOSITORY: &str = "myproject\n";
/// Stands for the name of the file that has the gap.
const FILE: &str = "filename\n";
/// Comes before each further text, where the model knows no token for a file.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// The tokens of a vocabulary that mark the parts of such a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InfillTokens {
    /// Before the text that comes before the gap.
    pub prefix: u32,
    /// Before the text that comes behind it.
    pub suffix: u32,
    /// Before what the model writes.
    pub middle: u32,
    /// Before the name of a repository.
    pub repository: Option<u32>,
    /// Before the name and the text of a file.
    pub file: Option<u32>,
}

/// A gap in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infill {
    /// The text before it.
    pub prefix: String,
    /// The text behind it.
    pub suffix: String,
    /// Further texts that help, the most helpful last; at most [`CHUNKS_MAX`].
    pub chunks: Vec<InfillChunk>,
    /// Tokens of the context that the prompt leaves for the answer; at most half of the context, whatever this says.
    pub answer_tokens: u32,
}

/// A further text that helps to fill in a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfillChunk {
    /// The name of the file that it is from.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Which end of a text counts, where not all of it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptEnd {
    /// Its beginning.
    Beginning,
    /// Its end.
    End,
}

impl Infill {
    /// The gap between these two texts, and nothing else.
    pub fn new(prefix: impl Into<String>, suffix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            suffix: suffix.into(),
            chunks: Vec::new(),
            answer_tokens: ANSWER_TOKENS,
        }
    }

    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let of_chunks = self.chunks.iter().map(|chunk| chunk.name.len() + chunk.text.len());
        self.prefix.len() + self.suffix.len() + of_chunks.sum::<usize>()
    }

    /// The prompt's tokens for a context of so many, beginning with `bos` where the vocabulary wants one. `tokenize` gives the tokens of
    /// a text, none of which is a control token; of the far end of the text it may leave out what so many tokens do not reach.
    ///
    /// # Errors
    /// Whatever `tokenize` says.
    pub fn tokens<E>(
        &self,
        marks: &InfillTokens,
        bos: Option<u32>,
        context_tokens: u32,
        mut tokenize: impl FnMut(&str, KeptEnd, usize) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<u32>, E> {
        let context = context_tokens as usize;
        let answer = (self.answer_tokens as usize).min(context / 2).max(1);
        let room = context.saturating_sub(answer + 3 + usize::from(bos.is_some()));
        let prefix = tokenize(&self.prefix, KeptEnd::End, room)?;
        let suffix = tokenize(&self.suffix, KeptEnd::Beginning, room)?;
        // A quarter is for the text behind, and what the text before does not need.
        let suffix_most = (room / 4).max(room.saturating_sub(prefix.len()));
        let suffix = &suffix[..suffix.len().min(suffix_most)];
        let prefix = &prefix[prefix.len().saturating_sub(room - suffix.len())..];
        let left = room - suffix.len() - prefix.len();
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        tokens.extend(self.context(marks, left, &mut tokenize)?);
        tokens.push(marks.prefix);
        tokens.extend_from_slice(prefix);
        tokens.push(marks.suffix);
        tokens.extend_from_slice(suffix);
        tokens.push(marks.middle);
        Ok(tokens)
    }

    /// The further texts that fit so many tokens, with what is written around them; nothing where none fits.
    fn context<E>(
        &self,
        marks: &InfillTokens,
        most: usize,
        tokenize: &mut impl FnMut(&str, KeptEnd, usize) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<u32>, E> {
        if self.chunks.is_empty() {
            return Ok(Vec::new());
        }
        let mut marked = |mark: Option<u32>, name: &str| -> Result<Vec<u32>, E> {
            let Some(mark) = mark else { return Ok(Vec::new()) };
            let mut tokens = vec![mark];
            tokens.extend(tokenize(name, KeptEnd::Beginning, usize::MAX)?);
            Ok(tokens)
        };
        let before = marked(marks.repository, REPOSITORY)?;
        let behind = marked(marks.file, FILE)?;
        let Some(mut left) = most.checked_sub(before.len() + behind.len()) else { return Ok(Vec::new()) };
        let mut taken = Vec::new();
        for InfillChunk { name, text } in self.chunks.iter().rev() {
            let (mark, text) = match marks.file {
                Some(file) => (Some(file), format!("{name}\n{text}")),
                None => (None, format!("{SNIPPET}{text}")),
            };
            // One more than fits tells that not all of it does.
            let mut tokens: Vec<u32> = mark.into_iter().collect();
            tokens.extend(tokenize(&text, KeptEnd::Beginning, left.saturating_add(1))?);
            if let Some(rest) = left.checked_sub(tokens.len()) {
                left = rest;
                taken.push(tokens);
            }
        }
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        taken.push(before);
        taken.reverse();
        taken.push(behind);
        Ok(taken.concat())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const MARKS: InfillTokens =
        InfillTokens { prefix: 1000, suffix: 1001, middle: 1002, repository: None, file: None };
    const OF_FILES: InfillTokens = InfillTokens { repository: Some(1003), file: Some(1004), ..MARKS };
    const BOS: u32 = 1005;

    /// Each byte is a token, and no more are made than are needed.
    fn bytes(text: &str, kept: KeptEnd, most: usize) -> Vec<u32> {
        let bytes = text.as_bytes();
        let cut = match kept {
            KeptEnd::Beginning => &bytes[..bytes.len().min(most)],
            KeptEnd::End => &bytes[bytes.len().saturating_sub(most)..],
        };
        cut.iter().map(|byte| u32::from(*byte)).collect()
    }

    fn tokens(infill: &Infill, marks: &InfillTokens, bos: Option<u32>, context_tokens: u32) -> Vec<u32> {
        let read = |text: &str, kept, most| Ok::<_, Infallible>(bytes(text, kept, most));
        let Ok(tokens) = infill.tokens(marks, bos, context_tokens, read);
        tokens
    }

    /// The prompt as text, its marks as signs.
    fn shown(infill: &Infill, marks: &InfillTokens, context_tokens: u32) -> String {
        let sign = |token: u32| match token {
            1000 => "⟨pre⟩".to_owned(),
            1001 => "⟨suf⟩".to_owned(),
            1002 => "⟨mid⟩".to_owned(),
            1003 => "⟨repo⟩".to_owned(),
            1004 => "⟨file⟩".to_owned(),
            BOS => "⟨s⟩".to_owned(),
            byte => char::from(byte as u8).to_string(),
        };
        tokens(infill, marks, Some(BOS), context_tokens).into_iter().map(sign).collect()
    }

    fn with_chunks(chunks: &[(&str, &str)]) -> Infill {
        let chunk =
            |(name, text): &(&str, &str)| InfillChunk { name: (*name).to_owned(), text: (*text).to_owned() };
        Infill { chunks: chunks.iter().map(chunk).collect(), ..Infill::new("fn a", "}") }
    }

    #[test]
    fn the_texts_stand_behind_their_marks() {
        assert_eq!(shown(&Infill::new("fn a", "}"), &OF_FILES, 1000), "⟨s⟩⟨pre⟩fn a⟨suf⟩}⟨mid⟩");
        assert_eq!(tokens(&Infill::new("", ""), &MARKS, None, 1000), [1000, 1001, 1002]);
    }

    #[test]
    fn further_texts_come_first_as_the_model_knows_them() {
        let infill = with_chunks(&[("a.rs", "A"), ("b.rs", "B")]);
        assert_eq!(
            shown(&infill, &OF_FILES, 1000),
            "⟨s⟩⟨repo⟩myproject\n⟨file⟩a.rs\nA⟨file⟩b.rs\nB⟨file⟩filename\n⟨pre⟩fn a⟨suf⟩}⟨mid⟩"
        );
        assert_eq!(
            shown(&infill, &MARKS, 1000),
            "⟨s⟩\n\n--- snippet ---\n\nA\n\n--- snippet ---\n\nB⟨pre⟩fn a⟨suf⟩}⟨mid⟩"
        );
    }

    #[test]
    fn whole_further_texts_are_left_out_where_they_do_not_fit() {
        let long = "B".repeat(90);
        let infill = with_chunks(&[("a", "AAAA"), ("b", long.as_str()), ("c", "CCCC")]);
        let infill = Infill { answer_tokens: 10, ..infill };
        // Marks and names take 23 tokens, the gap 9, the answer 10, and each small text 7.
        let prompt = shown(&infill, &OF_FILES, 56);
        assert!(prompt.contains("⟨file⟩a\nAAAA⟨file⟩c\nCCCC⟨file⟩"), "{prompt}");
        assert!(shown(&infill, &OF_FILES, 50).contains("⟨repo⟩myproject\n⟨file⟩c\nCCCC⟨file⟩"));
        assert_eq!(shown(&infill, &OF_FILES, 40), "⟨s⟩⟨pre⟩fn a⟨suf⟩}⟨mid⟩");
    }

    #[test]
    fn what_is_near_the_gap_is_kept_and_the_answer_has_its_room() {
        let before: String = "abcdefghij".repeat(10);
        let behind: String = "0123456789".repeat(10);
        for (infill, expected) in [
            (Infill::new(&before, &behind), (27, 9)),
            (Infill::new(&before, "01"), (34, 2)),
            (Infill::new("ab", &behind), (2, 34)),
        ] {
            let infill = Infill { answer_tokens: 24, ..infill };
            let tokens = tokens(&infill, &MARKS, Some(BOS), 64);
            assert_eq!(tokens.len(), 40, "64 without the answer's 24");
            let suffix_at = tokens.iter().position(|token| *token == 1001).expect("a mark");
            let (prefix, suffix) = (&tokens[2..suffix_at], &tokens[suffix_at + 1..tokens.len() - 1]);
            assert_eq!((prefix.len(), suffix.len()), expected);
            let text =
                |tokens: &[u32]| tokens.iter().map(|token| char::from(*token as u8)).collect::<String>();
            assert!(infill.prefix.ends_with(&text(prefix)) && infill.suffix.starts_with(&text(suffix)));
        }
        // However long the answer is to be, and however short the context is, there is a prompt.
        for context_tokens in [0, 1, 4, 5, 9, 64] {
            let greedy = Infill { answer_tokens: u32::MAX, ..Infill::new(&before, &behind) };
            let tokens = tokens(&greedy, &OF_FILES, Some(BOS), context_tokens);
            let half = context_tokens.div_ceil(2) as usize;
            assert!(tokens.len() <= half.max(4), "{context_tokens}: {tokens:?}");
        }
    }
}
