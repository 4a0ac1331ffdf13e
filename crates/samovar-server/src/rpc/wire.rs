//! What JSON-RPC 2.0 looks like: messages, calls, ids, answers, errors and notifications. Runs nothing.

use std::fmt;

use samovar_core::{ErrorKind, Failure};
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::refusal::{Refusal, shown};

/// Calls of one batch.
pub(super) const BATCH_CALLS: usize = 64;
/// Bytes of an id's text, as each notification repeats it.
const ID_BYTES: usize = 256;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;

/// The codes that the specification gives, with their messages.
pub(super) const STANDARD: [(i32, &str); 5] = [
    (PARSE_ERROR, "Parse error"),
    (INVALID_REQUEST, "Invalid Request"),
    (METHOD_NOT_FOUND, "Method not found"),
    (INVALID_PARAMS, "Invalid params"),
    (INTERNAL_ERROR, "Internal error"),
];

/// The code of each kind of failure. Two kinds have a code of the specification.
pub(super) const CODES: [(ErrorKind, i32); ErrorKind::ALL.len()] = [
    (ErrorKind::InvalidRequest, INVALID_PARAMS),
    (ErrorKind::ContextExceeded, -32001),
    (ErrorKind::NotFound, -32002),
    (ErrorKind::InvalidModel, -32003),
    (ErrorKind::TooLarge, -32004),
    (ErrorKind::Unsupported, -32005),
    (ErrorKind::Forbidden, -32006),
    (ErrorKind::Busy, -32007),
    (ErrorKind::DeadlineExceeded, -32008),
    (ErrorKind::Cancelled, -32009),
    (ErrorKind::Unavailable, -32010),
    (ErrorKind::EngineFailed, -32011),
    (ErrorKind::Upstream, -32012),
    (ErrorKind::Storage, -32013),
    (ErrorKind::InsufficientStorage, -32014),
    (ErrorKind::Unauthenticated, -32015),
    (ErrorKind::RateLimited, -32016),
    (ErrorKind::Internal, INTERNAL_ERROR),
];

/// The id of a request as its client wrote it: a text, a number or null.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub(super) struct Id(Value);

impl Id {
    /// The id of answers to what has none.
    pub(super) const NULL: Self = Self(Value::Null);

    /// `None` for what cannot be an id.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let is_id = match value {
            Value::Null | Value::Number(_) => true,
            Value::String(text) => text.len() <= ID_BYTES,
            _ => false,
        };
        is_id.then(|| Self(value.clone()))
    }
}

/// What is wrong with a call, as its answer says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Fault {
    pub(super) code: i32,
    message: String,
    data: Box<Value>,
}

impl Fault {
    fn standard(code: i32, hint: &str) -> Self {
        let message = STANDARD.iter().find(|(of, _)| *of == code).map_or("", |(_, message)| *message);
        Self {
            code,
            message: message.to_owned(),
            data: Box::new(json!({ "kind": ErrorKind::InvalidRequest, "hint": hint })),
        }
    }

    /// The bytes are no JSON.
    pub(super) fn parse(hint: impl Into<String>) -> Self {
        Self::standard(PARSE_ERROR, &hint.into())
    }

    /// The JSON is no request.
    pub(super) fn invalid(hint: impl Into<String>) -> Self {
        Self::standard(INVALID_REQUEST, &hint.into())
    }

    /// There is no method of this name.
    pub(super) fn unknown_method(hint: impl Into<String>) -> Self {
        Self::standard(METHOD_NOT_FOUND, &hint.into())
    }

    /// The parameters are not those of the method.
    pub(super) fn params(message: impl Into<String>) -> Self {
        Failure::new(ErrorKind::InvalidRequest, message)
            .with_hint("rpc.discover lists the parameters of every method")
            .into()
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let code = CODES.iter().find(|(of, _)| *of == failure.kind).map_or(INTERNAL_ERROR, |(_, code)| *code);
        let Failure { kind, message, hint, param, retry_after_ms, .. } = failure;
        let mut data = Map::new();
        data.insert("kind".to_owned(), json!(kind));
        data.extend(hint.map(|hint| ("hint".to_owned(), hint.into())));
        data.extend(param.map(|param| ("param".to_owned(), param.into())));
        data.extend(retry_after_ms.map(|ms| ("retry_after_ms".to_owned(), ms.into())));
        Self { code, message, data: Box::new(Value::Object(data)) }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        refusal.failure.into()
    }
}

