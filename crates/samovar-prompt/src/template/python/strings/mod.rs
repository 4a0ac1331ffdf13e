//! The methods of Python's `str`, bounded in what they make.

mod digits;
mod words;

use minijinja::value::Tuple;
use minijinja::{Error, ErrorKind, State, Value};

use super::text::{in_safe, like};
use super::{Kind, format, integer, items, kind, pairs, text};
use crate::template::budget::{self, ITEMS_LIMIT, charge, refuse};
use crate::template::filters::Arguments;
pub(crate) use words::{cased, lines, pad, replace, strip};
use words::{expand_tabs, is, split};

/// Every method of `str` that a template may call.
pub(crate) const NAMES: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
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
    "maketrans",
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
    "translate",
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
            let filled = pad(state, digits, width.saturating_sub(sign.len() as i128), "0", "rjust")?;
            format!("{sign}{filled}")
        }
        "expandtabs" => {
            let [size] = arguments.bind(method, ["tabsize"])?;
            let size = size.as_ref().map(|size| whole(method, size)).transpose()?.unwrap_or(8);
            expand_tabs(state, text, size)?
        }
        "translate" => {
            let [table] = arguments.bind(method, ["table"])?;
            translate(state, text, &table.ok_or_else(|| refuse("translate() takes exactly one argument"))?)?
        }
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
                    joined.push_str(&in_safe(part));
                } else {
                    joined.push_str(part_text);
                }
                budget::bound(joined.len())?;
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
            for part in &parts {
                let part = text_of(method, Some(part))?;
                let holds =
                    if method == "startswith" { text.starts_with(part) } else { text.ends_with(part) };
                if holds {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
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
            let lines = lines(text, keep, ITEMS_LIMIT);
            budget::list(state, lines.into_iter().map(|line| like(value, line.to_owned())).collect())
        }
        "encode" => encode(text, arguments),
        "maketrans" => table(state, arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// The arguments of `encode` and `decode`, of which only the usual are known.
fn is_usual_encoding(method: &str, arguments: Arguments) -> Result<(), Error> {
    let [encoding, errors] = arguments.bind(method, ["encoding", "errors"])?;
    let encoding = encoding.map_or_else(|| "utf-8".to_owned(), |name| name.to_string().to_lowercase());
    if !["utf-8", "utf8", "utf_8"].contains(&encoding.as_str())
        || errors.is_some_and(|it| it.as_str() != Some("strict"))
    {
        return Err(refuse(format!("{method}() knows UTF-8 only")));
    }
    Ok(())
}

fn encode(text: &str, arguments: Arguments) -> Result<Value, Error> {
    is_usual_encoding("encode", arguments)?;
    Ok(Value::from_bytes(text.as_bytes().to_vec()))
}

/// `bytes.decode()`
///
/// # Errors
/// Bytes that are no UTF-8, or another encoding.
pub(crate) fn decode(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    is_usual_encoding("decode", arguments)?;
    let text = std::str::from_utf8(value.as_bytes().unwrap_or_default());
    budget::text(state, text.map_err(|_| refuse("'utf-8' codec can't decode the bytes"))?)
}

/// `str.maketrans(…)`: from characters' numbers to what replaces them.
fn table(state: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let [from, to, gone] = arguments.bind("maketrans", ["x", "y", "z"])?;
    let from = from.ok_or_else(|| refuse("maketrans expected at least 1 argument, got 0"))?;
    let number = |c: char| Value::from(i64::from(u32::from(c)));
    let Some(to) = to else {
        if kind(&from) != Kind::Dict {
            return Err(refuse("if you give only one argument to maketrans it must be a dict"));
        }
        let mut members = Vec::new();
        for (key, item) in pairs(&from) {
            let mut chars = key.as_str().unwrap_or_default().chars();
            let key = match (chars.next(), chars.next(), kind(&key)) {
                (Some(c), None, _) => number(c),
                (_, _, Kind::Int) => key,
                _ => return Err(refuse("keys of maketrans are characters or integers")),
            };
            members.push((key, item));
        }
        return Ok(Value::from_pairs(members));
    };
    let (from, to) = (text_of("maketrans", Some(&from))?, text_of("maketrans", Some(&to))?);
    let gone = gone.as_ref().map_or(Ok(""), |gone| text_of("maketrans", Some(gone)))?;
    if from.chars().count() != to.chars().count() {
        return Err(refuse("the first two maketrans arguments must have equal length"));
    }
    budget::charge_items(state, from.len() + gone.len())?;
    let replaced = from.chars().zip(to.chars()).map(|(from, to)| (number(from), number(to)));
    Ok(Value::from_pairs(replaced.chain(gone.chars().map(|c| (number(c), Value::from(()))))))
}

/// `text.translate(table)`
fn translate(state: &mut State, text: &str, table: &Value) -> Result<String, Error> {
    if kind(table) != Kind::Dict {
        return Err(refuse("translate() needs a dict"));
    }
    let mut translated = String::with_capacity(text.len());
    for c in text.chars() {
        let other = table.get_item(&Value::from(i64::from(u32::from(c))))?;
        match (kind(&other), integer(&other)) {
            (Kind::Undefined, _) => translated.push(c),
            (Kind::None, _) => {}
            (Kind::Text, _) => text::append(state, &mut translated, &other)?,
            (_, Some(number)) => {
                let other = u32::try_from(number).ok().and_then(char::from_u32);
                translated.push(other.ok_or_else(|| refuse("character mapping must be in range(0x110000)"))?);
            }
            _ => return Err(refuse("character mapping must return integer, None or str")),
        }
    }
    Ok(translated)
}

fn wrong<T>(method: &str) -> Result<T, Error> {
    Err(refuse(format!("{method}() lacks an argument")))
}

fn text_of<'v>(method: &str, value: Option<&'v Value>) -> Result<&'v str, Error> {
    let Some(value) = value else { return wrong(method) };
    // The engine takes bytes for a text.
    value.as_str().filter(|_| kind(value) == Kind::Text).ok_or_else(|| match kind(value) {
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
