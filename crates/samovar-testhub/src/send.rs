//! Sends an answer, byte by byte as it was made, and counts what went out.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::reply::{Body, Ending, Framing, Reply, Sending};
use crate::state::Shared;

/// How much is sent at once.
const CHUNK_BYTES: usize = 1 << 20;
/// What is sent instead of a file's byte is that byte with these bits turned.
const WRONG_BITS: u8 = 0xa5;
/// How often a slow sender says something, each second.
const DRIPS_PER_SECOND: u64 = 20;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    GoOn,
    /// It is closed.
    Close,
}

/// Sends an answer.
///
/// # Errors
/// When the client has gone.
pub(crate) async fn send(
    stream: &mut TcpStream,
    shared: &Shared,
    reply: Reply,
    is_head: bool,
) -> io::Result<After> {
    if !reply.late.is_zero() {
        tokio::time::sleep(reply.late).await;
    }
    if reply.is_silent {
        return Ok(After::Close);
    }
    let after = if reply.closes { After::Close } else { After::GoOn };
    let mut head = head(&reply);
    match reply.body {
        Body::Text(text) => {
            head.extend(format!("Content-Length: {}\r\n\r\n", text.len()).into_bytes());
            if !is_head {
                head.extend(text);
            }
            stream.write_all(&head).await?;
            Ok(after)
        }
        Body::Length(length) => {
            head.extend(format!("Content-Length: {length}\r\n\r\n").into_bytes());
            stream.write_all(&head).await?;
            Ok(after)
        }
        Body::File(sending) => {
            head.extend(match sending.framing {
                Framing::Length(length) => format!("Content-Length: {length}\r\n\r\n").into_bytes(),
                Framing::Chunked => b"Transfer-Encoding: chunked\r\n\r\n".to_vec(),
                Framing::UntilClose => b"\r\n".to_vec(),
            });
            let _underway = shared.gates.begin();
            stream.write_all(&head).await?;
            match (Outgoing { stream, shared, sending: *sending, buffer: Vec::new() }.run().await?, after) {
                (After::GoOn, After::GoOn) => Ok(After::GoOn),
                _ => Ok(After::Close),
            }
        }
    }
}

fn head(reply: &Reply) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, reply.reason());
    for (name, value) in &reply.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if reply.closes {
        head.push_str("Connection: close\r\n");
    }
    head.into_bytes()
}

/// A file's bytes on their way through a connection.
struct Outgoing<'a> {
    stream: &'a mut TcpStream,
    shared: &'a Shared,
    sending: Sending,
    /// What a file on disk is read into.
    buffer: Vec<u8>,
}

impl Outgoing<'_> {
    async fn run(mut self) -> io::Result<After> {
        let total = self.sending.length + self.sending.extra;
        let mut done = 0;
        loop {
            if let Some((at, ending)) = self.sending.cut
                && done == at.min(total)
            {
                return self.end(ending);
            }
            if let Some((at, pause)) = self.sending.stall
                && done == at.min(total)
            {
                self.sending.stall = None;
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return self.wait_for_goodbye().await,
                }
            }
            if done == total {
                break;
            }
            let next_event = [self.sending.cut.map(|(at, _)| at), self.sending.stall.map(|(at, _)| at)];
            let events = next_event.into_iter().flatten().filter(|at| *at > done);
            let end = events.chain([total]).min().unwrap_or(total).min(total);
            done += self.step(done, end).await?;
        }
        if self.sending.framing == Framing::Chunked {
            self.stream.write_all(b"0\r\n\r\n").await?;
        }
        Ok(if self.sending.framing == Framing::UntilClose { After::Close } else { After::GoOn })
    }

    /// Sends some of the bytes from `done` to `end`.
    async fn step(&mut self, done: u64, end: u64) -> io::Result<u64> {
        let mut want = usize::try_from(end - done).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if let Some(speed) = self.sending.bytes_per_second {
            want = want.min(usize::try_from(speed.div_ceil(DRIPS_PER_SECOND)).unwrap_or(usize::MAX));
        }
        if done < self.sending.length {
            want = want.min(usize::try_from(self.sending.length - done).unwrap_or(usize::MAX));
        }
        let (shared, file) = (self.shared, self.sending.file.clone());
        // Bytes for a client that left while it was held would count, and reach no client.
        let mut pass = tokio::select! {
            biased;
            gone = wait_until_gone(self.stream) => return Err(gone),
            pass = shared.gates.pass(&file, want) => pass,
        };
        want = pass.bytes();
        let offset = self.sending.start + done;
        let sent = if done >= self.sending.length {
            self.write(&vec![b'x'; want]).await?
        } else if let Some(file) = self.sending.content.file().cloned() {
            // Read and written through one buffer: on the loopback interface faster than sendfile.
            let mut chunk = std::mem::take(&mut self.buffer);
            chunk.resize(want, 0);
            let read = move || file.file().read_exact_at(&mut chunk, offset).map(|()| chunk);
            let mut chunk = tokio::task::spawn_blocking(read).await??;
            self.distort(offset, &mut chunk);
            let sent = self.write(&chunk).await?;
            self.buffer = chunk;
            sent
        } else {
            let mut chunk = self.sending.content.chunk(offset, want)?;
            if !self.sending.is_faithful() {
                let mut bytes = Vec::from(chunk);
                self.distort(offset, &mut bytes);
                chunk = bytes.into();
            }
            self.write(&chunk).await?
        };
        pass.sent(sent);
        drop(pass);
        if let Some(speed) = self.sending.bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(sent as f64 / speed as f64)).await;
        }
        Ok(sent)
    }

    fn distort(&self, offset: u64, bytes: &mut [u8]) {
        if self.sending.is_all_wrong {
            for byte in bytes.iter_mut() {
                *byte ^= WRONG_BITS;
            }
        }
        let flipped = self.sending.flipped.and_then(|at| at.checked_sub(offset));
        if let Some(byte) = flipped.and_then(|at| bytes.get_mut(usize::try_from(at).ok()?)) {
            *byte ^= 1;
        }
    }

    /// Writes all of these bytes, and counts each that went.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.sending.framing == Framing::Chunked {
            let size = format!("{:x}\r\n", bytes.len());
            self.stream.write_all(size.as_bytes()).await?;
        }
        let mut done = 0;
        while done < bytes.len() {
            self.stream.writable().await?;
            match self.write_some(&bytes[done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Err(error),
            }
        }
        if self.sending.framing == Framing::Chunked {
            self.stream.write_all(b"\r\n").await?;
        }
        Ok(done as u64)
    }

    /// Writes as much as there is room for. No request sees the counts in between, so that a client that has the bytes
    /// finds them counted.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        let count = self.stream.try_write(bytes)?;
        state.counts.went_out(&self.sending.file, count as u64);
        Ok(count)
    }

    fn end(&self, ending: Ending) -> io::Result<After> {
        if ending == Ending::Reset {
            // With no time to linger, closing throws away what is under way and resets.
            rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO))?;
        }
        Ok(After::Close)
    }

    /// Says nothing more until the client gives up.
    async fn wait_for_goodbye(&self) -> io::Result<After> {
        Err(wait_until_gone(self.stream).await)
    }
}

/// Resolves when the client has closed its side; never while it has something to say.
async fn wait_until_gone(stream: &TcpStream) -> io::Error {
    match stream.peek(&mut [0]).await {
        Ok(0) => io::ErrorKind::ConnectionAborted.into(),
        Ok(_) => std::future::pending().await,
        Err(error) => error,
    }
}
