//! A streamed answer, one JSON object a line.

use std::collections::VecDeque;
use std::marker::PhantomData;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use samovar_core::Failure;
use serde::de::DeserializeOwned;

use super::{lost, strange};

/// One event is a token or a summary; more than this is not one of ours.
const LINE_MAX_BYTES: usize = 16 << 20;

/// Objects of a streamed answer. **Dropping it hangs up**, which cancels the request in the daemon.
pub(crate) struct Lines<T> {
    body: Incoming,
    /// The connection closes when this is dropped.
    _requests: SendRequest<Full<Bytes>>,
    rest: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Incoming, requests: SendRequest<Full<Bytes>>) -> Self {
        Self { body, _requests: requests, rest: Vec::new(), ready: VecDeque::new(), of: PhantomData }
    }

    /// The next object; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when the daemon goes away, `Internal` for a line that is no such object.
    ///
    /// # Cancel safety
    /// Cancel safe: what arrived is kept.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return serde_json::from_slice(&line).map(Some).map_err(|error| strange(&error.to_string()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(&data)?;
                    }
                }
                Some(Err(error)) => return Err(lost(&error.to_string())),
                None => return Ok(None),
            }
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.rest.extend_from_slice(data);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                self.ready.push_back(line);
            }
        }
        if self.rest.len() > LINE_MAX_BYTES {
            return Err(strange(&format!("a line has more than {LINE_MAX_BYTES} bytes")));
        }
        Ok(())
    }
}
