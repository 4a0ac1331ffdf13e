//! Where a message ends in a stream of bytes: one JSON a line, or a header `Content-Length` before each, as language servers
//! have it. The first byte of a connection decides. Parses no JSON.

use std::io;

use axum::body::Bytes;
use samovar_core::byte_budget::ByteBudget;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::wire::Fault;
use crate::buffer_charge::BufferCharge;

/// Bytes that are put into one write at most, when more messages are ready at the same time.
const WRITE_BYTES: usize = 16 << 10;
/// Bytes of one line of a header.
const HEADER_LINE_BYTES: usize = 1024;
/// Lines of one header.
const HEADER_LINES: usize = 8;

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each is a line.
    Lines,
    /// Before each stands its length.
    Headers,
}

/// Whether a connection to the owner's socket that begins with this byte speaks JSON-RPC: methods of HTTP begin with other
/// ones. White space is for clients that have nothing to say yet.
pub(crate) const fn begins_with(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n' | b'C' | b'c')
}

/// What came.
#[derive(Debug)]
pub(super) enum Arrived {
    /// The bytes of a message, counted.
    Message(Vec<u8>, BufferCharge),
    /// A message that is not read; the next one is.
    Refused(Fault),
    /// Bytes in which no further message can be found.
    Broken(Fault),
}

/// The messages of a stream.
pub(super) struct Messages<R> {
    reader: BufReader<R>,
    budget: ByteBudget,
    client: String,
    limit_bytes: usize,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    /// What messages hold is counted for this client.
    pub(super) fn new(reader: R, budget: ByteBudget, client: String, limit_bytes: usize) -> Self {
        Self { reader: BufReader::new(reader), budget, client, limit_bytes }
    }

    /// How messages are told apart, as the first one says; `None` at the end.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(super) async fn framing(&mut self) -> io::Result<Option<Framing>> {
        let first = self.first_byte().await?;
        Ok(first.map(|byte| if matches!(byte, b'C' | b'c') { Framing::Headers } else { Framing::Lines }))
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(super) async fn next(&mut self, framing: Framing) -> io::Result<Option<Arrived>> {
        if self.first_byte().await?.is_none() {
            return Ok(None);
        }
        match framing {
            Framing::Lines => Ok(Some(match self.line(self.limit_bytes).await? {
                Ok((bytes, held)) => Arrived::Message(bytes, held),
                Err(fault) => Arrived::Refused(fault),
            })),
            Framing::Headers => self.after_header().await,
        }
    }

    /// The next byte that is no white space, which stays.
    async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let first = bytes.get(blanks).copied();
            self.reader.consume(blanks);
            if first.is_some() {
                return Ok(first);
            }
        }
    }

    /// A line to its end. The rest of one that is refused is read to no use.
    async fn line(&mut self, limit_bytes: usize) -> io::Result<Result<(Vec<u8>, BufferCharge), Fault>> {
        let mut kept: Result<(Vec<u8>, BufferCharge), Fault> = Ok((Vec::new(), self.charge()));
        loop {
            let part = self.reader.fill_buf().await?;
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(part.len(), |end| end + 1);
            if let Ok((line, held)) = &mut kept {
                if line.len() + taken > limit_bytes {
                    kept = Err(too_large(limit_bytes));
                } else if let Err(failure) = held.add(taken) {
                    kept = Err(failure.into());
                } else {
                    line.extend_from_slice(&part[..taken]);
                }
            }
            self.reader.consume(taken);
            // The last line may have no end.
            if end.is_some() || taken == 0 {
                return Ok(kept);
            }
        }
    }

    async fn after_header(&mut self) -> io::Result<Option<Arrived>> {
        let mut length_bytes = None;
        for _ in 0..HEADER_LINES {
            let line = match self.line(HEADER_LINE_BYTES).await? {
                Ok((line, _)) => line,
                Err(fault) => return Ok(Some(Arrived::Broken(fault))),
            };
            let line = line.trim_ascii();
            if line.is_empty() {
                let Some(length_bytes) = length_bytes else { break };
                return self.of_length(length_bytes).await;
            }
            let line = String::from_utf8_lossy(line).to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                let Ok(length) = length.trim().parse::<u64>() else { break };
                length_bytes = Some(length);
            }
        }
        let hint = "a header is `Content-Length: N`, an empty line, and N bytes of JSON";
        Ok(Some(Arrived::Broken(Fault::parse(hint))))
    }

    async fn of_length(&mut self, length_bytes: u64) -> io::Result<Option<Arrived>> {
        let mut held = self.charge();
        let refused = if length_bytes > self.limit_bytes as u64 {
            Some(too_large(self.limit_bytes))
        } else {
            held.add(length_bytes as usize).err().map(Fault::from)
        };
        let mut part = (&mut self.reader).take(length_bytes);
        if let Some(fault) = refused {
            tokio::io::copy_buf(&mut part, &mut tokio::io::sink()).await?;
            return Ok(Some(Arrived::Refused(fault)));
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).await?;
        let is_whole = bytes.len() as u64 == length_bytes;
        Ok(is_whole.then_some(Arrived::Message(bytes, held)))
    }

    fn charge(&self) -> BufferCharge {
        BufferCharge::of(&self.budget, &self.client)
    }
}

