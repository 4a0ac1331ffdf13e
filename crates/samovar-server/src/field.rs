//! What the reference says of a field of a body or of a header. The fields of bodies stand next to their parsers; the headers, which all
//! routes have in common, stand here.

/// A field of a request's body or query, or one of its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What may be said with it. A field without which a request is refused ends with `Required.`
    pub about: &'static str,
    /// What its value is.
    pub value: FieldValue,
}

/// What the value of a field is, as JSON has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValue {
    /// One of several types, or nothing is known of it here.
    #[default]
    Any,
    /// True or false.
    Boolean,
    /// A number without a fraction.
    Integer,
    /// A number.
    Number,
    /// A string.
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An array of strings.
    Texts,
    /// An array.
    List,
    /// An object.
    Object,
}

/// A field of this name.
pub(crate) const fn field(name: &'static str, about: &'static str) -> Field {
    Field { name, about, value: FieldValue::Any }
}

impl Field {
    /// Whether a request without it is refused.
    pub fn is_required(&self) -> bool {
        self.about.ends_with("Required.")
    }

    pub(crate) const fn boolean(self) -> Self {
        self.of(FieldValue::Boolean)
    }

    pub(crate) const fn integer(self) -> Self {
        self.of(FieldValue::Integer)
    }

    pub(crate) const fn number(self) -> Self {
        self.of(FieldValue::Number)
    }

    pub(crate) const fn text(self) -> Self {
        self.of(FieldValue::Text)
    }

    pub(crate) const fn one_of(self, values: &'static [&'static str]) -> Self {
        self.of(FieldValue::OneOf(values))
    }

    pub(crate) const fn texts(self) -> Self {
        self.of(FieldValue::Texts)
    }

    pub(crate) const fn list(self) -> Self {
        self.of(FieldValue::List)
    }

    pub(crate) const fn object(self) -> Self {
        self.of(FieldValue::Object)
    }

    const fn of(self, value: FieldValue) -> Self {
        Self { value, ..self }
    }
}

/// Headers of requests that mean something here, besides HTTP's own.
pub const REQUEST_HEADERS: &[Field] = &[
    field(
        "x-request-timeout",
        "How long the client waits for the whole answer: seconds, or a length of time such as `1m30s`; the shorter of this and `timeout` counts.",
    ),
    field("x-request-id", "The request's id in logs and answers; one is made up when it is absent."),
    field("authorization", "The key over TCP, once there is one: `Bearer sk-samovar-…`."),
    field("x-api-key", "The same without `Bearer`."),
    field(
        "last-event-id",
        "The last event of `/admin/events` that the client has seen: the stream goes on after it.",
    ),
];

/// Headers of answers that say more than HTTP's own.
pub const ANSWER_HEADERS: &[Field] = &[
    field("x-request-id", "The request's id."),
    field("x-samovar-cache", "How the model was found: `hit`, `parked`, `joined`, `cold` or `fetched`."),
    field("x-samovar-tier", "Where it was: `l1` (memory), `l2` (disk) or `l3` (its source)."),
    field("x-samovar-version", "The version of Samovar, of `/api/version`."),
    field("x-queue-position", "The place in the queue, if the request had to wait in it."),
    field("server-timing", "Milliseconds of queue, load, prompt and first token, as far as they are known."),
    field("x-ratelimit-limit-requests", "Requests per minute of the request's key, if they are limited."),
    field("x-ratelimit-remaining-requests", "How many of them are left now."),
    field("x-ratelimit-reset-requests", "When all of them are there again, such as `1m26.4s`."),
    field("x-ratelimit-limit-tokens", "Tokens per minute of the request's key, if they are limited."),
    field("x-ratelimit-remaining-tokens", "How many of them are left now."),
    field("x-ratelimit-reset-tokens", "When all of them are there again."),
    field("retry-after", "When the same request may succeed, in seconds."),
    field("retry-after-ms", "The same in milliseconds."),
    field("x-should-retry", "Whether OpenAI's clients are to try again."),
];

/// The fields that a body's parser knows.
#[cfg(test)]
pub(crate) fn parsed<T: serde::de::DeserializeOwned>() -> Vec<&'static str> {
    use serde::de::value::Error;
    use serde::de::{Deserializer, Error as _, Visitor};

    struct Names<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("only objects have fields"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(fields);
            Err(Error::custom("the names were all that was wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names = Vec::new();
    <T as serde::Deserialize<'_>>::deserialize(Names(&mut names)).ok();
    names.sort_unstable();
    names
}

/// The names of these, sorted.
#[cfg(test)]
pub(crate) fn names(fields: &[Field]) -> Vec<&'static str> {
    let mut names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    names.sort_unstable();
    names
}
