//! The texts of a request, and what may be said of them: read from JSON with bounds, and checked.

use std::fmt;
use std::marker::PhantomData;

use samovar::{EmbedInput, EmbedOutput, TextRole, Truncate};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::generation::params;
use crate::refusal::Refusal;

/// Inputs of one request.
pub(crate) const INPUTS: usize = 10_000;
/// Numbers of a vector that may be asked for; the model bounds them further.
const DIMENSIONS: std::ops::RangeInclusive<f64> = 1.0..=1_048_576.0;

/// A text, texts, token ids, or lists of token ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inputs {
    all: Vec<EmbedInput>,
    /// Whether they came in an array, one an element.
    is_array: bool,
}

impl Inputs {
    /// The inputs of the field `param`.
    ///
    /// # Errors
    /// 400 when there are none, or one of them is empty.
    pub(crate) fn check(inputs: Option<Self>, param: &str) -> Result<Vec<EmbedInput>, Refusal> {
        let inputs = present(inputs, param)?;
        if inputs.all.is_empty() {
            return Err(Refusal::invalid(param, format!("`{param}` must not be an empty array")));
        }
        for (at, input) in inputs.all.iter().enumerate() {
            let what = match input {
                EmbedInput::Text(text) if text.is_empty() => "an empty string",
                EmbedInput::Tokens(tokens) if tokens.is_empty() => "an empty list of token ids",
                _ => continue,
            };
            let place = if inputs.is_array { format!("{param}[{at}]") } else { param.to_owned() };
            return Err(Refusal::invalid(place.clone(), format!("`{place}` cannot be {what}")));
        }
        Ok(inputs.all)
    }

    /// The texts of the field `param`; some may be empty.
    ///
    /// # Errors
    /// 400 when there are none, or they are not texts.
    pub(crate) fn texts(inputs: Option<Self>, param: &str) -> Result<Vec<String>, Refusal> {
        let inputs = present(inputs, param)?;
        if inputs.all.is_empty() {
            return Err(Refusal::invalid(param, format!("`{param}` must not be an empty array")));
        }
        let text = |input| match input {
            EmbedInput::Text(text) => Ok(text),
            _ => Err(Refusal::invalid(param, format!("`{param}` must be a string or an array of strings"))),
        };
        inputs.all.into_iter().map(text).collect()
    }
}

/// What a field says that must be there.
pub(crate) fn present<T>(value: Option<T>, param: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::invalid(param, format!("`{param}` is missing")))
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, strings, token ids, or lists of token ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs { all: vec![EmbedInput::Text(text.to_owned())], is_array: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Inputs, A::Error> {
                let mut all = Vec::new();
                let mut ids = Vec::new();
                while let Some(item) = items.next_element::<Item>()? {
                    match item {
                        Item::Id(id) => ids.push(id),
                        Item::Input(input) => all.push(input),
                    }
                    if !ids.is_empty() && !all.is_empty() {
                        return Err(A::Error::custom("it mixes token ids with other inputs"));
                    }
                    if all.len() > INPUTS {
                        return Err(too_many());
                    }
                }
                if ids.is_empty() {
                    return Ok(Inputs { all, is_array: true });
                }
                Ok(Inputs { all: vec![EmbedInput::Tokens(ids)], is_array: false })
            }
        }

        deserializer.deserialize_any(All)
    }
}

fn too_many<E: Error>() -> E {
    E::custom(format!("it has more than {INPUTS} elements, which is the most of one request"))
}

/// An element of an array of inputs.
enum Item {
    /// All of them together are one input.
    Id(u32),
    Input(EmbedInput),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;

        impl<'de> Visitor<'de> for One {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string, a token id (a whole number from 0 to 4294967295) or a list of token ids",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Input(EmbedInput::Text(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Item, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(id), &self);
                u32::try_from(id).map(Item::Id).map_err(wrong)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<Item, A::Error> {
                let mut tokens = Vec::new();
                while let Some(id) = ids.next_element::<u32>()? {
                    tokens.push(id);
                }
                Ok(Item::Input(EmbedInput::Tokens(tokens)))
            }
        }

        deserializer.deserialize_any(One)
    }
}

/// An array that has no more elements than a request may have inputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for All<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    if all.len() == INPUTS {
                        return Err(too_many());
                    }
                    all.push(item);
                }
                Ok(List(all))
            }
        }

        deserializer.deserialize_seq(All(PhantomData))
    }
}

/// What becomes of inputs that are too long: true or `end`, `start`, false or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut(pub(crate) Truncate);

