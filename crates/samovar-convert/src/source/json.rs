//! JSON of any form, with a bound on how many values it holds: two bytes of a file may be a value, which takes many bytes of
//! memory. It knows no meaning of what it reads.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values of one text. The settings of tokenizers with thousands of added tokens have fewer than 100,000.
const VALUES: u32 = 1 << 19;

/// What is read from a file of JSON in bounded memory.
pub(crate) trait FromJson: Sized {
    /// Reads it.
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl FromJson for Map<String, Value> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(value(deserializer)?)
    }
}

impl FromJson for Vec<Map<String, Value>> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match value(deserializer)? {
            Value::Array(list) => list.into_iter().map(object).collect(),
            _ => Err(D::Error::custom("it is no list of JSON objects")),
        }
    }
}

fn object<E: Error>(value: Value) -> Result<Map<String, Value>, E> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(E::custom("it is no JSON object")),
    }
}

/// A value of any form.
///
/// # Errors
/// Those of the format; and where there are too many values.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    CountedValue(&Cell::new(VALUES)).deserialize(deserializer)
}

/// Reads a value, and counts it.
struct CountedValue<'a>(&'a Cell<u32>);

impl CountedValue<'_> {
    fn take<E: Error>(&self, value: impl Into<Value>) -> Result<Value, E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format_args!("it has more than {VALUES} values")))?);
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for CountedValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CountedValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        self.take(flag)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.take(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.take(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.take(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.take(text)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(CountedValue(self.0))? {
            list.push(element);
        }
        self.take(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            map.insert(key, entries.next_value_seed(CountedValue(self.0))?);
        }
        self.take(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, serde_json::Error> {
        value(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn values_are_those_of_the_text() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,1.5,"\n"],"b":{}}"#;
        assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        assert!(read("{\"a\":").is_err());
    }

    #[test]
    fn a_text_of_too_many_values_is_refused() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(read(&list(1000)).is_ok());
        let refused = read(&list(VALUES as usize + 1)).unwrap_err().to_string();
        assert!(refused.contains("more than 524288 values"), "{refused}");
        let nested = format!("[{}[]]", "{},".repeat(VALUES as usize));
        assert!(read(&nested).is_err());
    }
}
