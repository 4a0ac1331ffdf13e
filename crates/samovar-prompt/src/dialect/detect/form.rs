//! The form of calls in the part of a rendered conversation in which they stand: JSON, a name before JSON, tags, or
//! Python. What none of them explains in full has no form.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::super::{Calls, Form, Marks};
use super::pieces::Pieces;
use super::{COUNT, COUNT_KEY, FIRST_NAME, OTHER_VALUE, SECOND_NAME, TEXT_KEY, VALUE, is_sentinel_in};

/// Bytes of what may stand between two calls besides their marks: a comma.
const BETWEEN_BYTES: usize = 2;

/// How the calls in this section are written: the first, with two arguments, and where `has_second` another one with one.
pub(super) fn calls(section: &str, has_second: bool) -> Option<Calls> {
    let calls = as_json(section, has_second).or_else(|| {
        let key = section.find(TEXT_KEY)?;
        let name = section[..key].rfind(FIRST_NAME)?;
        let is_python = section[name + FIRST_NAME.len()..].trim_start().starts_with('(')
            && section[key + TEXT_KEY.len()..].trim_start().starts_with('=');
        if is_python {
            return as_python(section, name, has_second);
        }
        let name = name..name + FIRST_NAME.len();
        as_named(section, name.clone(), has_second).or_else(|| as_tagged(section, name, has_second))
    })?;
    // Whatever changes with the call is no mark.
    (!is_sentinel_in(&format!("{calls:?}"))).then_some(calls)
}

fn as_json(section: &str, has_second: bool) -> Option<Calls> {
    let (first, object) = object_with(section, 0, &[FIRST_NAME, TEXT_KEY])?;
    let (mut between, mut last) = (None, first.clone());
    if has_second {
        let (second, _) = object_with(section, first.end, &[SECOND_NAME, TEXT_KEY])?;
        between = Some(&section[first.end..second.start]);
        last = second;
    }
    let (head, tail) = (&section[..first.start], &section[last.end..]);
    let in_array = head.trim_end().strip_suffix('[').zip(tail.trim_start().strip_prefix(']'));
    if let Some((head, tail)) = in_array
        && between.is_none_or(|between| between.trim() == ",")
    {
        let form = json_form(&object, true)?;
        return Some(Calls {
            around_all: outer(head, tail),
            around_each: None,
            between: String::new(),
            form,
        });
    }
    let Around { all, each, between } = around(head, between, tail)?;
    let form = json_form(&object, false)?;
    Some(Calls { around_all: all, around_each: marks(each)?, between, form })
}

/// The fields of a call that is a JSON object.
fn json_form(object: &Map<String, Json>, is_array: bool) -> Option<Form> {
    let (inside, fields) = if has_name(object) {
        (None, object)
    } else {
        let is_inside = |(_, value): &(&String, &Json)| value.as_object().is_some_and(has_name);
        let (key, value) = object.iter().find(is_inside)?;
        (Some(key.clone()), value.as_object()?)
    };
    let id = object.iter().chain(fields).find(|(key, value)| is_id(key, value));
    Some(Form::Json {
        name: fields.iter().find(|(_, value)| is_name(value))?.0.clone(),
        arguments: fields.iter().find(|(_, value)| value.get(TEXT_KEY).is_some())?.0.clone(),
        id: id.map(|(key, _)| key.clone()),
        inside,
        is_array,
    })
}

fn is_name(value: &Json) -> bool {
    value.as_str() == Some(FIRST_NAME)
}

fn has_name(fields: &Map<String, Json>) -> bool {
    fields.values().any(is_name)
}

fn is_id(key: &str, value: &Json) -> bool {
    (key == "id" || key.ends_with("_id")) && !value.is_object()
}

fn as_python(section: &str, name: usize, has_second: bool) -> Option<Calls> {
    let last = if has_second { section.rfind(OTHER_VALUE)? } else { section.rfind(COUNT)? };
    let end = last + section[last..].find(')')? + 1;
    let (head, tail) = (section[..name].trim_end(), section[end..].trim_start());
    let (head, tail) = head.strip_suffix('[').zip(tail.strip_prefix(']')).unwrap_or((head, tail));
    Some(Calls {
        around_all: outer(head, tail),
        around_each: None,
        between: String::new(),
        form: Form::Python,
    })
}

