//! Answers before they are sent: a status, headers as raw text, and a body with what is wrong about it.

use std::time::Duration;

use crate::content::Content;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Written as they are.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// Whether the connection ends with it.
    pub(crate) closes: bool,
    /// The connection ends instead of an answer.
    pub(crate) is_silent: bool,
    /// How late it comes.
    pub(crate) late: Duration,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// A small text. To a HEAD only its length is told.
    Text(Vec<u8>),
    /// To a HEAD that is answered without a body: the length of what a GET would give.
    Length(u64),
    /// A part of a file.
    File(Box<Sending>),
}

/// A file's bytes on their way.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The name that it is counted under.
    pub(crate) file: String,
    pub(crate) content: Content,
    pub(crate) start: u64,
    /// Bytes of the file that are sent.
    pub(crate) length: u64,
    /// Bytes that are sent after them and are not the file's.
    pub(crate) extra: u64,
    pub(crate) framing: Framing,
    pub(crate) is_all_wrong: bool,
    pub(crate) flipped: Option<u64>,
    pub(crate) stall: Option<(u64, Option<Duration>)>,
    pub(crate) cut: Option<(u64, Ending)>,
    pub(crate) bytes_per_second: Option<u64>,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes were declared.
    Length(u64),
    /// The connection's end is the body's.
    UntilClose,
    /// Each chunk says how long it is.
    Chunked,
}

/// How a connection ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In good manners.
    Close,
    /// With a reset.
    Reset,
}

impl Sending {
    pub(crate) fn new(file: String, content: Content, start: u64, length: u64) -> Self {
        Self {
            file,
            content,
            start,
            length,
            extra: 0,
            framing: Framing::Length(length),
            is_all_wrong: false,
            flipped: None,
            stall: None,
            cut: None,
            bytes_per_second: None,
        }
    }

    /// Whether the bytes are those of the file, so that they need not be copied.
    pub(crate) fn is_faithful(&self) -> bool {
        !self.is_all_wrong && self.flipped.is_none()
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Text(Vec::new()),
            closes: false,
            is_silent: false,
            late: Duration::ZERO,
        }
    }

    pub(crate) fn text(status: u16, content_type: &str, text: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::new(status).with("Content-Type", content_type);
        reply.body = Body::Text(text.into());
        reply
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", value.to_string())
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::text(status, "text/plain; charset=utf-8", format!("Redirecting to {location}"))
            .with("Location", location)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value.into());
        self
    }

    /// Sets a header, in place of those of the same name.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.unset(name);
        self.headers.push((name.to_owned(), value));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
    }

    /// The text of its status line.
    pub(crate) fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            204 => "No Content",
            206 => "Partial Content",
            301 => "Moved Permanently",
            302 => "Found",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            416 => "Range Not Satisfiable",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Other",
        }
    }
}
