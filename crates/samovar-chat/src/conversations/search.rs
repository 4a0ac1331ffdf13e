//! Finding words in titles and messages, the newest message first.

use super::ChatHistory;
use super::history::TITLE_CHARACTERS;
use super::row::{self, HEAD, SearchHit};
use crate::error::ChatError;

/// What stands before a word that was found.
pub const SNIPPET_BEGIN: &str = "⟦";
/// What stands behind it.
pub const SNIPPET_END: &str = "⟧";

/// Hits of one answer at most.
const HITS_MAX: u32 = 200;
/// Words of a search at most.
const WORDS_MAX: usize = 32;

impl ChatHistory {
    /// Conversations with all of these words in their title or in one message, each of them once: first those with such a title, then
    /// those with such messages, the newest first. The last word may be the beginning of one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search(&self, text: &str, limit: u32) -> Result<Vec<SearchHit>, ChatError> {
        let limit = limit.min(HITS_MAX);
        let Some(query) = query_of(text) else { return Ok(Vec::new()) };
        self.read(|connection| {
            // SQLite refuses a very long pattern; no title is longer than this one.
            let words: String = text.trim().chars().take(TITLE_CHARACTERS + 1).collect();
            let pattern = format!("%{}%", words.replace(['\\', '%', '_'], "_"));
            let mut titles = connection.prepare_cached(&format!(
                "SELECT {HEAD} FROM conversation c WHERE c.owner = ?1 AND c.title LIKE ?2
                 ORDER BY c.changed_ms DESC, c.id DESC LIMIT ?3"
            ))?;
            let titles = titles.query_map((self.owner(), &pattern, limit), |row| {
                let conversation = row::head(row)?;
                Ok(SearchHit { snippet: conversation.title.clone(), conversation, message: None })
            })?;
            let mut hits: Vec<SearchHit> = titles.collect::<rusqlite::Result<_>>()?;
            let mut messages = connection.prepare_cached(&format!(
                "SELECT {HEAD}, m.id, snippet(words, 0, '{SNIPPET_BEGIN}', '{SNIPPET_END}', '…', 16)
                 FROM words CROSS JOIN message m ON m.id = words.rowid CROSS JOIN conversation c ON c.id = m.conversation
                 WHERE words MATCH ?1 AND c.owner = ?2 ORDER BY words.rowid DESC"
            ))?;
            let mut rows = messages.query((&query, self.owner()))?;
            while hits.len() < limit as usize
                && let Some(row) = rows.next()?
            {
                let conversation = row::head(row)?;
                if hits.iter().all(|hit| hit.conversation.id != conversation.id) {
                    let (message, snippet) = (Some(row.get(6)?), row.get(7)?);
                    hits.push(SearchHit { conversation, message, snippet });
                }
            }
            Ok(hits)
        })
    }
}

/// The words as FTS5 reads them: each in quotes, so that none of them is an operator; `None` = there are none.
fn query_of(text: &str) -> Option<String> {
    let has_letters = |word: &&str| word.chars().any(char::is_alphanumeric);
    let words: Vec<String> = text
        .split_whitespace()
        .filter(has_letters)
        .take(WORDS_MAX)
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    (!words.is_empty()).then(|| format!("{}*", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_an_operator() {
        assert_eq!(query_of("say \"hi\" OR NOT").as_deref(), Some(r#""say" """hi""" "OR" "NOT"*"#));
        assert_eq!(query_of(" - \" * "), None);
    }
}
