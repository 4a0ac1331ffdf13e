//! `"…" % values` and `"…".format(…)`: the fields are found here and bounded, each is written by minijinja's own
//! formatting, which follows Python's mini-language.

use minijinja::formatting::{self, FormatStyle};
use minijinja::{Error, State, Value};

use super::lookup;
use super::text::{self, in_safe, like};
use super::{Kind, integer, kind, number};
use crate::template::budget::{bound, charge, refuse};
use crate::template::filters::Arguments;

/// The widest field.
const WIDTH_LIMIT: usize = 10_000;

/// `format % values`
///
/// # Errors
/// What Python refuses, or a text that becomes too long.
pub(crate) fn percent(state: &mut State, format: &Value, values: &Value) -> Result<Value, Error> {
    let given: Vec<Value> = match kind(values) {
        Kind::Tuple => values.try_iter()?.collect(),
        _ => vec![values.clone()],
    };
    let too_few = || refuse("not enough arguments for format string");
    let mut given = given.into_iter();
    let mut out = String::new();
    let mut is_named = false;
    let mut rest = format.as_str().unwrap_or_default();
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let (name, behind) = match behind.strip_prefix('(') {
            Some(named) => {
                let (name, behind) = named.split_once(')').ok_or_else(|| refuse("incomplete format key"))?;
                (Some(name), behind)
            }
            None => (None, behind),
        };
        let end = behind
            .find(|c: char| !matches!(c, '#' | '0'..='9' | '-' | ' ' | '+' | '*' | '.' | 'h' | 'l' | 'L'));
        let end = end.ok_or_else(|| refuse("incomplete format"))?;
        let letter = behind[end..].chars().next().unwrap_or_default();
        rest = &behind[end + letter.len_utf8()..];
        if letter == '%' {
            out.push('%');
            continue;
        }
        let mut spec = String::new();
        for c in behind[..end].chars().filter(|c| !matches!(c, 'h' | 'l' | 'L')) {
            if c == '*' {
                let width = given.next().as_ref().and_then(integer).ok_or_else(|| refuse("* wants int"))?;
                spec.push_str(&width.to_string());
            } else {
                spec.push(c);
            }
        }
        let value = match name {
            Some(name) => {
                is_named = true;
                if kind(values) != Kind::Dict {
                    return Err(refuse("format requires a mapping"));
                }
                let value = values.get_item(&Value::from(name))?;
                if value.is_undefined() {
                    return Err(refuse(format!("no key '{name}' for the format")));
                }
                value
            }
            None => given.next().ok_or_else(too_few)?,
        };
        let value = match letter {
            's' | 'r' | 'a' => {
                let words =
                    if letter == 's' { text::string(state, &value)? } else { text::repr(state, &value)? };
                match (format.is_safe(), value.is_safe() && letter == 's') {
                    (true, false) => Value::from(text::escape(&words)),
                    _ => Value::from(words),
                }
            }
            'd' | 'i' | 'u' => whole(&value)?,
            'c' => value,
            _ if number(&value).is_some() => value,
            _ => return Err(refuse(format!("must be real number, not {}", kind(&value).name()))),
        };
        let letter = match letter {
            'r' | 'a' => 's',
            'i' | 'u' => 'd',
            letter => letter,
        };
        write(state, &mut out, FormatStyle::Printf, &format!("%{spec}{letter}"), &spec, value)?;
    }
    out.push_str(rest);
    // What has items counts as a mapping, of which nothing need be used.
    let may_be_unused =
        matches!(kind(values), Kind::Dict | Kind::List | Kind::Undefined | Kind::Range | Kind::Bytes);
    if given.next().is_some() && !is_named && !may_be_unused {
        return Err(refuse("not all arguments converted during string formatting"));
    }
    charge(state, out.len())?;
    Ok(like(format, out))
}

/// What `%d` writes.
fn whole(value: &Value) -> Result<Value, Error> {
    match (kind(value), integer(value)) {
        (_, Some(integer)) => Ok(Value::from(integer)),
        (Kind::Float, _) => {
            let whole = f64::try_from(value.clone())?.trunc();
            // Larger ones, infinity and what is no number have no digits here.
            if whole.abs() < 1e38 {
                Ok(Value::from(whole as i128))
            } else {
                Err(refuse("%d format: too large"))
            }
        }
        (kind, _) => Err(refuse(format!("%d format: a real number is required, not {}", kind.name()))),
    }
}

/// `format.format(arguments)`
///
/// # Errors
/// What Python refuses, or a text that becomes too long.
pub(crate) fn braces(state: &mut State, format: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let mut fields = Fields { arguments, next: 0, has_places: false, is_safe: format.is_safe() };
    let mut out = String::new();
    fields.fill(state, &mut out, format.as_str().unwrap_or_default(), 0)?;
    charge(state, out.len())?;
    Ok(like(format, out))
}

/// The arguments of `str.format` while they are put into its fields.
struct Fields<'a> {
    arguments: &'a Arguments,
    /// The place of the next field without a name.
    next: usize,
    /// A field named its place.
    has_places: bool,
    is_safe: bool,
}

