//! A stand-in for the daemon that says what a test wants when it wants it: the real one is too fast to be met in the middle.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::home::Home;

/// Listens where the daemon would.
pub(crate) struct StandIn {
    listener: UnixListener,
}

/// One request that it is answering.
pub(crate) struct Answering {
    stream: UnixStream,
}

impl StandIn {
    pub(crate) fn new(home: &Home) -> Self {
        let directory = home.path().join("run");
        fs_err::create_dir(&directory).expect("directory");
        fs_err::set_permissions(&directory, PermissionsExt::from_mode(0o700)).expect("mode");
        Self { listener: UnixListener::bind(home.socket()).expect("binds") }
    }

    /// Takes the next request and begins to answer it.
    pub(crate) fn accept(&self) -> Answering {
        let (mut stream, _) = self.listener.accept().expect("accepts");
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        // The body is the only JSON object there is, and its end the end of the request.
        while !request.ends_with(b"}") {
            let bytes = stream.read(&mut buffer).expect("reads");
            assert!(bytes > 0, "the request is whole");
            request.extend_from_slice(&buffer[..bytes]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
            .expect("answers");
        Answering { stream }
    }
}

impl Answering {
    /// Says more of the answer.
    pub(crate) fn say(&mut self, text: &str) {
        self.try_to_say(text).expect("a client listens");
    }

    /// Says one event of the answer.
    pub(crate) fn tell(&mut self, event: &serde_json::Value) {
        self.try_to_tell(event).expect("a client listens");
    }

    /// Ends the answer. The client may have gone already: the last event told it all.
    pub(crate) fn end(mut self) {
        self.stream.write_all(b"0\r\n\r\n").ok();
    }

    /// Goes on and on until the other side hangs up.
    pub(crate) fn ramble(mut self) {
        while self.try_to_say("and on ").is_ok() {}
    }

    fn try_to_say(&mut self, text: &str) -> std::io::Result<()> {
        self.try_to_tell(&serde_json::json!({ "text": { "text": text } }))
    }

    fn try_to_tell(&mut self, event: &serde_json::Value) -> std::io::Result<()> {
        let line = format!("{event}\n");
        write!(self.stream, "{:x}\r\n{line}\r\n", line.len())
    }
}
