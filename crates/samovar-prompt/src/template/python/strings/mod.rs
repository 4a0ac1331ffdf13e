//! The methods of Python's `str`, bounded in what they make.

mod words;

use minijinja::value::Tuple;
use minijinja::{Error, ErrorKind, State, Value};

use super::text::{in_safe, like};
use super::{Kind, format, integer, items, kind};
use crate::template::budget::{self, charge, refuse};
use crate::template::filters::Arguments;
pub(crate) use words::{cased, lines, pad, replace, strip};
use words::{is, split};

/// Every method of `str` that a template may call.
pub(crate) const NAMES: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// `value.method(arguments)` of a text.
///
/// # Errors
/// An unknown method or a wrong call.
pub(crate) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: Arguments,
) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    charge(state, text.len())?;
    let words = match method {
        "format" => return format::braces(state, value, &arguments),
        "format_map" => {
            let [map] = arguments.bind(method, ["mapping"])?;
            let map = map.ok_or_else(|| refuse("format_map() takes exactly one argument"))?;
            return format::braces(state, value, &Arguments::of_mapping(&map));
        }
        "lower" | "upper" | "capitalize" | "title" | "swapcase" | "casefold" => {
            arguments.bind::<0>(method, [])?;
            cased(text, method)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(method, ["chars"])?;
            strip(text, method, chars.as_ref())?.to_owned()
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(method, ["part"])?;
            let part = text_of(method, part.as_ref())?;
            let rest =
                if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            rest.unwrap_or(text).to_owned()
        }
        "replace" => {
            let [old, new, count] = arguments.bind(method, ["old", "new", "count"])?;
            let (old_text, new_text) = (text_of(method, old.as_ref())?, text_of(method, new.as_ref())?);
            let (old, new) = match (value.is_safe(), &old, &new) {
                (true, Some(old), Some(new)) => (in_safe(old), in_safe(new)),
                _ => (old_text.to_owned(), new_text.to_owned()),
            };
            replace(
                state,
                text,
                &old,
                &new,
                count.as_ref().map(|count| whole(method, count)).transpose()?.unwrap_or(-1),
            )?
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = arguments.bind(method, ["width", "fillchar"])?;
            let width = width.as_ref().map_or_else(|| wrong(method), |width| whole(method, width))?;
            let fill = fill.as_ref().map_or(Ok(" "), |fill| text_of(method, Some(fill)))?;
            pad(state, text, width, fill, method)?
        }
        "zfill" => {
            let [width] = arguments.bind(method, ["width"])?;
            let width = width.as_ref().map_or_else(|| wrong(method), |width| whole(method, width))?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let filled = pad(state, digits, width - sign.len() as i128, "0", "rjust")?;
            format!("{sign}{filled}")
        }
        "expandtabs" => text.replace('\t', "        "),
        "join" => {
            let [iterable] = arguments.bind(method, ["iterable"])?;
            let iterable = iterable.ok_or_else(|| refuse("join() takes exactly one argument"))?;
            let parts = items(state, &iterable)?;
            let mut joined = String::new();
            for (index, part) in parts.iter().enumerate() {
                let part_text = text_of("join", Some(part))?;
                charge(state, part_text.len() + text.len())?;
                if index > 0 {
                    joined.push_str(text);
                }
                if value.is_safe() {
                    joined.push_str(&in_safe(part))
                } else {
                    joined.push_str(part_text)
                }
                charge(state, joined.len().saturating_sub(crate::bounds::OUTPUT_LIMIT_BYTES))?;
            }
            joined
        }
        _ => return other(state, value, text, method, arguments),
    };
    charge(state, words.len())?;
    Ok(like(value, words))
}

