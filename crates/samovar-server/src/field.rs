//! What the reference says of a field of a body or of a header. The fields of bodies stand next to their parsers; the headers, which all
//! routes have in common, stand here.

/// A field of a request's body, or one of its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What may be said with it.
    pub about: &'static str,
}

/// A field of this name.
pub(crate) const fn field(name: &'static str, about: &'static str) -> Field {
    Field { name, about }
}

/// Headers of requests that mean something here, besides HTTP's own.
pub const REQUEST_HEADERS: &[Field] = &[
    field(
        "x-request-timeout",
        "How long the client waits for the whole answer: seconds, or a length of time such as `1m30s`; the shorter of this and `timeout` counts.",
    ),
    field("x-request-id", "The request's id in logs and answers; one is made up when it is absent."),
];

/// Headers of answers that say more than HTTP's own.
pub const ANSWER_HEADERS: &[Field] = &[
    field("x-request-id", "The request's id."),
    field("x-samovar-cache", "How the model was found: `hit`, `parked`, `joined`, `cold` or `fetched`."),
    field("x-samovar-tier", "Where it was: `l1` (memory), `l2` (disk) or `l3` (its source)."),
    field("x-samovar-version", "The version of Samovar, of `/api/version`."),
    field("x-queue-position", "The place in the queue, if the request had to wait in it."),
    field("server-timing", "Milliseconds of queue, load, prompt and first token, as far as they are known."),
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
