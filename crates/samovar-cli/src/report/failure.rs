//! An error as people and programs read it.

use samovar_core::Failure;
use serde_json::json;

use super::harmless;
use crate::exit_code;

/// The error as text: `error: …` and `hint: …`, or one JSON object.
pub(super) fn text(failure: &Failure, is_json: bool, is_coloured: bool) -> String {
    if is_json {
        let object = json!({ "error": {
            "kind": failure.kind,
            "code": failure.kind.surface().code,
            "message": failure.message,
            "hint": failure.hint,
            "param": failure.param,
            "retry_after_ms": failure.retry_after_ms,
            "exit_code": exit_code::of(failure.kind),
        }});
        return format!("{object}\n");
    }
    let paint = |code: &str, word: &str| {
        if is_coloured { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    };
    let (error, hint) = lines(failure);
    let hint = hint.map(|hint| format!("{} {hint}\n", paint("1;36", "hint:"))).unwrap_or_default();
    format!("{} {error}\n{hint}", paint("1;31", "error:"))
}

/// What follows `error:` and `hint:`.
fn lines(failure: &Failure) -> (String, Option<String>) {
    let clean = |text: &str| harmless(text).into_owned();
    (clean(&failure.message), failure.hint.as_deref().map(clean))
}

#[cfg(test)]
mod tests {
    use samovar_core::ErrorKind;

    use super::*;

    #[test]
    fn a_hint_follows_its_error() {
        let failure = Failure::new(ErrorKind::NotFound, "no such thing").with_hint("look elsewhere");
        assert_eq!(text(&failure, false, false), "error: no such thing\nhint: look elsewhere\n");
    }

    #[test]
    fn json_carries_kind_and_exit_code() {
        let failure = Failure::new(ErrorKind::NotFound, "no such thing");
        let object: serde_json::Value = serde_json::from_str(&text(&failure, true, true)).expect("JSON");
        assert_eq!(object["error"]["kind"], "not_found");
        assert_eq!(object["error"]["exit_code"], 66);
    }
}
