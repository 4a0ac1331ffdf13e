//! Frames: a length and that many bytes, never more than the limit.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one frame at most: a prompt of ten million tokens, or a text of as many bytes, fits.
pub(crate) const MAX_FRAME_BYTES: usize = 64 << 20;
/// What an idle inbox keeps.
const KEPT_BYTES: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;

/// Why bytes are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge { bytes: usize },
    #[error("a frame cannot be read: {0}")]
    Malformed(String),
    #[error("{what} of {bytes} bytes is over the limit of {most_bytes}")]
    TextTooLong { what: &'static str, bytes: usize, most_bytes: usize },
}

/// A frame that holds `value`.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let bytes = vec![0; LENGTH_BYTES];
    let frame =
        postcard::to_extend(value, bytes).map_err(|error| FrameError::Malformed(error.to_string()))?;
    seal(frame)
}

/// Writes its length into the first bytes of a frame.
pub(super) fn seal(mut frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let bytes = frame.len() - LENGTH_BYTES;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= MAX_FRAME_BYTES => {
            frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLarge { bytes }),
    }
}

/// What a frame holds.
pub(crate) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(frame) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(FrameError::Malformed(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(FrameError::Malformed(error.to_string())),
    }
}

/// Bytes that have arrived, and the frames in them. Grows with what arrives, not with what is announced.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Where the first frame that was not taken yet begins.
    begin: usize,
}

impl Inbox {
    /// Adds what has arrived.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.begin > 0 {
            self.bytes.drain(..self.begin);
            self.begin = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length.
    pub(crate) fn take(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some((length, rest)) = self.bytes[self.begin..].split_first_chunk() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge { bytes });
        }
        if rest.len() < bytes {
            return Ok(None);
        }
        let begin = self.begin + LENGTH_BYTES;
        self.begin = begin + bytes;
        Ok(Some(&self.bytes[begin..self.begin]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let first = encode(&("hello", 7_u64)).unwrap();
        let second = encode(&("", u64::MAX)).unwrap();
        let all = [first, second].concat();
        for cut in 0..=all.len() {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for part in [&all[..cut], &all[cut..]] {
                inbox.put(part);
                while let Some(frame) = inbox.take().unwrap() {
                    seen.push(decode::<(String, u64)>(frame).unwrap());
                }
            }
            assert_eq!(seen, [("hello".to_owned(), 7), (String::new(), u64::MAX)], "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_arrives() {
        let mut inbox = Inbox::default();
        inbox.put(&u32::MAX.to_le_bytes());
        let refused = inbox.take().unwrap_err();
        assert_eq!(refused, FrameError::TooLarge { bytes: u32::MAX as usize });
        let text = "x".repeat(MAX_FRAME_BYTES);
        assert!(matches!(encode(&text), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn what_is_left_over_or_missing_is_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(FrameError::Malformed(_))));
        assert!(matches!(decode::<String>(&[200, 1]), Err(FrameError::Malformed(_))));
    }
}
