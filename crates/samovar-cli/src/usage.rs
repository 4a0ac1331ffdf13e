//! What was typed wrongly, in our words: clap finds it, and this says what to type instead.

use std::error::Error as _;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};
use samovar_core::{ErrorKind, Failure};

use crate::args::Arguments;

/// A command line that means nothing, as a failure; `None` for what is no mistake, or is better answered with the help.
pub(crate) fn failure(error: &clap::Error) -> Option<Failure> {
    let (message, hint) = match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion | Kind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return None;
        }
        Kind::UnknownArgument => unknown_argument(error),
        Kind::InvalidSubcommand => unknown_verb(error),
        Kind::ValueValidation => wrong_value(error),
        Kind::InvalidValue => value_out_of_list(error),
        Kind::MissingRequiredArgument => {
            (format!("{} is missing", text(error, ContextKind::InvalidArg)), usage(error))
        }
        Kind::ArgumentConflict => conflict(error),
        Kind::InvalidUtf8 => ("an argument is not UTF-8 text".to_owned(), "type it in UTF-8".to_owned()),
        _ => (first_line(error), usage(error)),
    };
    Some(Failure::new(ErrorKind::InvalidRequest, message).with_hint(hint))
}

fn unknown_argument(error: &clap::Error) -> (String, String) {
    let argument = text(error, ContextKind::InvalidArg);
    if !argument.starts_with('-') {
        return (format!("{argument:?} is one argument too many"), usage(error));
    }
    let suggested = text(error, ContextKind::SuggestedArg);
    let is_option =
        argument.starts_with("--") || argument.len() == 2 && !argument.ends_with(char::is_numeric);
    let hint = match suggested.as_str() {
        "" if is_option => "--help after the verb lists its options".to_owned(),
        "" => format!("text that begins with - is read as an option; put `--` before it: -- \"{argument}\""),
        near => format!("did you mean {near}?"),
    };
    (format!("there is no option {argument} here"), hint)
}

fn unknown_verb(error: &clap::Error) -> (String, String) {
    let verb = text(error, ContextKind::InvalidSubcommand);
    let group = group(error);
    let slip = || one_slip_from(&verb).filter(|_| group.is_empty());
    let near = best(error, ContextKind::SuggestedSubcommand).or_else(slip);
    let hint = match near {
        None if !group.is_empty() => format!("`samovar {group}--help` lists what follows"),
        _ if verb.contains(char::is_whitespace) => format!("to ask a model: samovar run {verb:?}"),
        Some(near) => format!("did you mean `samovar {group}{near}`?"),
        None => "`samovar help` lists the verbs".to_owned(),
    };
    (format!("there is no verb {verb:?}"), hint)
}

/// Readers of ours say what is wrong with a value, a colon, and what to write; or only what to write.
fn wrong_value(error: &clap::Error) -> (String, String) {
    let (name, value) = (argument(error), text(error, ContextKind::InvalidValue));
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    match reason.split_once(": ") {
        Some((what, instead)) => (format!("{name}: {what}"), instead.to_owned()),
        None => (format!("{name} cannot be {value:?}"), reason),
    }
}

fn value_out_of_list(error: &clap::Error) -> (String, String) {
    let (name, value) = (argument(error), text(error, ContextKind::InvalidValue));
    let valid = text(error, ContextKind::ValidValue);
    let hint = match best(error, ContextKind::SuggestedValue) {
        Some(near) => format!("did you mean {near}?"),
        None if valid.is_empty() => usage_or(error, "write it after a space"),
        None => format!("write one of {valid}"),
    };
    let message = match value.as_str() {
        "" => format!("{name} needs a value"),
        value => format!("{name} cannot be {value:?}"),
    };
    (message, hint)
}

fn conflict(error: &clap::Error) -> (String, String) {
    let (one, other) = (argument(error), text(error, ContextKind::PriorArg));
    if other.is_empty() || other == one {
        return (format!("{one} was given twice"), "give it once".to_owned());
    }
    (format!("{one} and {other} exclude each other"), "leave one of them out".to_owned())
}

/// The option or argument at fault, without the name of its value.
fn argument(error: &clap::Error) -> String {
    let whole = text(error, ContextKind::InvalidArg);
    // `--dimensions <N>`, or `--truncate[=<WHERE>]`.
    match whole.split_once([' ', '[', '=']) {
        Some((option, _)) if option.starts_with('-') => option.to_owned(),
        _ => whole,
    }
}