/// What gives no text.
fn other(
    state: &mut State,
    value: &Value,
    text: &str,
    method: &str,
    arguments: Arguments,
) -> Result<Value, Error> {
    if method.starts_with("is") {
        arguments.bind::<0>(method, [])?;
        return Ok(Value::from(is(text, method)));
    }
    match method {
        "startswith" | "endswith" => {
            let [part, start, end] = arguments.bind(method, ["part", "start", "end"])?;
            let part = part.ok_or_else(|| refuse(format!("{method}() takes at least 1 argument")))?;
            let Some(text) = range(text, start.as_ref(), end.as_ref()).map(|(_, text)| text) else {
                return Ok(Value::from(false));
            };
            let parts = if kind(&part) == Kind::Tuple { items(state, &part)? } else { vec![part] };
            let mut holds = false;
            for part in &parts {
                let part = text_of(method, Some(part))?;
                holds |= if method == "startswith" { text.starts_with(part) } else { text.ends_with(part) };
            }
            Ok(Value::from(holds))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = arguments.bind(method, ["sub", "start", "end"])?;
            let part = text_of(method, part.as_ref())?;
            let Some((skipped, within)) = range(text, start.as_ref(), end.as_ref()) else {
                return found(method, None);
            };
            if method == "count" {
                let count =
                    if part.is_empty() { within.chars().count() + 1 } else { within.matches(part).count() };
                return Ok(Value::from(count));
            }
            let at = if method.starts_with('r') { within.rfind(part) } else { within.find(part) };
            found(method, at.map(|at| skipped + within[..at].chars().count()))
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(method, ["sep"])?;
            let separator = text_of(method, separator.as_ref())?;
            if separator.is_empty() {
                return Err(refuse("empty separator"));
            }
            let cut =
                if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match cut {
                Some((before, after)) => [before, separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(Value::from(Tuple::from(parts.map(|part| like(value, part.to_owned())))))
        }
        "split" | "rsplit" => {
            let [separator, limit] = arguments.bind(method, ["sep", "maxsplit"])?;
            let separator = separator.filter(|separator| kind(separator) != Kind::None);
            let separator =
                separator.as_ref().map(|separator| text_of(method, Some(separator))).transpose()?;
            let limit = limit.as_ref().map(|limit| whole(method, limit)).transpose()?.unwrap_or(-1);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let parts = split(text, separator, limit, method == "rsplit")?;
            budget::list(state, parts.into_iter().map(|part| like(value, part.to_owned())).collect())
        }
        "splitlines" => {
            let [keep] = arguments.bind(method, ["keepends"])?;
            let keep = keep.is_some_and(|keep| keep.is_true());
            let lines = lines(text, keep);
            budget::list(state, lines.into_iter().map(|line| like(value, line.to_owned())).collect())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn wrong<T>(method: &str) -> Result<T, Error> {
    Err(refuse(format!("{method}() lacks an argument")))
}

fn text_of<'v>(method: &str, value: Option<&'v Value>) -> Result<&'v str, Error> {
    let Some(value) = value else { return wrong(method) };
    value.as_str().ok_or_else(|| match kind(value) {
        Kind::Undefined => super::undefined(),
        kind => refuse(format!("{method}() argument must be str, not {}", kind.name())),
    })
}

fn whole(method: &str, value: &Value) -> Result<i128, Error> {
    integer(value)
        .ok_or_else(|| refuse(format!("{method}() argument must be int, not {}", kind(value).name())))
}

/// The text between two places, and how many characters lie before it; nothing where they cross.
fn range<'t>(text: &'t str, start: Option<&Value>, end: Option<&Value>) -> Option<(usize, &'t str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let length = text.chars().count();
    let place = |given: Option<&Value>, default: usize| match given.and_then(integer) {
        Some(place) if place < 0 => usize::try_from(place + length as i128).unwrap_or(0),
        Some(place) => usize::try_from(place).unwrap_or(usize::MAX),
        None => default,
    };
    let (start, end) = (place(start, 0), place(end, length).min(length));
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    (start <= end).then(|| (start, &text[byte(start)..byte(end)]))
}

fn found(method: &str, place: Option<usize>) -> Result<Value, Error> {
    match place {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("index") => Err(refuse("substring not found")),
        None => Ok(Value::from(if method == "count" { 0 } else { -1 })),
    }
}
