//! Requests as they come in: a head, and for those who drive the hub a small body.

use std::io;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a request's body; only rules come in one.
const MAX_BODY_BYTES: usize = 1 << 20;

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they came.
    pub(crate) target: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads the next request of a connection; `None` when the client has gone.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no request.
    pub(crate) async fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if rest.len() > MAX_HEAD_BYTES {
                return Err(io::Error::other("the head of a request is too long"));
            }
            if stream.read_buf(rest).await? == 0 {
                return Ok(None);
            }
        };
        let mut request = Self::parse(&String::from_utf8_lossy(&rest[..end]))
            .ok_or_else(|| io::Error::other("this is no request"))?;
        rest.drain(..end);
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if length > MAX_BODY_BYTES {
            return Err(io::Error::other("the body of a request is too long"));
        }
        if request.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while rest.len() < length {
            if stream.read_buf(rest).await? == 0 {
                return Ok(None);
            }
        }
        request.body = rest.drain(..length).collect();
        Ok(Some(request))
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Self { method, target, headers, body: Vec::new() })
    }

    /// A header's text; its name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The path without the query, still encoded.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A part of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| decode(value))
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The token of `Authorization: Bearer …`.
    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Whether the client will ask again on this connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The part of a file of `size` bytes that is asked for. A list of parts is answered with the whole, as
    /// HTTP allows.
    pub(crate) fn part(&self, size: u64) -> Part {
        let asked = self.header("range").and_then(|text| text.strip_prefix("bytes="));
        let Some((first, last)) = asked.filter(|text| !text.contains(',')).and_then(|t| t.split_once('-'))
        else {
            return Part::Whole;
        };
        match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), last) if first < size => {
                let last = last.unwrap_or(u64::MAX).min(size - 1);
                if last < first { Part::Whole } else { Part::Some { first, last } }
            }
            (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 && size > 0 => {
                Part::Some { first: size.saturating_sub(count), last: size - 1 }
            }
            (Ok(_), _) | (Err(_), Ok(_)) => Part::Outside,
            _ => Part::Whole,
        }
    }
}

/// Which part of a file a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From the first byte to the last, both of them included.
    Some {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// None that is in the file.
    Outside,
}

/// Resolves `%41` and its like.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, size: u64) -> Part {
        Request { headers: vec![("range".to_owned(), range.to_owned())], ..Request::default() }.part(size)
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        let some = |first, last| Part::Some { first, last };
        assert_eq!(part("bytes=0-0", 10), some(0, 0));
        assert_eq!(part("bytes=3-", 10), some(3, 9));
        assert_eq!(part("bytes=3-100", 10), some(3, 9));
        assert_eq!(part("bytes=-4", 10), some(6, 9));
        assert_eq!(part("bytes=-40", 10), some(0, 9));
        assert_eq!(part("bytes=10-", 10), Part::Outside);
        assert_eq!(part("bytes=-0", 10), Part::Outside);
        assert_eq!(part("bytes=0-", 0), Part::Outside);
        assert_eq!(part("bytes=5-3", 10), Part::Whole);
        assert_eq!(part("bytes=0-1,4-5", 10), Part::Whole);
        assert_eq!(part("lines=0-1", 10), Part::Whole);
    }

    #[test]
    fn a_head_is_read() {
        let request =
            Request::parse("GET /a%20b?x=1&y=%2F HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n")
                .unwrap();
        assert_eq!(request.path(), "/a%20b");
        assert_eq!(request.query("y").as_deref(), Some("/"));
        assert_eq!(request.token(), Some("t"));
        assert!(request.keeps_alive() && !request.is_head());
    }
}