/// What came in one message.
#[derive(Debug)]
pub(super) enum Message {
    One(Value),
    Batch(Vec<Value>),
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no JSON, is nested too deep, or is a batch of no calls or too many.
    pub(super) fn read(bytes: &[u8], depth: usize) -> Result<Self, Fault> {
        if let Some(at) = samovar_core::json::place_beyond(bytes, depth) {
            return Err(Fault::parse(format!("it is nested deeper than {depth} levels (at byte {at})")));
        }
        let not_json = |error: serde_json::Error| Fault::parse(format!("it is not valid JSON: {error}"));
        if bytes.trim_ascii_start().first() != Some(&b'[') {
            return serde_json::from_slice(bytes).map(Self::One).map_err(not_json);
        }
        let Elements { first, has_more } = serde_json::from_slice(bytes).map_err(not_json)?;
        if has_more {
            return Err(Fault::invalid(format!("a batch may have {BATCH_CALLS} requests: send several")));
        }
        if first.is_empty() {
            return Err(Fault::invalid("a batch must have at least one request"));
        }
        Ok(Self::Batch(first))
    }
}

/// The elements of an array, as far as a batch may have them.
struct Elements {
    first: Vec<Value>,
    has_more: bool,
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Elements;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Elements, A::Error> {
                let mut first = Vec::new();
                while first.len() < BATCH_CALLS {
                    match elements.next_element()? {
                        Some(element) => first.push(element),
                        None => return Ok(Elements { first, has_more: false }),
                    }
                }
                let mut has_more = false;
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    has_more = true;
                }
                Ok(Elements { first, has_more })
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}

/// The parameters of a call as they came.
#[derive(Debug)]
pub(super) enum Given {
    Nothing,
    ByName(Map<String, Value>),
    ByPosition(Vec<Value>),
}

/// A call of a method.
#[derive(Debug)]
pub(super) struct Call {
    /// Absent = a notification, which has no answer.
    pub(super) id: Option<Id>,
    pub(super) method: String,
    pub(super) params: Given,
}

impl Call {
    /// Reads a call. Members that JSON-RPC does not know are passed over, and null counts as no parameters.
    ///
    /// # Errors
    /// What is wrong, with the id of the answer that says so.
    pub(super) fn read(value: Value) -> Result<Self, (Id, Fault)> {
        let Value::Object(mut members) = value else {
            return Err((Id::NULL, Fault::invalid("a request is a JSON object")));
        };
        let id = match members.get("id").map(Id::of) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                let hint = format!("`id` must be a text of at most {ID_BYTES} bytes, a number or null");
                return Err((Id::NULL, Fault::invalid(hint)));
            }
        };
        let refuse = |hint: &str| Err((id.clone().unwrap_or(Id::NULL), Fault::invalid(hint)));
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return refuse("`jsonrpc` must be \"2.0\"");
        }
        let Some(Value::String(method)) = members.remove("method") else {
            return refuse("`method` must be the name of a method");
        };
        let params = match members.remove("params") {
            None | Some(Value::Null) => Given::Nothing,
            Some(Value::Object(params)) => Given::ByName(params),
            Some(Value::Array(params)) => Given::ByPosition(params),
            Some(_) => return refuse("`params` must be an object or an array"),
        };
        Ok(Self { id, method, params })
    }
}

impl Given {
    /// As an object: by position they have these names, in this order.
    ///
    /// # Errors
    /// When they can only be given by name, and when there are too many.
    pub(super) fn named(self, names: &[&str], is_by_name: bool) -> Result<Map<String, Value>, Fault> {
        match self {
            Self::Nothing => Ok(Map::new()),
            Self::ByName(params) => Ok(params),
            Self::ByPosition(params) if is_by_name && !params.is_empty() => {
                Err(Fault::params("this method takes its parameters by name: `params` must be an object"))
            }
            Self::ByPosition(params) if params.len() > names.len() => {
                let (most, came) = (names.len(), params.len());
                Err(Fault::params(format!("this method takes {most} parameters at most, and {came} came")))
            }
            Self::ByPosition(params) => Ok(names.iter().map(|name| (*name).to_owned()).zip(params).collect()),
        }
    }
}

/// Reads parameters as a `T`.
///
/// # Errors
/// `Invalid params`, which names the parameter.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(params: Map<String, Value>) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Object(params)).map_err(|error| {
        let (path, reason) = (error.path().to_string(), error.inner().to_string());
        if path == "." || path == "?" {
            return Fault::params(format!("the parameters cannot be used: {reason}"));
        }
        let failure =
            Failure::new(ErrorKind::InvalidRequest, format!("`{}` cannot be used: {reason}", shown(&path)));
        failure.with_param(path).into()
    })
}

