//! Reads a JSON body: bounded in bytes, time and depth before anything is made of it.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use futures_util::StreamExt;
use http_body_util::{BodyExt, BodyStream, Limited};
use samovar_core::byte_budget::Exhausted;
use samovar_core::{ErrorKind, Failure};
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::config::Limits;
use crate::refusal::Refusal;

/// Bytes beyond the limit that are read, to no use but that their sender reads the answer.
const UNREAD_BYTES: usize = 16 << 20;
/// Bytes that are made room for before any has come.
const FIRST_BYTES: u64 = 64 << 10;
/// A body that takes about as long to read as a small request takes in all.
const LONG_BYTES: usize = 128 << 10;
/// How long they are read.
const DISCARD: Duration = Duration::from_secs(2);

/// The bytes of a body whose JSON is not nested too deep.
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Bytes,
}

impl Payload {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// 413 when it is too large, 408 when it takes too long, 400 when it is cut or nested too deep.
    pub(crate) async fn read(body: Body, limits: &Limits) -> Result<Self, Refusal> {
        let outcome = tokio::time::timeout(limits.body_timeout, collect(body, limits.body_bytes)).await;
        let bytes = outcome.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {:?}", limits.body_timeout);
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
        })?;
        let payload = Self { bytes };
        payload.aside(|bytes| check_depth(bytes, limits.json_depth))?;
        Ok(payload)
    }

    /// The body as it came.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Bytes that came.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// JSON that was read and bounded before.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into() }
    }

    /// What the body says as a `T`; fields that `T` does not know are passed over.
    ///
    /// # Errors
    /// 400 that names the place of a syntax error, or the field that has the wrong type.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        self.aside(parse)
    }

    /// Does what takes long with a long body, without holding up the requests that wait for this thread.
    fn aside<T>(&self, work: impl FnOnce(&[u8]) -> T) -> T {
        let has_others = || {
            let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
            flavor.is_ok_and(|flavor| flavor == RuntimeFlavor::MultiThread)
        };
        if self.bytes.len() >= LONG_BYTES && has_others() {
            tokio::task::block_in_place(|| work(&self.bytes))
        } else {
            work(&self.bytes)
        }
    }

    /// The same, where nothing at all stands for `{}`.
    ///
    /// # Errors
    /// As [`Payload::parse`].
    pub(crate) fn parse_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        if self.bytes.is_empty() { Ok(T::default()) } else { self.parse() }
    }
}

/// Reads a value. The place of a mistake is looked for only when there is one: to keep track of places takes twice as long.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    check_is_object(bytes)?;
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| refuse(&error))?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body has more than {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    // Nothing was sent yet by a client that asks first.
    if body.size_hint().lower() > limit.saturating_add(UNREAD_BYTES) as u64 {
        return Err(too_large());
    }
    let most = body.size_hint().upper().map_or(limit, |bytes| (bytes as usize).min(limit));
    let mut bytes = Vec::with_capacity(body.size_hint().lower().min(FIRST_BYTES) as usize);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let error = error.into_inner();
                let Some(exhausted) = error.downcast_ref::<Exhausted>() else {
                    let message = format!("the body could not be read: {error}");
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, "broken_body", message));
                };
                drop(bytes);
                discard(body).await;
                return Err(Failure::from(*exhausted).into());
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            drop(bytes);
            discard(body).await;
            return Err(too_large());
        }
        let needed = bytes.len() + data.len();
        if needed > bytes.capacity() {
            // No more than the body can have.
            let room = bytes.capacity().saturating_mul(2).min(most).max(needed);
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Reads on for a while: a connection that is closed with unread bytes throws away the answer that
/// says why.
async fn discard(body: Body) {
    let rest = Limited::new(body, UNREAD_BYTES);
    // A client that sends more, or takes longer, sees a closed connection.
    let _ = tokio::time::timeout(DISCARD, BodyStream::new(rest).for_each(|_| std::future::ready(()))).await;
}

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let inner = error.inner();
    if !inner.is_data() {
        return not_json(inner);
    }
    let (path, reason) = (error.path().to_string(), in_words_of_json(&inner.to_string()));
    if path == "." || path == "?" {
        return Failure::new(ErrorKind::InvalidRequest, format!("the body cannot be used: {reason}")).into();
    }
    Refusal::invalid(path.clone(), format!("`{path}` cannot be used: {reason}"))
}

/// The parser would take an array for a row of fields.
fn check_is_object(bytes: &[u8]) -> Result<(), Refusal> {
    let is = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'0'..=b'9' | b'-') => "a number",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => return Ok(()),
    };
    let message = format!("the body must be a JSON object, and it begins as {is} (line 1 column 1)");
    Err(Refusal { code: "invalid_json", ..Failure::new(ErrorKind::InvalidRequest, message).into() })
}