impl<'de> Deserialize<'de> for Cut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = Cut;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, \"start\", \"end\" or \"none\"")
            }

            fn visit_bool<E: Error>(self, is_cut: bool) -> Result<Cut, E> {
                Ok(Cut(if is_cut { Truncate::End } else { Truncate::Refuse }))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Cut, E> {
                match word.to_ascii_lowercase().as_str() {
                    "end" => Ok(Cut(Truncate::End)),
                    "start" => Ok(Cut(Truncate::Start)),
                    "none" => Ok(Cut(Truncate::Refuse)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(Word)
    }
}

/// A vector of so many dimensions, normalised unless this is false.
///
/// # Errors
/// 400 for a number of dimensions that no vector has.
pub(crate) fn vector(dimensions: Option<f64>, normalize: Option<bool>) -> Result<EmbedOutput, Refusal> {
    let dimensions = params::whole("dimensions", dimensions, &DIMENSIONS)?;
    Ok(EmbedOutput::Vector { dimensions, normalize: normalize.unwrap_or(true) })
}

/// What texts are for: the first of these fields that says something counts.
///
/// # Errors
/// 400 that names the field and its words.
pub(crate) fn role(fields: [(&str, Option<&str>); 2]) -> Result<Option<TextRole>, Refusal> {
    let said = fields.into_iter().find_map(|(param, word)| Some((param, word?)));
    let Some((param, word)) = said else { return Ok(None) };
    match word {
        "query" | "search_query" => Ok(Some(TextRole::Query)),
        "document" | "passage" | "search_document" => Ok(Some(TextRole::Document)),
        _ => {
            let shown: String = word.chars().take(40).collect();
            let message = format!("`{param}` must be \"query\" or \"document\", and is {shown:?}");
            Err(Refusal::invalid(param, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::payload::Payload;

    #[derive(Debug, Deserialize)]
    struct Body {
        input: Option<Inputs>,
        list: Option<List<String>>,
        truncate: Option<Cut>,
    }

    fn body(value: &serde_json::Value) -> Result<Body, Refusal> {
        Payload::of(value.to_string()).parse()
    }

    fn inputs(value: &serde_json::Value) -> Result<Vec<EmbedInput>, Refusal> {
        Inputs::check(body(&json!({ "input": value }))?.input, "input")
    }

    #[test]
    fn inputs_are_a_text_texts_ids_or_lists_of_ids() {
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        assert_eq!(inputs(&json!("a")).expect("one"), [text("a")]);
        assert_eq!(inputs(&json!(["a", "b"])).expect("two"), [text("a"), text("b")]);
        assert_eq!(inputs(&json!([1, 2])).expect("one"), [EmbedInput::Tokens(vec![1, 2])]);
        let lists = [EmbedInput::Tokens(vec![1]), EmbedInput::Tokens(vec![2, 3])];
        assert_eq!(inputs(&json!([[1], [2, 3]])).expect("two"), lists);
    }

    #[test]
    fn what_is_no_input_is_refused_by_its_place() {
        for (value, place) in [
            (json!(null), "input"),
            (json!([]), "input"),
            (json!(""), "input"),
            (json!(["a", ""]), "input[1]"),
            (json!([[1], []]), "input[1]"),
            (json!(3), "input"),
            (json!({ "text": "a" }), "input"),
            (json!([1, "a"]), "input"),
            (json!([-1]), "input[0]"),
            (json!([1, 1.5]), "input[1]"),
            (json!([4_294_967_296_u64]), "input[0]"),
            (json!([[1, -1]]), "input[0][1]"),
            (json!(["a", null]), "input[1]"),
            (json!(vec!["a"; INPUTS + 1]), "input"),
        ] {
            let refusal = inputs(&value).expect_err("refuses");
            assert_eq!(refusal.status, axum::http::StatusCode::BAD_REQUEST);
            assert_eq!(refusal.failure.param.as_deref(), Some(place), "{}", refusal.failure);
            assert!(refusal.failure.message.contains(place), "{}", refusal.failure);
        }
        assert_eq!(inputs(&json!(vec!["a"; INPUTS])).expect("the most").len(), INPUTS);
        assert!(body(&json!({ "list": vec!["a"; INPUTS] })).expect("the most").list.is_some());
        assert!(body(&json!({ "list": vec!["a"; INPUTS + 1] })).is_err());
    }

    #[test]
    fn texts_may_be_empty_and_are_no_ids() {
        let texts = |value: serde_json::Value| {
            Inputs::texts(body(&json!({ "input": value })).expect("reads").input, "input")
        };
        assert_eq!(texts(json!("")).expect("one"), [""]);
        assert_eq!(texts(json!(["a", ""])).expect("two"), ["a", ""]);
        assert!(texts(json!([1])).is_err() && texts(json!([])).is_err());
    }

    #[test]
    fn truncation_has_several_words() {
        let of = |value: serde_json::Value| {
            body(&json!({ "truncate": value })).map(|body| body.truncate.map(|cut| cut.0))
        };
        assert_eq!(of(json!(null)).expect("none"), None);
        assert_eq!(of(json!(true)).expect("end"), Some(Truncate::End));
        assert_eq!(of(json!(false)).expect("refuse"), Some(Truncate::Refuse));
        assert_eq!(of(json!("START")).expect("start"), Some(Truncate::Start));
        assert_eq!(of(json!("middle")).expect_err("refuses").failure.param.as_deref(), Some("truncate"));
    }

    #[test]
    fn roles_have_the_words_of_several_apis() {
        assert_eq!(role([("input_type", None), ("prompt_name", None)]).expect("none"), None);
        let of = |word| role([("input_type", Some(word)), ("prompt_name", Some("query"))]);
        assert_eq!(of("search_document").expect("document"), Some(TextRole::Document));
        assert_eq!(of("clustering").expect_err("refuses").failure.param.as_deref(), Some("input_type"));
    }
}
