//! `prompt` in its forms: a text, token ids, both mixed, an object with a text, or a list of all these.

use samovar::Input;
use serde_json::Value;

use crate::refusal::Refusal;

/// One prompt.
#[derive(Debug, PartialEq)]
pub(super) enum Prompt {
    /// As the runtime takes it.
    Whole(Input),
    /// Parts whose texts have to become token ids first.
    Mixed(Vec<Part>),
}

/// A part of a mixed prompt.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    /// Bytes of the parts that wait for the model's vocabulary: short ones take many times what they were written with.
    pub(super) fn waiting_bytes(&self) -> usize {
        let of = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Tokens(ids) => size_of_val(ids.as_slice()),
        };
        match self {
            Self::Whole(_) => 0,
            Self::Mixed(parts) => parts.iter().map(|part| size_of::<Part>() + of(part)).sum(),
        }
    }
}

/// Every prompt of a request. A list with a number in it is one prompt, any other list is several.
///
/// # Errors
/// 400 for anything else.
pub(super) fn read(prompt: Option<Value>) -> Result<Vec<Prompt>, Refusal> {
    match prompt {
        None | Some(Value::Null) => Err(Refusal::invalid("prompt", "`prompt` is missing")),
        Some(Value::Array(items)) if items.is_empty() => {
            Err(Refusal::invalid("prompt", "`prompt` must not be an empty list"))
        }
        Some(Value::Array(items)) if !items.iter().any(Value::is_number) => {
            items.into_iter().map(one).collect()
        }
        Some(prompt) => Ok(vec![one(prompt)?]),
    }
}

fn wrong() -> Refusal {
    let message = "`prompt` must be a string, a list of token ids and strings, an object with `prompt_string`, or a list of \
                   these";
    Refusal::invalid("prompt", message)
}

fn one(prompt: Value) -> Result<Prompt, Refusal> {
    match prompt {
        Value::String(text) => Ok(Prompt::Whole(Input::Text(text))),
        Value::Array(items) if !items.is_empty() => mixed(items),
        Value::Object(mut fields) => {
            let media = fields.get("multimodal_data").and_then(Value::as_array);
            if media.is_some_and(|media| !media.is_empty()) {
                let message = "`prompt.multimodal_data` is not supported: text is the only modality";
                return Err(Refusal::unsupported("prompt", message).with_hint("leave it out"));
            }
            match fields.remove("prompt_string") {
                Some(Value::String(text)) => Ok(Prompt::Whole(Input::Text(text))),
                Some(Value::Array(items)) if !items.is_empty() => mixed(items),
                _ => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

fn mixed(items: Vec<Value>) -> Result<Prompt, Refusal> {
    let mut parts = Vec::new();
    for item in items {
        match item {
            Value::String(text) => parts.push(Part::Text(text)),
            Value::Number(number) => {
                let id = number.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong)?;
                if let Some(Part::Tokens(ids)) = parts.last_mut() {
                    ids.push(id);
                } else {
                    parts.push(Part::Tokens(vec![id]));
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(match <[Part; 1]>::try_from(parts) {
        Ok([Part::Text(text)]) => Prompt::Whole(Input::Text(text)),
        Ok([Part::Tokens(ids)]) => Prompt::Whole(Input::Tokens(ids)),
        Err(parts) => Prompt::Mixed(parts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Prompt {
        Prompt::Whole(Input::Text(text.to_owned()))
    }

    #[test]
    fn a_prompt_has_many_forms() {
        let mixed = || {
            Prompt::Mixed(vec![Part::Tokens(vec![1, 2]), Part::Text("a".to_owned()), Part::Tokens(vec![3])])
        };
        let ids = || Prompt::Whole(Input::Tokens(vec![1, 2]));
        for (value, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a"]), vec![text("a")]),
            (json!([1, 2]), vec![ids()]),
            (json!([1, 2, "a", 3]), vec![mixed()]),
            (json!({ "prompt_string": "a", "multimodal_data": [] }), vec![text("a")]),
            (
                json!(["a", [1, 2], [1, 2, "a", 3], { "prompt_string": [1, 2] }]),
                vec![text("a"), ids(), mixed(), ids()],
            ),
        ] {
            assert_eq!(read(Some(value.clone())).expect("reads"), expected, "{value}");
        }
    }

    #[test]
    fn short_parts_weigh_more_than_their_text() {
        let prompt = json!(vec![json!([0, ""]); 100]);
        let bytes = |value: Value| -> usize {
            read(Some(value)).expect("reads").iter().map(Prompt::waiting_bytes).sum()
        };
        assert!(bytes(prompt.clone()) > 2 * prompt.to_string().len());
        assert_eq!(bytes(json!(["a", [1, 2]])), 0, "the body is counted as it comes");
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [
            json!(null),
            json!([]),
            json!([[]]),
            json!(3),
            json!(true),
            json!({}),
            json!({ "prompt_string": 3 }),
            json!({ "prompt_string": "a", "multimodal_data": ["aGk="] }),
            json!([1.5]),
            json!([-1]),
            json!([1, null]),
            json!([4_294_967_296_u64]),
        ] {
            let failure = read(Some(value.clone())).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("prompt"), "{value}");
        }
    }
}
