//! `context` of `/api/generate`: the conversation so far as a list of numbers, which a client sends back without reading it.
//!
//! Ollama's are the ids of all tokens; they are put before the next prompt as they are. These hold the messages themselves, so that
//! the model's template writes the next prompt as it writes every other, and what was computed of it is used again.
//!
//! ```text
//!   [MARK, bytes, check, three bytes, three bytes, …]     all numbers are below 2^24
//! ```

use samovar::Message;
use samovar_core::Digest;

use crate::refusal::Refusal;

/// Bytes of a conversation that is told in this way; clients that have longer ones send them to `/api/chat`.
const SAID_BYTES: usize = 256 << 10;
/// By which such a list is known, with its version.
const MARK: u32 = 0x53_4D_01;
/// Numbers before those that hold bytes.
const HEAD: usize = 3;
/// Bytes that a number holds.
const BYTES: usize = 3;

/// What was said before an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversation(Vec<(String, String)>);

impl Conversation {
    /// These messages, as far as a prompt's conversation has them: who said what. `None` for a conversation that is too long to be
    /// sent back and forth.
    pub(super) fn of(messages: &[Message]) -> Option<Self> {
        let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let said = || messages.iter().map(|message| (message.role.clone(), message.content.clone()));
        (bytes <= SAID_BYTES).then(|| Self(said().collect()))
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(role, content)| role.len() + content.len()).sum()
    }

    /// The conversation with this answer, as a client is given it.
    pub(super) fn written(&self, answer: &str) -> Vec<u32> {
        let said = self.0.iter().map(|(role, content)| (role.as_str(), content.as_str()));
        let all: Vec<(&str, &str)> = said.chain([("assistant", answer)]).collect();
        let bytes = serde_json::to_vec(&all).expect("invariant: texts are plain data");
        let head = [MARK, bytes.len() as u32, check(&bytes)];
        let pieces = bytes.chunks(BYTES).map(|piece| {
            let of = |at: usize| u32::from(piece.get(at).copied().unwrap_or(0));
            of(0) << 16 | of(1) << 8 | of(2)
        });
        head.into_iter().chain(pieces).collect()
    }

    /// The messages that such a list holds.
    ///
    /// # Errors
    /// 400 for a list that this server did not write.
    pub(super) fn read(context: &[u32]) -> Result<Vec<Message>, Refusal> {
        let said = Self::said(context).ok_or_else(|| {
            Refusal::invalid("context", "`context` is not a list that this server wrote")
                .with_hint("send back the one of the answer before, or the conversation to /api/chat")
        })?;
        Ok(said.into_iter().map(|(role, content)| Message::new(role, content)).collect())
    }

    fn said(context: &[u32]) -> Option<Vec<(String, String)>> {
        let (head, pieces) = context.split_at_checked(HEAD)?;
        let length = head[1] as usize;
        if head[0] != MARK || length.div_ceil(BYTES) != pieces.len() {
            return None;
        }
        let bytes_of = |piece: &u32| piece.to_be_bytes().into_iter().skip(1);
        let mut bytes: Vec<u8> = pieces.iter().flat_map(bytes_of).collect();
        bytes.truncate(length);
        if check(&bytes) != head[2] {
            return None;
        }
        serde_json::from_slice(&bytes).ok()
    }
}

/// Tells lists that a client cut or changed.
fn check(bytes: &[u8]) -> u32 {
    let [a, b, c, ..] = *Digest::of_bytes(bytes).as_bytes();
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_comes_back_as_it_was() {
        for said in
            [&[][..], &[Message::user("")], &[Message::system("Be brief"), Message::user("naïve \"x\"\n")]]
        {
            for answer in ["", "a", "ab", "abc", "☕"] {
                let context = Conversation::of(said).expect("is short").written(answer);
                assert!(context.iter().all(|number| *number < 1 << 24), "{context:?}");
                let expected = [said, &[Message::assistant(answer)]].concat();
                assert_eq!(Conversation::read(&context).expect("is ours"), expected);
            }
        }
    }

    #[test]
    fn a_list_that_is_not_ours_or_not_whole_is_refused() {
        let context = Conversation::of(&[Message::user("Hi")]).expect("is short").written("there");
        let mut changed = context.clone();
        changed[5] ^= 1;
        let longer = [&context[..], &[0]].concat();
        let shorter = &context[..context.len() - 1];
        let huge = [MARK, u32::MAX, 0, 1];
        for wrong in [&[][..], &[1, 2, 3], &[MARK], &[MARK, 0, 0], &huge, &changed, &longer, shorter] {
            let failure = Conversation::read(wrong).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("context"), "{wrong:?}");
        }
    }

    #[test]
    fn a_long_conversation_is_not_told() {
        assert_eq!(Conversation::of(&[Message::user("x".repeat(SAID_BYTES))]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_list_panics(context: Vec<u32>) {
            Conversation::read(&context).ok();
        }
    }
}
