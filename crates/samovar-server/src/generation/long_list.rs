//! A list that may be long, as the last field of an object: its items are made and written one after the other. As values they take many
//! times the memory that they were counted with.

use serde_json::Value;

/// Adds the field to the object that `bytes` end with, unless there are no items.
pub(crate) fn append(bytes: &mut Vec<u8>, field: &str, items: impl Iterator<Item = Value>) {
    let mut items = items.peekable();
    if items.peek().is_none() || bytes.pop_if(|last| *last == b'}').is_none() {
        return;
    }
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
    write(bytes, &Value::from(field));
    bytes.push(b':');
    for (at, item) in items.enumerate() {
        bytes.push(if at == 0 { b'[' } else { b',' });
        write(bytes, &item);
    }
    bytes.extend_from_slice(b"]}");
}

fn write(bytes: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(bytes, value).expect("invariant: answers are plain data");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_the_last_field_and_an_empty_one_is_none() {
        for (object, expected) in [
            (json!({}), json!({ "a \"list\"": [1, {}] })),
            (json!({ "x": {} }), json!({ "x": {}, "a \"list\"": [1, {}] })),
        ] {
            let mut bytes = object.to_string().into_bytes();
            append(&mut bytes, "none", std::iter::empty());
            assert_eq!(bytes, object.to_string().as_bytes());
            append(&mut bytes, "a \"list\"", [json!(1), json!({})].into_iter());
            assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expected.to_string());
        }
    }
}
