//! A bounded window over a file: reads numbers and text, never past the end, never much at once.
//!
//! Reading instead of mapping: a file that is cut while it is read gives an error here, where a
//! mapping would kill the process.

use std::io::{self, Read, Seek, SeekFrom};

use super::error::Fault;
use super::limits::WINDOW_BYTES;

pub(super) struct Reader<R> {
    inner: R,
    window: Box<[u8]>,
    /// The unread part of the window.
    start: usize,
    end: usize,
    /// Offset in the file of `window[start]`.
    position: u64,
    file_bytes: u64,
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn new(inner: R, file_bytes: u64) -> Self {
        let window = vec![0; WINDOW_BYTES].into_boxed_slice();
        Self { inner, window, start: 0, end: 0, position: 0, file_bytes }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes from here to the end of the file.
    pub(super) fn remaining(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position)
    }

    /// Goes to an offset that was reached before.
    pub(super) fn seek(&mut self, position: u64) -> Result<(), Fault> {
        let window_start = self.position - self.start as u64;
        if (window_start..=window_start + self.end as u64).contains(&position) {
            self.start = (position - window_start) as usize;
        } else {
            self.inner.seek(SeekFrom::Start(position)).map_err(Fault::Read)?;
            (self.start, self.end) = (0, 0);
        }
        self.position = position;
        Ok(())
    }

    /// Leaves `count` bytes out.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Fault> {
        if count > self.remaining() {
            return Err(self.truncated(count));
        }
        self.seek(self.position + count)
    }

    /// The next `count` bytes, which stay unread. `count` is at most the window.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8], Fault> {
        if count as u64 > self.remaining() {
            return Err(self.truncated(count as u64));
        }
        if self.end - self.start < count {
            self.fill(count)?;
        }
        Ok(&self.window[self.start..self.start + count])
    }

    fn fill(&mut self, count: usize) -> Result<(), Fault> {
        self.window.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < count {
            match self.inner.read(&mut self.window[self.end..]) {
                Ok(0) => return Err(Fault::Cut { at: self.position, needed: count as u64 }),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(Fault::Read(error)),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    fn truncated(&self, needed: u64) -> Fault {
        Fault::Truncated { at: self.position, needed, left: self.remaining() }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.peek(N)?.try_into().expect("invariant: peek gives N bytes");
        self.advance(N);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// Checks that the next `count` bytes are UTF-8, and passes them. They may be more than the window.
    pub(super) fn pass_utf8(&mut self, count: u64) -> Result<(), Utf8Fault> {
        let mut left = count;
        while left > 0 {
            let piece = left.min(WINDOW_BYTES as u64) as usize;
            let valid = match std::str::from_utf8(self.peek(piece)?) {
                Ok(_) => piece,
                // A character that goes on in the next piece.
                Err(error) if error.error_len().is_none() && (piece as u64) < left => error.valid_up_to(),
                Err(error) => {
                    return Err(Utf8Fault::NotUtf8 { at: self.position + error.valid_up_to() as u64 });
                }
            };
            self.advance(valid);
            left -= valid as u64;
        }
        Ok(())
    }

    /// The next `count` bytes as text that is not copied. `count` is at most the window.
    pub(super) fn short_text(&mut self, count: usize) -> Result<&str, Utf8Fault> {
        let position = self.position;
        self.peek(count)?;
        let begin = self.start;
        self.advance(count);
        std::str::from_utf8(&self.window[begin..begin + count])
            .map_err(|error| Utf8Fault::NotUtf8 { at: position + error.valid_up_to() as u64 })
    }

    /// The next `count` bytes as text. The caller has bounded `count`.
    pub(super) fn text(&mut self, count: u64) -> Result<String, Utf8Fault> {
        let mut bytes = Vec::with_capacity(count as usize);
        while (bytes.len() as u64) < count {
            let piece = (count - bytes.len() as u64).min(WINDOW_BYTES as u64) as usize;
            bytes.extend_from_slice(self.peek(piece)?);
            self.advance(piece);
        }
        let begin = self.position - count;
        String::from_utf8(bytes)
            .map_err(|error| Utf8Fault::NotUtf8 { at: begin + error.utf8_error().valid_up_to() as u64 })
    }
}

/// Why text could not be read; the caller knows whose text it was.
#[derive(Debug)]
pub(super) enum Utf8Fault {
    NotUtf8 { at: u64 },
    Other(Fault),
}

impl From<Fault> for Utf8Fault {
    fn from(fault: Fault) -> Self {
        Self::Other(fault)
    }
}

impl Utf8Fault {
    /// The fault, with the name of what was read.
    pub(super) fn of(self, subject: impl FnOnce() -> String) -> Fault {
        match self {
            Self::NotUtf8 { at } => Fault::NotUtf8 { subject: subject(), at },
            Self::Other(fault) => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn reader(bytes: &[u8]) -> Reader<Cursor<&[u8]>> {
        Reader::new(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn numbers_are_little_endian_and_never_read_past_the_end() {
        let mut reader = reader(&[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(reader.u32().unwrap(), 1);
        assert!(matches!(reader.u64(), Err(Fault::Truncated { at: 4, needed: 8, left: 4 })));
        assert_eq!(reader.u32().unwrap(), 2);
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn characters_on_the_edge_of_the_window_are_whole() {
        let text = "é".repeat(WINDOW_BYTES);
        let mut bytes = vec![b'x'];
        bytes.extend_from_slice(text.as_bytes());
        let count = bytes.len() as u64;
        reader(&bytes).pass_utf8(count).unwrap();
        assert_eq!(reader(&bytes).text(count).unwrap().len() as u64, count);
        bytes.pop();
        assert!(
            matches!(reader(&bytes).pass_utf8(count - 1), Err(Utf8Fault::NotUtf8 { at }) if at == count - 2)
        );
    }

    #[test]
    fn seeking_inside_and_outside_the_window_reads_the_same() {
        let bytes: Vec<u8> = (0..WINDOW_BYTES * 3).map(|i| (i / 7) as u8).collect();
        let mut reader = reader(&bytes);
        for at in [0, 10, WINDOW_BYTES * 2, 5, WINDOW_BYTES - 1, WINDOW_BYTES * 3 - 4] {
            reader.seek(at as u64).unwrap();
            assert_eq!(reader.array::<4>().unwrap(), bytes[at..at + 4]);
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut reader = Reader::new(Cursor::new(vec![0; 10]), 100);
        reader.skip(8).unwrap();
        assert!(matches!(reader.u64(), Err(Fault::Cut { at: 8, needed: 8 })));
    }
}
