//! A list that may be long: its items are made and written one after the other. As values they take many times the memory that they were
//! counted with.

use serde::{Serialize, Serializer};

/// The items of the list, which are made when it is written.
pub(crate) struct LongList<I>(pub(crate) I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for LongList<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// Adds the list as the last field to the object that `bytes` end with, unless there are no items.
pub(crate) fn append<I: Iterator<Item: Serialize> + Clone>(bytes: &mut Vec<u8>, field: &str, items: I) {
    if items.clone().next().is_none() || bytes.pop_if(|last| *last == b'}').is_none() {
        return;
    }
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
    write(bytes, &field);
    bytes.push(b':');
    write(bytes, &LongList(items));
    bytes.push(b'}');
}

fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("invariant: answers are plain data");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_list_is_the_last_field_and_an_empty_one_is_none() {
        for (object, expected) in [
            (json!({}), json!({ "a \"list\"": [1, {}] })),
            (json!({ "x": {} }), json!({ "x": {}, "a \"list\"": [1, {}] })),
        ] {
            let mut bytes = object.to_string().into_bytes();
            append(&mut bytes, "none", std::iter::empty::<Value>());
            assert_eq!(bytes, object.to_string().as_bytes());
            append(&mut bytes, "a \"list\"", [json!(1), json!({})].into_iter());
            assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expected.to_string());
        }
    }
}