/// A name, then the arguments as a JSON object.
fn as_named(section: &str, name: Range<usize>, has_second: bool) -> Option<Calls> {
    let (first, _) = object_with(section, name.end, &[TEXT_KEY, COUNT_KEY])?;
    let after_name = section[name.end..first.start].trim();
    // The object with the name as its only key.
    let is_key = section[..name.start].ends_with("{\"");
    let call_end = |at: usize| {
        let rest = section[at..].trim_start();
        match rest.strip_prefix('}') {
            Some(rest) if is_key => section.len() - rest.len(),
            _ => at,
        }
    };
    let (mut between, mut end) = (None, call_end(first.end));
    if has_second {
        let second = find(section, SECOND_NAME, end)?;
        let (arguments, _) = object_with(section, second.end, &[TEXT_KEY])?;
        if section[second.end..arguments.start].trim() != after_name {
            return None;
        }
        between = Some(&section[end..second.start]);
        end = call_end(arguments.end);
    }
    let Around { all, each, between } = around(&section[..name.start], between, &section[end..])?;
    let Parts { around_each, before_name, mut after_arguments } = parts(each);
    if is_key {
        after_arguments.insert(0, '}');
    }
    // The object of the arguments begins nothing that a name could end at.
    if after_name.is_empty() {
        return None;
    }
    let form = Form::Named { before_name, after_name: after_name.to_owned(), after_arguments };
    Some(Calls { around_all: all, around_each, between, form })
}

/// A name, then each argument between marks.
fn as_tagged(section: &str, name: Range<usize>, has_second: bool) -> Option<Calls> {
    let key = find(section, TEXT_KEY, name.end)?;
    let value = find(section, VALUE, key.end)?;
    let count_key = find(section, COUNT_KEY, value.end)?;
    let count = find(section, COUNT, count_key.end)?;
    let after_key = section[key.end..value.start].trim();
    if after_key.is_empty() || after_key != section[count_key.end..count.start].trim() {
        return None;
    }
    let (to_key, to_next) =
        (Pieces::of(&section[name.end..key.start]), Pieces::of(&section[value.end..count_key.start]));
    // Something must remain to end the value.
    let before = to_key.common_end(&to_next).min(to_next.len().saturating_sub(1));
    let before_key = to_next.span(to_next.len() - before..to_next.len());
    let after_value = to_next.span(0..to_next.len() - before);
    if before_key.is_empty() || after_value.is_empty() {
        return None;
    }
    let argument_end = |at: usize| {
        let rest = section[at..].trim_start().strip_prefix(after_value)?;
        Some(section.len() - rest.len())
    };
    let (mut between, mut end) = (None, argument_end(count.end)?);
    if has_second {
        let second = find(section, SECOND_NAME, end)?;
        between = Some(&section[end..second.start]);
        end = argument_end(find(section, OTHER_VALUE, second.end)?.end)?;
    }
    let Around { all, each, between } = around(&section[..name.start], between, &section[end..])?;
    let Parts { around_each, before_name, after_arguments } = parts(each);
    if around_each.is_none() && before_name.is_empty() {
        return None;
    }
    let form = Form::Tagged {
        before_name,
        after_name: to_key.span(0..to_key.len() - before).to_owned(),
        before_key: before_key.to_owned(),
        after_key: after_key.to_owned(),
        after_value: after_value.to_owned(),
        after_arguments,
    };
    Some(Calls { around_all: all, around_each, between, form })
}

/// What stands around calls.
struct Around {
    all: Option<Marks>,
    /// Before and behind each; either may be empty.
    each: (String, String),
    between: String,
}

/// Tells the marks around all calls from those around each, by what stands before the first, between two (where there
/// are two), and behind the last.
fn around(head: &str, between: Option<&str>, tail: &str) -> Option<Around> {
    let (head, tail) = (Pieces::of(head), Pieces::of(tail));
    let Some(between) = between else {
        // What closes has no more pieces than what opens: the rest ends the message.
        let close = tail.span(0..tail.len().min(head.len())).to_owned();
        return Some(Around {
            all: None,
            each: (head.span(0..head.len()).to_owned(), close),
            between: String::new(),
        });
    };
    let between = Pieces::of(between);
    let closing = tail.common_start(&between);
    let opening = head.common_end(&between).min(between.len() - closing);
    let others = between.span(closing..between.len() - opening);
    if others.len() > BETWEEN_BYTES {
        return None;
    }
    let around_all = head.len() - opening;
    let all = marks((
        head.span(0..around_all).to_owned(),
        tail.span(closing..tail.len().min(closing + around_all)).to_owned(),
    ))?;
    let each = (
        between.span(between.len() - opening..between.len()).to_owned(),
        between.span(0..closing).to_owned(),
    );
    Some(Around { all, each, between: others.to_owned() })
}

/// The marks around all calls, of which what closes has no more pieces than what opens.
fn outer(head: &str, tail: &str) -> Option<Marks> {
    let (head, tail) = (Pieces::of(head), Pieces::of(tail));
    let (open, close) = (head.span(0..head.len()), tail.span(0..tail.len().min(head.len())));
    (!open.is_empty()).then(|| Marks { open: open.to_owned(), close: close.to_owned() })
}

/// Two texts as marks: `Some(None)` where both are empty, `None` where only the first is.
#[expect(clippy::option_option, reason = "no marks are something else than marks that cannot be")]
fn marks((open, close): (String, String)) -> Option<Option<Marks>> {
    match (open.is_empty(), close.is_empty()) {
        (true, true) => Some(None),
        (true, false) => None,
        (false, _) => Some(Some(Marks { open, close })),
    }
}

