//! Which program has the address at which Ollama's clients look, as far as it says so itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long it may take to say so.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of its answer that are read.
const ANSWER_BYTES: u64 = 4 << 10;
/// What it is asked.
const QUESTION: &[u8] = b"GET /api/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Which program has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortHolder {
    /// Ollama.
    Ollama,
    /// Another daemon of ours.
    Samovar,
    /// One that says neither.
    Unknown,
}

impl PortHolder {
    /// What the owner can do about it.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Ollama => {
                "stop Ollama first (`systemctl stop ollama`, or quit its program), or leave --as-ollama out and give its clients the usual address"
            }
            Self::Samovar => {
                "another Samovar daemon serves them: end it with `samovar shutdown`, or leave --as-ollama out"
            }
            Self::Unknown => {
                "find out which program has this port, or set another address with `server.ollama_address`"
            }
        }
    }

    /// By what it answered.
    fn by(answer: &str) -> Self {
        let answer = answer.to_ascii_lowercase();
        if answer.contains("\r\nx-samovar-version:") {
            Self::Samovar
        } else if answer.starts_with("http/1.1 200") && answer.contains("\"version\"") {
            Self::Ollama
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ollama => "Ollama itself has this port",
            Self::Samovar => "another Samovar daemon has this port",
            Self::Unknown => "another program has this port",
        })
    }
}

/// Asks the program behind an address of this machine.
pub(crate) async fn of(address: SocketAddr) -> PortHolder {
    let answer = tokio::time::timeout(PATIENCE, ask(address)).await;
    answer.ok().and_then(Result::ok).map_or(PortHolder::Unknown, |answer| PortHolder::by(&answer))
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(QUESTION).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_program_is_known_by_its_answer() {
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"version\":\"0.30.1\"}",
                PortHolder::Ollama,
            ),
            (
                "HTTP/1.1 200 OK\r\nX-Samovar-Version: 1.0\r\n\r\n{\"version\":\"0.30.0\"}",
                PortHolder::Samovar,
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n\"version\"", PortHolder::Unknown),
            ("SSH-2.0\r\n", PortHolder::Unknown),
            ("", PortHolder::Unknown),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            let address = listener.local_addr().expect("listens");
            let program = async {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut question = vec![0; QUESTION.len()];
                stream.read_exact(&mut question).await.expect("reads");
                stream.write_all(answer.as_bytes()).await.expect("writes");
            };
            let (holder, ()) = tokio::join!(of(address), program);
            assert_eq!(holder, expected, "{answer}");
        }
    }
}
