//! `logit_bias` in llama-server's forms: pairs in a list, or an object. A token is named by its id or by a text, which stands for each of
//! the text's tokens; `false` bans it.

use serde_json::Value;

use crate::refusal::{Refusal, shown};

/// Tokens that one request may name.
const BIASES: usize = 1024;
/// The largest bias; everything below its negative bans as well.
const MOST: f64 = 100.0;

/// What is added to which logits.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Biases {
    pub(super) by_id: Vec<(u32, f32)>,
    /// Texts that have to become token ids first.
    pub(super) by_text: Vec<(String, f32)>,
}

/// Reads both forms.
///
/// # Errors
/// 400 that names `logit_bias`.
pub(super) fn read(value: Option<Value>) -> Result<Biases, Refusal> {
    let mut biases = Biases::default();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(pairs)) => {
            check_count(pairs.len())?;
            for pair in pairs {
                let Value::Array(pair) = pair else { return Err(wrong()) };
                let [token, bias] = <[Value; 2]>::try_from(pair).map_err(|_| wrong())?;
                let bias = of(&bias)?;
                match token {
                    Value::Number(id) => {
                        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong)?;
                        biases.by_id.push((id, bias));
                    }
                    Value::String(text) => biases.by_text.push((text, bias)),
                    _ => return Err(wrong()),
                }
            }
        }
        Some(Value::Object(fields)) => {
            check_count(fields.len())?;
            for (token, bias) in fields {
                let bias = of(&bias)?;
                match token.parse::<u32>() {
                    Ok(id) => biases.by_id.push((id, bias)),
                    Err(_) => biases.by_text.push((token, bias)),
                }
            }
        }
        Some(_) => return Err(wrong()),
    }
    Ok(biases)
}

/// Refuses more tokens than one request may name.
///
/// # Errors
/// 400 that names `logit_bias`.
pub(super) fn check_count(count: usize) -> Result<(), Refusal> {
    if count <= BIASES {
        return Ok(());
    }
    let message = format!("`logit_bias` may name {BIASES} tokens, and names {count}");
    Err(Refusal::invalid("logit_bias", message))
}

fn of(bias: &Value) -> Result<f32, Refusal> {
    match bias {
        Value::Bool(false) => Ok(f32::NEG_INFINITY),
        Value::Number(number) => match number.as_f64() {
            Some(bias) if (-MOST..=MOST).contains(&bias) => Ok(bias as f32),
            _ => Err(outside(bias)),
        },
        _ => Err(outside(bias)),
    }
}

fn outside(bias: &Value) -> Refusal {
    let shown = shown(&bias.to_string());
    let message =
        format!("a bias of `logit_bias` must be false or a number from -{MOST} to {MOST}, and is {shown}");
    Refusal::invalid("logit_bias", message)
}

fn wrong() -> Refusal {
    let message =
        "`logit_bias` must be a list of pairs `[token, bias]`, or an object; a token is an id or a text";
    Refusal::invalid("logit_bias", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn tokens_are_named_by_id_or_text_in_pairs_or_an_object() {
        let expected = || Biases {
            by_id: vec![(5, 1.5), (7, f32::NEG_INFINITY)],
            by_text: vec![("fox".to_owned(), -0.5)],
        };
        let pairs = json!([[5, 1.5], ["fox", -0.5], [7, false]]);
        assert_eq!(read(Some(pairs)).expect("reads"), expected());
        let object = json!({ "5": 1.5, "fox": -0.5, "7": false });
        assert_eq!(read(Some(object)).expect("reads"), expected());
        for nothing in [None, Some(json!(null)), Some(json!([])), Some(json!({}))] {
            assert_eq!(read(nothing).expect("reads"), Biases::default());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let many: Map<String, Value> = (0..=BIASES).map(|id| (id.to_string(), json!(1))).collect();
        for bad in [
            json!(3),
            json!("fox"),
            json!([5]),
            json!([[5]]),
            json!([[5, 1, 2]]),
            json!([[-5, 1]]),
            json!([[5.5, 1]]),
            json!([[null, 1]]),
            json!([[5, true]]),
            json!([[5, "1"]]),
            json!([[5, 101]]),
            json!({ "5": 1e300 }),
            json!({ "5": null }),
            Value::Object(many),
        ] {
            let failure = read(Some(bad.clone())).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("logit_bias"), "{bad}");
            assert!(failure.message.len() < 200, "{failure}");
        }
    }
}