/// The answer to a call that came to this, which is JSON.
pub(super) fn answer(id: &Id, result: &[u8]) -> Vec<u8> {
    let mut bytes = format!(r#"{{"jsonrpc":"2.0","id":{},"result":"#, id.0).into_bytes();
    bytes.extend_from_slice(result);
    bytes.push(b'}');
    bytes
}

/// The answer to a call that failed.
pub(super) fn error(id: &Id, fault: &Fault) -> Vec<u8> {
    written(&json!({ "jsonrpc": "2.0", "id": id, "error": fault }))
}

/// Something that happened on the way to the answer of a request.
pub(super) fn notification(method: &str, id: &Id, what: &Value) -> Vec<u8> {
    let mut params = Map::new();
    params.insert("id".to_owned(), id.0.clone());
    if let Value::Object(fields) = what {
        params.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    written(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

/// The answers to the calls of a batch, as one message.
pub(super) fn batch(answers: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = vec![b'['];
    for (at, answer) in answers.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(answer.as_ref());
    }
    bytes.push(b']');
    bytes
}

/// Plain data as JSON.
pub(super) fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: answers are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_code_and_no_two_kinds_the_same() {
        for kind in ErrorKind::ALL {
            assert_eq!(CODES.iter().filter(|(of, _)| *of == kind).count(), 1, "{kind:?}");
        }
        let mut codes: Vec<i32> = CODES.iter().map(|(_, code)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
    }

    #[test]
    fn a_failure_keeps_its_kind_its_hint_and_what_it_is_about() {
        let failure = Failure::new(ErrorKind::Busy, "full").with_hint("wait").with_retry_after_ms(5);
        let expected = json!({ "code": -32007, "message": "full",
                               "data": { "kind": "busy", "hint": "wait", "retry_after_ms": 5 } });
        assert_eq!(json!(Fault::from(failure)), expected);
    }

    #[test]
    fn texts_numbers_and_null_are_ids_and_nothing_else_is() {
        for id in [json!(null), json!(0), json!(-1), json!(1.5), json!(u64::MAX), json!(""), json!("é\n")] {
            let id = Id::of(&id).unwrap_or_else(|| panic!("{id}"));
            let answer: Value = serde_json::from_slice(&answer(&id, b"7")).expect("JSON");
            assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": id, "result": 7 }));
        }
        for other in [json!(true), json!([]), json!({}), json!("x".repeat(ID_BYTES + 1))] {
            assert_eq!(Id::of(&other), None, "{other}");
        }
    }

    #[test]
    fn a_batch_is_read_as_far_as_it_may_go() {
        let of = |count: usize| Message::read(format!("[{}1]", "1,".repeat(count - 1)).as_bytes(), 9);
        assert!(matches!(of(BATCH_CALLS), Ok(Message::Batch(calls)) if calls.len() == BATCH_CALLS));
        assert_eq!(of(BATCH_CALLS + 1).expect_err("too many").code, INVALID_REQUEST);
        assert_eq!(Message::read(b" []", 9).expect_err("none").code, INVALID_REQUEST);
        assert_eq!(Message::read(b"[[[]]]", 2).expect_err("too deep").code, PARSE_ERROR);
        for broken in [&b""[..], b"[1", b"[1]]", b"{", b"\xff", b"nul"] {
            assert_eq!(Message::read(broken, 9).expect_err("broken").code, PARSE_ERROR, "{broken:?}");
        }
    }

    #[test]
    fn parameters_have_the_same_names_by_position() {
        let names = ["a", "b"];
        let by_position = Given::ByPosition(vec![json!(1)]).named(&names, false).expect("fits");
        assert_eq!(Value::Object(by_position), json!({ "a": 1 }));
        let too_many = Given::ByPosition(vec![json!(1), json!(2), json!(3)]).named(&names, false);
        assert_eq!(too_many.expect_err("too many").code, INVALID_PARAMS);
        let by_name_alone = Given::ByPosition(vec![json!(1)]).named(&names, true);
        assert_eq!(by_name_alone.expect_err("by position").code, INVALID_PARAMS);
        assert!(Given::ByPosition(Vec::new()).named(&names, true).expect("nothing").is_empty());
    }
}