/// How the verb is written.
fn usage(error: &clap::Error) -> String {
    usage_or(error, "--help after the verb shows its syntax")
}

fn usage_or(error: &clap::Error, otherwise: &str) -> String {
    let usage = text(error, ContextKind::Usage);
    let line = usage.lines().next().unwrap_or_default().trim_start_matches("Usage:").trim();
    if line.is_empty() { otherwise.to_owned() } else { format!("usage: {line}") }
}

/// What clap says, where it is rare enough not to have words of ours.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The verb before the one that is wrong, and a blank: `key `, where there is one.
fn group(error: &clap::Error) -> String {
    let usage = usage_or(error, "");
    let words = usage.split(' ').skip_while(|word| *word != "samovar").skip(1);
    words
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .fold(String::new(), |group, word| group + word + " ")
}

/// The verb that differs by one letter, or by two in the wrong order.
fn one_slip_from(typed: &str) -> Option<String> {
    let arguments = Arguments::command();
    let mut verbs =
        arguments.get_subcommands().filter(|verb| !verb.is_hide_set()).map(clap::Command::get_name);
    verbs.find(|verb| strsim::osa_distance(verb, typed) == 1).map(str::to_owned)
}

/// The likeliest of what is suggested, which comes last.
fn best(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.last().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(line: &[&str]) -> (String, String) {
        let line = [["samovar"].as_slice(), line].concat();
        let error = Arguments::try_parse_from(&line).expect_err("is refused");
        let failure = failure(&error).unwrap_or_else(|| panic!("{line:?} is help"));
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        (failure.message, failure.hint.expect("a hint"))
    }

    #[test]
    fn slips_of_the_finger_hear_what_was_meant() {
        assert_eq!(
            said(&["rnu", "x"]),
            ("there is no verb \"rnu\"".into(), "did you mean `samovar run`?".into())
        );
        let (message, hint) = said(&["run", "--temprature", "1", "x"]);
        assert_eq!(
            (message.as_str(), hint.as_str()),
            ("there is no option --temprature here", "did you mean --temperature?")
        );
        assert_eq!(said(&["key", "ad", "ci"]).1, "did you mean `samovar key add`?");
        assert_eq!(said(&["key", "zzz"]).1, "`samovar key --help` lists what follows");
        assert!(said(&["Tell me a story"]).1.contains("samovar run \"Tell me a story\""));
    }

    #[test]
    fn wrong_numbers_hear_which_are_right_and_nothing_of_a_library() {
        for line in [
            &["run", "-n", "abc", "x"][..],
            &["run", "-n", "-1", "x"],
            &["run", "-n", "99999999999999", "x"],
            &["run", "-t", "-1", "x"],
            &["run", "--top-k", "many", "x"],
            &["run", "--seed", "1.5", "x"],
            &["run", "--timeout", "-5", "x"],
            &["run", "--timeout", "soon", "x"],
            &["serve", "--port", "70000"],
            &["serve", "--port", "-1"],
        ] {
            let (message, hint) = said(line);
            let words = format!("{message} {hint}");
            assert!(message.starts_with('-'), "{line:?}: {words}");
            assert!(!words.contains("digit found") && !words.contains("target type"), "{line:?}: {words}");
            assert!(!words.contains("'--"), "{line:?}: {words}");
        }
        assert_eq!(said(&["embed", "m", "--truncate=middle", "x"]).0, "--truncate cannot be \"middle\"");
        assert_eq!(said(&["run", "-n", "0", "x"]).1, "write a whole number from 1 to 4294967295");
    }

    #[test]
    fn what_is_missing_or_too_much_is_told_with_the_verbs_form() {
        let (message, hint) = said(&["stop"]);
        assert!(message.ends_with("is missing") && hint.contains("samovar stop"), "{message} {hint}");
        let (message, _) = said(&["ps", "x"]);
        assert_eq!(message, "\"x\" is one argument too many");
        let (message, hint) = said(&["serve", "--port", "1", "--listen", "127.0.0.1:1"]);
        assert!(message.contains("exclude each other") && hint.contains("leave one"), "{message} {hint}");
        assert!(said(&["run", "-5 apples"]).1.contains("-- \"-5"));
        assert!(said(&["completions", "basch"]).1.contains("bash"));
    }
}