impl Fields<'_> {
    fn fill(&mut self, state: &mut State, out: &mut String, format: &str, depth: usize) -> Result<(), Error> {
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if rest.starts_with(brace) {
                out.push_str(brace);
                rest = &rest[1..];
                continue;
            }
            if brace == "}" {
                return Err(refuse("Single '}' encountered in format string"));
            }
            if depth > 1 {
                return Err(refuse("Max string recursion exceeded"));
            }
            let end = closing(rest).ok_or_else(|| refuse("expected '}' before end of string"))?;
            self.field(state, out, &rest[..end], depth)?;
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(())
    }

    /// `name!conversion:spec`
    fn field(&mut self, state: &mut State, out: &mut String, field: &str, depth: usize) -> Result<(), Error> {
        let name_end = field.find(['!', ':']).unwrap_or(field.len());
        let (name, behind) = field.split_at(name_end);
        let (conversion, spec) = match behind.strip_prefix('!') {
            Some(behind) => {
                let letter = behind.chars().next().unwrap_or_default();
                let behind = &behind[letter.len_utf8().min(behind.len())..];
                if !behind.is_empty() && !behind.starts_with(':') {
                    return Err(refuse("expected ':' after conversion specifier"));
                }
                (Some(letter), behind)
            }
            None => (None, behind),
        };
        let value = self.value(name)?;
        let mut filled = String::new();
        self.fill(state, &mut filled, spec.strip_prefix(':').unwrap_or_default(), depth + 1)?;
        let value = match (conversion, kind(&value)) {
            (None, Kind::Int | Kind::Float | Kind::Text) => value,
            // A bool is an integer to a format that is not empty.
            (None, Kind::Bool) if !filled.is_empty() => Value::from(integer(&value).unwrap_or_default()),
            (None, Kind::Bool) | (Some('s'), _) => Value::from(text::string(state, &value)?),
            (None, Kind::Undefined) => Value::from(""),
            (None, _) if filled.is_empty() => Value::from(text::string(state, &value)?),
            (None, kind) => {
                return Err(refuse(format!(
                    "unsupported format string passed to {}.__format__",
                    kind.name()
                )));
            }
            (Some('r' | 'a'), _) => Value::from(text::repr(state, &value)?),
            (Some(other), _) => return Err(refuse(format!("Unknown conversion specifier '{other}'"))),
        };
        let value = match kind(&value) {
            Kind::Text if self.is_safe => Value::from(in_safe(&value)),
            Kind::Float if filled.is_empty() => Value::from(text::string(state, &value)?),
            _ => value,
        };
        if let Some(digits) = filled.strip_suffix('%') {
            let hundredfold = number(&value).ok_or_else(|| refuse("'%' needs a number"))? * 100.0;
            write(
                state,
                out,
                FormatStyle::StrFormat,
                &format!("{{:{digits}f}}"),
                &filled,
                Value::from(hundredfold),
            )?;
            out.push('%');
            return Ok(());
        }
        write(state, out, FormatStyle::StrFormat, &format!("{{:{filled}}}"), &filled, value)
    }

    /// `0.attribute[key]`
    fn value(&mut self, name: &str) -> Result<Value, Error> {
        let first_end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(first_end);
        let place = match first.parse::<usize>() {
            Ok(place) => {
                self.has_places = true;
                Some(place)
            }
            Err(_) if first.is_empty() => {
                self.next += 1;
                Some(self.next - 1)
            }
            Err(_) => None,
        };
        if self.has_places && self.next > 0 {
            return Err(refuse(
                "cannot switch between manual field specification and automatic field numbering",
            ));
        }
        let mut value = match place {
            Some(place) => self.arguments.positional().get(place).cloned(),
            None => {
                self.arguments.named().iter().find(|(own, _)| own == first).map(|(_, value)| value.clone())
            }
        }
        .ok_or_else(|| refuse(format!("no argument '{first}' for the format")))?;
        while !path.is_empty() {
            if let Some(attribute) = path.strip_prefix('.') {
                let end = attribute.find(['.', '[']).unwrap_or(attribute.len());
                value = lookup::attribute(&value, &attribute[..end])?;
                path = &attribute[end..];
            } else {
                let key = path.strip_prefix('[');
                let key =
                    key.ok_or_else(|| refuse("Only '.' or '[' may follow ']' in format field specifier"))?;
                let (key, behind) =
                    key.split_once(']').ok_or_else(|| refuse("Missing ']' in format string"))?;
                let key = key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from);
                value = lookup::item(&value, &key)?;
                path = behind;
            }
        }
        Ok(value)
    }
}

/// Where the field ends that begins here.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Writes one field.
fn write(
    state: &mut State,
    out: &mut String,
    style: FormatStyle,
    format: &str,
    spec: &str,
    value: Value,
) -> Result<(), Error> {
    let mut number = 0_usize;
    for c in spec.chars() {
        number = c.to_digit(10).map_or(0, |digit| number.saturating_mul(10).saturating_add(digit as usize));
        if number > WIDTH_LIMIT {
            return Err(refuse(format!("a field is wider than {WIDTH_LIMIT}")));
        }
    }
    charge(state, value.as_str().map_or(64, str::len) + number)?;
    out.push_str(&formatting::format(style, format, &[value])?);
    bound(out.len())
}