fn too_large(limit_bytes: usize) -> Fault {
    Fault::invalid(format!("a message may have {limit_bytes} bytes"))
}

/// Writes messages as they come, until there are no more.
///
/// # Errors
/// When the stream breaks.
pub(super) async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Bytes>,
    framing: Framing,
) -> io::Result<()> {
    let mut ready = Vec::new();
    while let Some(message) = messages.recv().await {
        framing.begin(&mut ready, message.len());
        if message.len() > WRITE_BYTES {
            // It is counted as it is, and not to be copied.
            writer.write_all(&ready).await?;
            ready.clear();
            writer.write_all(&message).await?;
        } else {
            ready.extend_from_slice(&message);
        }
        framing.end(&mut ready);
        while ready.len() < WRITE_BYTES
            && let Ok(next) = messages.try_recv()
        {
            framing.begin(&mut ready, next.len());
            ready.extend_from_slice(&next);
            framing.end(&mut ready);
        }
        writer.write_all(&ready).await?;
        writer.flush().await?;
        ready = Vec::new();
    }
    writer.shutdown().await
}

impl Framing {
    fn begin(self, bytes: &mut Vec<u8>, length_bytes: usize) {
        if self == Self::Headers {
            bytes.extend_from_slice(format!("Content-Length: {length_bytes}\r\n\r\n").as_bytes());
        }
    }

    fn end(self, bytes: &mut Vec<u8>) {
        if self == Self::Lines {
            bytes.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these bytes: messages as texts, and the codes of what is refused.
    async fn arrived(mut bytes: &[u8], limit_bytes: usize) -> Vec<Result<String, i32>> {
        let budget = ByteBudget::new(100_000);
        let mut messages = Messages::new(&mut bytes, budget.clone(), "a".to_owned(), limit_bytes);
        let Some(framing) = messages.framing().await.expect("reads") else { return Vec::new() };
        let mut all = Vec::new();
        while let Some(arrived) = messages.next(framing).await.expect("reads") {
            match arrived {
                Arrived::Message(bytes, held) => {
                    assert!(budget.used_bytes() >= bytes.len() as u64);
                    drop(held);
                    all.push(Ok(String::from_utf8(bytes).expect("UTF-8").trim_end().to_owned()));
                }
                Arrived::Refused(fault) => all.push(Err(fault.code)),
                Arrived::Broken(fault) => {
                    all.push(Err(fault.code));
                    break;
                }
            }
        }
        assert_eq!(budget.used_bytes(), 0);
        all
    }

    #[allow(clippy::unnecessary_wraps, reason = "it is compared with what was read")]
    fn message(text: &str) -> Result<String, i32> {
        Ok(text.to_owned())
    }

    #[tokio::test]
    async fn lines_are_read_without_blanks_and_the_last_needs_no_end() {
        assert!(arrived(b" \r\n", 9).await.is_empty());
        let lines = arrived(b"\n {\"a\":1}\r\n\n7\n  \nlast", 9).await;
        assert_eq!(lines, [message("{\"a\":1}"), message("7"), message("last")]);
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_and_the_next_message_read() {
        assert_eq!(arrived(b"123456789\n7\n", 4).await, [Err(-32600), message("7")]);
        let framed = b"Content-Length: 9\r\n\r\n123456789content-length: 2\r\n\r\n{}\r\n";
        assert_eq!(arrived(framed, 4).await, [Err(-32600), message("{}")]);
        let endless = format!("Content-Length: {}\r\n\r\n{{}}", u64::MAX);
        assert_eq!(arrived(endless.as_bytes(), 4).await, [Err(-32600)]);
    }

    #[tokio::test]
    async fn a_header_that_cannot_be_read_is_the_last() {
        let long = format!("Content-Length: {}\r\n\r\n{{}}", "1".repeat(2_000));
        for header in [
            "C",
            "Content-Length: x\r\n\r\n{}",
            "Content-Type: x\r\n\r\n{}",
            "Content-Length: -1\n\n{}",
            &long,
        ] {
            let all = arrived(header.as_bytes(), 9).await;
            assert!(matches!(all.as_slice(), [Err(-32700 | -32600)]), "{header}: {all:?}");
        }
        // A message that is cut is none.
        assert!(arrived(b"Content-Length: 5\r\n\r\n12", 9).await.is_empty());
    }

    #[tokio::test]
    async fn a_message_that_finds_no_room_is_refused() {
        let line = format!("{}\n7\n", "x".repeat(80_000));
        assert_eq!(arrived(line.as_bytes(), 1 << 20).await, [Err(-32007), message("7")]);
    }

    #[tokio::test]
    async fn what_is_said_is_read_again() {
        for framing in [Framing::Lines, Framing::Headers] {
            let (queue, unsent) = mpsc::channel(8);
            let said = ["{}".to_owned(), format!("\"{}\"", "x".repeat(2 * WRITE_BYTES)), "7".to_owned()];
            for message in said.clone() {
                queue.send(Bytes::from(message)).await.expect("there is room");
            }
            drop(queue);
            let mut written = Vec::new();
            write(&mut written, unsent, framing).await.expect("writes");
            assert_eq!(arrived(&written, 48 << 10).await, said.map(Ok::<String, i32>), "{framing:?}");
        }
    }
}