/// What the parser says, with the names of our types replaced by what JSON calls such a thing.
fn in_words_of_json(reason: &str) -> String {
    let mut words = reason.split(' ').peekable();
    let mut said: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        let is_a_name = words.peek().is_some_and(|next| next.starts_with(|c: char| c.is_ascii_uppercase()));
        match word {
            "struct" if is_a_name => {
                words.next();
                if said.last().is_some_and(|before| matches!(*before, "tuple" | "unit" | "newtype")) {
                    said.pop();
                }
                said.push("an object");
            }
            "enum" if is_a_name => {
                words.next();
                if said.last() == Some(&"untagged") {
                    said.pop();
                }
                said.push("what is understood here");
            }
            word => said.push(word),
        }
    }
    said.join(" ")
}

fn not_json(error: &serde_json::Error) -> Refusal {
    let message = format!("the body is not valid JSON: {error}");
    Refusal { code: "invalid_json", ..Failure::new(ErrorKind::InvalidRequest, message).into() }
}

/// Refuses a body in which a parser would recurse deeper than it is meant to.
fn check_depth(bytes: &[u8], limit: usize) -> Result<(), Refusal> {
    let Some(at) = samovar_core::json::place_beyond(bytes, limit) else { return Ok(()) };
    let message = format!("the body is nested deeper than {limit} levels (at byte {at})");
    Err(Refusal { code: "invalid_json", ..Failure::new(ErrorKind::InvalidRequest, message).into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Sample {
        #[serde(default)]
        number: Option<f64>,
        #[serde(default)]
        rows: Vec<Row>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Row {
        text: String,
    }

    fn message(bytes: &'static [u8]) -> (String, Option<String>) {
        let refusal = Payload::of(bytes).parse::<Sample>().expect_err("refuses");
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        (refusal.failure.message, refusal.failure.param)
    }

    #[test]
    fn names_the_field_of_the_wrong_type() {
        let (message, param) = message(br#"{"rows":[{"text":"a"},{"text":3}]}"#);
        assert_eq!(param.as_deref(), Some("rows[1].text"));
        assert!(message.contains("expected a string"), "{message}");
    }

    #[test]
    fn no_name_of_ours_is_told() {
        for bytes in [&b"[]"[..], b" \n[1,2]", b"\"x\"", b"5", b"-1", b"null", b"true"] {
            let (message, param) = message(bytes);
            assert_eq!(param, None);
            assert!(message.starts_with("the body must be a JSON object"), "{message}");
        }
        let (message, param) = message(br#"{"rows":[3]}"#);
        assert_eq!(param.as_deref(), Some("rows[0]"));
        assert!(message.contains("expected an object") && !message.contains("Row"), "{message}");
        assert_eq!(
            in_words_of_json("data did not match any variant of untagged enum Stop at line 1"),
            "data did not match any variant of what is understood here at line 1"
        );
        assert_eq!(
            in_words_of_json("invalid type: string \"struct x\", expected a map"),
            "invalid type: string \"struct x\", expected a map"
        );
    }

    #[test]
    fn names_the_place_of_a_syntax_error() {
        let (message, param) = message(b"{\n  \"number\": }");
        assert_eq!(param, None);
        assert!(message.contains("line 2 column 13"), "{message}");
    }

    #[test]
    fn refuses_what_is_not_text_or_goes_on_after_its_end() {
        for bytes in [&b"{\"rows\":[{\"text\":\"\xff\"}]}"[..], b"{} {}", b"", b"nul", b"{\"number\":1e999}"]
        {
            assert!(Payload::of(bytes).parse::<Sample>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn nothing_may_stand_for_an_empty_object() {
        assert_eq!(Payload::of(&b""[..]).parse_or_default::<Sample>().expect("reads"), Sample::default());
    }

    #[test]
    fn a_body_that_is_nested_too_deep_is_refused_with_the_place() {
        assert!(check_depth(b"[[[]]]", 3).is_ok());
        let refusal = check_depth(b"[[[[]]]]", 3).expect_err("too deep");
        assert!(refusal.failure.message.contains("byte 3"), "{}", refusal.failure);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_a_timeout() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refusal = Payload::read(never, &Limits::default()).await.expect_err("times out");
        assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_large_body_is_refused() {
        let limits = Limits { body_bytes: 10, ..Limits::default() };
        let refusal = Payload::read(Body::from("x".repeat(11)), &limits).await.expect_err("too large");
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(Payload::read(Body::from("x".repeat(10)), &limits).await.is_ok());
    }
}