/// What stands around each call, taken apart.
struct Parts {
    around_each: Option<Marks>,
    before_name: String,
    after_arguments: String,
}

/// A whole mark in front is one around the call; one that is left open (`<function=`) belongs to the name.
fn parts((open, close): (String, String)) -> Parts {
    let (opening, closing) = (Pieces::of(&open), Pieces::of(&close));
    let first = opening.span(0..opening.len().min(1));
    if !first.ends_with(['>', ']']) {
        return Parts { around_each: None, before_name: open, after_arguments: close };
    }
    let last = closing.len().saturating_sub(1);
    Parts {
        around_each: Some(Marks {
            open: first.to_owned(),
            close: closing.span(last..closing.len()).to_owned(),
        }),
        before_name: opening.span(1..opening.len()).to_owned(),
        after_arguments: closing.span(0..last).to_owned(),
    }
}

/// Where a text stands from `from` on.
fn find(section: &str, text: &str, from: usize) -> Option<Range<usize>> {
    let at = from + section[from..].find(text)?;
    Some(at..at + text.len())
}

/// The first JSON object from `from` on that has all these texts in it.
fn object_with(section: &str, from: usize, texts: &[&str]) -> Option<(Range<usize>, Map<String, Json>)> {
    section[from..].match_indices('{').find_map(|(at, _)| {
        let begin = from + at;
        let mut read = serde_json::Deserializer::from_str(&section[begin..]).into_iter::<Map<String, Json>>();
        let object = read.next()?.ok()?;
        let range = begin..begin + read.byte_offset();
        texts.iter().all(|text| section[range.clone()].contains(text)).then_some((range, object))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &str = r#"{"samovar_text": "samovar value one", "samovar_count": 7531902}"#;
    const OTHER: &str = r#"{"samovar_text": "samovar value two"}"#;

    fn marks(open: &str, close: &str) -> Marks {
        Marks { open: open.to_owned(), close: close.to_owned() }
    }

    fn named(section: &str) -> Option<(Option<Marks>, Option<Marks>, [String; 3])> {
        match calls(section, true)? {
            Calls {
                around_all,
                around_each,
                form: Form::Named { before_name, after_name, after_arguments },
                ..
            } => Some((around_all, around_each, [before_name, after_name, after_arguments])),
            other => panic!("{other:?}"),
        }
    }

    fn texts(texts: [&str; 3]) -> [String; 3] {
        texts.map(str::to_owned)
    }

    #[test]
    fn marks_around_all_and_around_each_are_told_apart() {
        let section = format!(
            "<all>\n<each>function<sep>{FIRST_NAME}\n```json\n{ARGUMENTS}\n```</each>\n<each>function<sep>{SECOND_NAME}\n```json\n{OTHER}\n```</each></all><end>"
        );
        let expected = (
            Some(marks("<all>", "</all>")),
            Some(marks("<each>", "</each>")),
            texts(["function<sep>", "```json", "```"]),
        );
        assert_eq!(named(&section), Some(expected));
    }

    #[test]
    fn a_mark_that_is_open_belongs_to_the_name() {
        let section = format!(
            "<function={FIRST_NAME}>{ARGUMENTS}</function><function={SECOND_NAME}>{OTHER}</function>"
        );
        assert_eq!(named(&section), Some((None, None, texts(["<function=", ">", "</function>"]))));
    }

    #[test]
    fn a_name_may_be_the_key_of_its_arguments() {
        let section =
            format!("<all>[{{\"{FIRST_NAME}\": {ARGUMENTS}}}, {{\"{SECOND_NAME}\": {OTHER}}}]</all>");
        let found = calls(&section, true).expect("a form");
        assert_eq!((found.around_all, found.between.as_str()), (Some(marks("<all>[", "]</all>")), ","));
        let [before_name, after_name, after_arguments] = texts(["{\"", "\":", "}"]);
        assert_eq!(found.form, Form::Named { before_name, after_name, after_arguments });
    }

    #[test]
    fn what_no_form_explains_has_none() {
        for section in [
            // Values of several kinds between marks of several kinds.
            "call:samovar_alpha{samovar_text:<q>samovar value one<q>,samovar_count:7531902}".to_owned(),
            "samovar_alpha".to_owned(),
            String::new(),
            // An id in the marks.
            format!("<c Samovar01>{FIRST_NAME}<a>{ARGUMENTS}"),
            // Nothing ends the name.
            format!(">>>{FIRST_NAME}\n{ARGUMENTS}"),
        ] {
            assert_eq!(calls(&section, false), None, "{section}");
        }
    }

    #[test]
    fn many_braces_take_no_time() {
        assert_eq!(calls(&"{\"a\":".repeat(3_000), false), None);
        let repeated = format!("{FIRST_NAME}{TEXT_KEY}{{").repeat(200);
        assert_eq!(calls(&repeated, true), None);
    }
}
