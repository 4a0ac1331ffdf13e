//! One setting's value: what shape it must have, and how text or TOML becomes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use samovar_core::chat::BUILT_IN_TEMPLATES;
use samovar_core::units::{ByteSize, KeepAlive, TimeSpan};
use samovar_core::{Adapter, ParseAdapterError};
use serde_json::json;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Any text.
    Text,
    /// A path; relative ones count from the place that names them.
    Path,
    /// A path; an empty one = none.
    PathOrNone,
    /// A number of bytes.
    Size,
    /// A number of bytes, or a share of the memory that this process may use.
    Memory,
    /// A length of time.
    Span,
    /// How long a model stays ready.
    KeepAlive,
    /// A whole number from `min` to `max`.
    Count { min: u32, max: u32 },
    /// A number above 0 and at most 1.
    Ratio,
    /// A number from `min` to `max`.
    Number { min: f64, max: f64 },
    /// True or false.
    Flag,
    /// Several names.
    Names,
    /// Several texts, of which every character counts.
    Texts,
    /// Several paths.
    Paths,
    /// Several adapters with their scales.
    Adapters,
    /// The path of a chat template, or the name of a built-in one.
    Template,
    /// A web address without query or password.
    Url,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// IP address and port.
    Address,
}

/// A value as a source gives it, before its shape is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Raw>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// A value of the right shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Path(PathBuf),
    Size(ByteSize),
    /// In percent, from 1 to 100.
    Share(u32),
    Span(TimeSpan),
    KeepAlive(KeepAlive),
    Count(u32),
    Ratio(f64),
    Number(f64),
    Flag(bool),
    Names(Vec<String>),
    Texts(Vec<String>),
    Paths(Vec<PathBuf>),
    Adapters(Vec<Adapter>),
    Address(SocketAddr),
}

impl Shape {
    /// What to write, for messages and the reference.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::PathOrNone => "a path, or \"\" for none".to_owned(),
            Self::Size => "a size, such as 4GB, 512MiB or 1000000".to_owned(),
            Self::Memory => {
                "a size, such as 4GB or 512MiB, or a share of the available memory, such as 50%".to_owned()
            }
            Self::Span => "a length of time, such as 30s, 5m or 1h30m".to_owned(),
            Self::KeepAlive => "a length of time, -1 (until memory is needed) or 0 (at once)".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Ratio => "a number above 0 and at most 1".to_owned(),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Names => "a list of names".to_owned(),
            Self::Texts => "a list of texts, such as [\"###\"]".to_owned(),
            Self::Paths => "a list of paths".to_owned(),
            Self::Adapters => {
                "a list of paths, each with an optional scale, such as \"./poet.gguf:0.5\"".to_owned()
            }
            Self::Template => {
                format!("a path, such as \"./chat.jinja\", or {}", BUILT_IN_TEMPLATES.join(" or "))
            }
            Self::Url => "an address, such as https://hub.example.org".to_owned(),
            Self::OneOf(words) => words.join(" or "),
            Self::Address => {
                "an address with a port, such as 127.0.0.1:7266 for this machine or 0.0.0.0:7266 for all networks".to_owned()
            }
        }
    }

    /// Reads a value. Relative paths count from `base`.
    ///
    /// # Errors
    /// A sentence about what is wrong, without the key's name.
    pub(crate) fn read(self, raw: &Raw, base: &Path) -> Result<Value, String> {
        self.try_read(raw, base)
            .map_err(|reason| reason.unwrap_or_else(|| format!("{raw} is not {}", self.expected())))
    }

    fn try_read(self, raw: &Raw, base: &Path) -> Result<Value, Option<String>> {
        match (self, raw) {
            (Self::Text, Raw::Text(text)) if !text.is_empty() => Ok(Value::Text(text.clone())),
            (Self::Path, Raw::Text(text)) if text.starts_with('~') => {
                Err(Some(format!("{text:?} begins with ~, which only a shell expands; write the whole path")))
            }
            (Self::Path, Raw::Text(text)) if !text.is_empty() => Ok(Value::Path(base.join(text))),
            (Self::PathOrNone, Raw::Text(text)) if text.is_empty() => Ok(Value::Path(PathBuf::new())),
            (Self::PathOrNone, raw) => Self::Path.try_read(raw, base),
            (Self::Size, Raw::Integer(bytes)) => {
                u64::try_from(*bytes).map(|bytes| Value::Size(ByteSize::from_bytes(bytes))).map_err(|_| None)
            }
            (Self::Memory, Raw::Text(text)) if text.trim_end().ends_with('%') => {
                let percent: Option<u32> = text.trim().trim_end_matches('%').trim_end().parse().ok();
                percent.filter(|percent| (1..=100).contains(percent)).map(Value::Share).ok_or_else(|| {
                    Some(format!("{text:?} is not a share of memory: write a whole number from 1% to 100%"))
                })
            }
            (Self::Memory, raw) => Self::Size.try_read(raw, base),
            (Self::Size, Raw::Text(text)) => text
                .parse()
                .map(Value::Size)
                .map_err(|error: samovar_core::units::ParseUnitError| Some(error.to_string())),
            (Self::Span, Raw::Integer(_) | Raw::Float(_) | Raw::Text(_)) => raw
                .unquoted()
                .parse()
                .map(Value::Span)
                .map_err(|error: samovar_core::units::ParseUnitError| Some(error.to_string())),
            (Self::KeepAlive, Raw::Integer(_) | Raw::Float(_) | Raw::Text(_)) => raw
                .unquoted()
                .parse()
                .map(Value::KeepAlive)
                .map_err(|error: samovar_core::units::ParseUnitError| Some(error.to_string())),
            (Self::Count { min, max }, Raw::Integer(number)) => {
                u32::try_from(*number).ok().filter(|n| (min..=max).contains(n)).map(Value::Count).ok_or(None)
            }
            (Self::Ratio, Raw::Float(number)) if *number > 0.0 && *number <= 1.0 => Ok(Value::Ratio(*number)),
            (Self::Ratio, Raw::Integer(1)) => Ok(Value::Ratio(1.0)),
            (Self::Number { min, max }, Raw::Float(number)) => {
                if (min..=max).contains(number) {
                    Ok(Value::Number(*number))
                } else {
                    Err(None)
                }
            }
            (Self::Number { .. }, Raw::Integer(number)) => {
                self.try_read(&Raw::Float(*number as f64), base).map_err(|_| None)
            }
            (Self::Flag, Raw::Flag(flag)) => Ok(Value::Flag(*flag)),
            (Self::Names, Raw::List(items)) => items
                .iter()
                .map(|item| match item {
                    Raw::Text(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
                    _ => Err(None),
                })
                .collect::<Result<_, _>>()
                .map(Value::Names),
            (Self::Texts, Raw::List(items)) => items
                .iter()
                .map(|item| match item {
                    Raw::Text(text) if !text.is_empty() => Ok(text.clone()),
                    _ => Err(None),
                })
                .collect::<Result<_, _>>()
                .map(Value::Texts),
            (Self::Paths, Raw::List(items)) => items
                .iter()
                .map(|item| match Self::Path.try_read(item, base) {
                    Ok(Value::Path(path)) => Ok(path),
                    Ok(_) => Err(None),
                    Err(reason) => Err(reason),
                })
                .collect::<Result<_, _>>()
                .map(Value::Paths),
            (Self::Adapters, Raw::List(items)) => items
                .iter()
                .map(|item| {
                    let Raw::Text(text) = item else { return Err(None) };
                    let adapter: Adapter =
                        text.parse().map_err(|error: ParseAdapterError| Some(error.to_string()))?;
                    let path = adapter.path.to_string_lossy().into_owned();
                    if path.contains("://") {
                        return Ok(adapter);
                    }
                    let path = Raw::Text(path);
                    match Self::Path.try_read(&path, base)? {
                        Value::Path(path) => Ok(Adapter { path, ..adapter }),
                        _ => Err(None),
                    }
                })
                .collect::<Result<_, _>>()
                .map(Value::Adapters),
            (Self::Template, Raw::Text(text)) if BUILT_IN_TEMPLATES.contains(&text.as_str()) => {
                Ok(Value::Text(text.clone()))
            }
            (Self::Template, Raw::Text(text)) if text.contains(['/', '.']) => Self::Path.try_read(raw, base),
            (Self::Url, Raw::Text(text)) if is_plain_url(text) => {
                Ok(Value::Text(text.trim_end_matches('/').to_owned()))
            }
            (Self::OneOf(words), Raw::Text(text)) if words.contains(&text.as_str()) => {
                Ok(Value::Text(text.clone()))
            }
            (Self::Address, Raw::Text(text)) => address(text).map(Value::Address).ok_or(None),
            (Self::Address, Raw::Integer(port)) => {
                u16::try_from(*port).map(|port| Value::Address(on_this_machine(port))).map_err(|_| None)
            }
            _ => Err(None),
        }
    }

    /// What an environment variable or a flag says, in the terms of this shape.
    pub(crate) fn raw_of_text(self, text: &str) -> Raw {
        let text = text.trim();
        match self {
            Self::Count { .. } => text.parse().map_or_else(|_| Raw::Text(text.to_owned()), Raw::Integer),
            Self::Ratio | Self::Number { .. } => {
                text.parse().map_or_else(|_| Raw::Text(text.to_owned()), Raw::Float)
            }
            Self::Flag => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Raw::Flag(true),
                "0" | "false" | "no" | "off" => Raw::Flag(false),
                _ => Raw::Text(text.to_owned()),
            },
            Self::Names | Self::Texts | Self::Paths | Self::Adapters => Raw::List(
                text.split(',')
                    .filter(|name| !name.trim().is_empty())
                    .map(|name| Raw::Text(name.trim().to_owned()))
                    .collect(),
            ),
            _ => Raw::Text(text.to_owned()),
        }
    }
}

/// An address that a path can be added to. Secrets have no place in it: it is shown.
fn is_plain_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@\\".contains(c))
    })
}

impl Raw {
    fn unquoted(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

impl Value {
    /// For `config --json`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Path(path) if path.as_os_str().is_empty() => serde_json::Value::Null,
            Self::Path(path) => json!(path),
            Self::Size(size) => json!(size),
            Self::Share(_) => json!(self.to_string()),
            Self::Span(span) => json!(span.to_string()),
            Self::KeepAlive(keep_alive) => json!(keep_alive),
            Self::Count(count) => json!(count),
            Self::Ratio(ratio) => json!(ratio),
            Self::Number(number) => json!(number),
            Self::Flag(flag) => json!(flag),
            Self::Names(names) => json!(names),
            Self::Texts(texts) => json!(texts),
            Self::Paths(paths) => json!(paths),
            Self::Adapters(adapters) => json!(words(adapters)),
            Self::Address(address) => json!(address),
        }
    }
}

/// The port where none is set.
pub(crate) const DEFAULT_PORT: u16 = 7266;

/// A port of this machine alone.
pub(crate) fn on_this_machine(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// An address as people write it: a part that is missing is this machine's, and port 7266. Nothing but an address of all
/// networks stands for those.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("http://").map_or(text, |rest| rest.trim_end_matches('/'));
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(SocketAddr::new(ip, DEFAULT_PORT));
    }
    if text.eq_ignore_ascii_case("localhost") {
        return Some(on_this_machine(DEFAULT_PORT));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let is_here = host.is_empty() || host.eq_ignore_ascii_case("localhost");
    port.parse().ok().filter(|_| is_here).map(on_this_machine)
}

fn words(adapters: &[Adapter]) -> Vec<String> {
    adapters.iter().map(ToString::to_string).collect()
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Path(path) if path.as_os_str().is_empty() => f.write_str("(none)"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Size(size) => write!(f, "{size}"),
            Self::Share(percent) => write!(f, "{percent}%"),
            Self::Span(span) => write!(f, "{span}"),
            Self::KeepAlive(KeepAlive::UntilEvicted) => f.write_str("-1 (until memory is needed)"),
            Self::KeepAlive(keep_alive) => write!(f, "{keep_alive}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Ratio(ratio) => write!(f, "{ratio}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Names(names) if names.is_empty() => f.write_str("(none)"),
            Self::Names(names) => f.write_str(&names.join(", ")),
            Self::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
                f.write_str(&texts.join(", "))
            }
            Self::Paths(paths) if paths.is_empty() => f.write_str("(none)"),
            Self::Paths(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(", "))
            }
            Self::Adapters(adapters) => f.write_str(&words(adapters).join(", ")),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_paths_beside_the_configuration_or_places_to_fetch_from() {
        let list = ["poet:0.5", "hf://org/poet", "hf://org/poet:2"].map(|text| Raw::Text(text.to_owned()));
        let read = Shape::Adapters.read(&Raw::List(Vec::from(list)), Path::new("/etc"));
        let Ok(Value::Adapters(adapters)) = read else { panic!("{read:?}") };
        let shown: Vec<String> = adapters.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/etc/poet:0.5", "hf://org/poet:1", "hf://org/poet:2"]);
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let read = |text: &str| match read(Shape::Address, text) {
            Ok(Value::Address(address)) => address.to_string(),
            other => format!("{other:?}"),
        };
        for text in
            ["127.0.0.1:7266", "localhost:7266", "LocalHost", ":7266", "7266", "http://localhost:7266/"]
        {
            assert_eq!(read(text), "127.0.0.1:7266", "{text}");
        }
        assert_eq!(read("0.0.0.0"), "0.0.0.0:7266");
        assert_eq!(read("[::1]:80"), "[::1]:80");
        assert_eq!(read("::1"), "[::1]:7266");
        assert_eq!(read(":0"), "127.0.0.1:0");
        for text in ["*:7266", "host.example:7266", "localhost:port", "70000", ""] {
            assert!(read(text).contains("is not an address"), "{text}");
        }
    }

    fn read(shape: Shape, text: &str) -> Result<Value, String> {
        shape.read(&shape.raw_of_text(text), Path::new("/base"))
    }

    #[test]
    fn text_of_the_environment_becomes_each_shape() {
        assert_eq!(read(Shape::Size, "4GB"), Ok(Value::Size(ByteSize::from_bytes(4_000_000_000))));
        assert_eq!(read(Shape::Memory, "50 %"), Ok(Value::Share(50)));
        assert_eq!(read(Shape::Memory, "4GB"), Ok(Value::Size(ByteSize::from_bytes(4_000_000_000))));
        for text in ["0%", "101%", "%", "half%"] {
            assert!(read(Shape::Memory, text).expect_err(text).contains("from 1% to 100%"), "{text}");
        }
        assert_eq!(read(Shape::Span, "1h30m"), Ok(Value::Span(TimeSpan::from_seconds(5400))));
        assert_eq!(read(Shape::KeepAlive, "-1"), Ok(Value::KeepAlive(KeepAlive::UntilEvicted)));
        assert_eq!(read(Shape::Count { min: 1, max: 9 }, "9"), Ok(Value::Count(9)));
        assert_eq!(read(Shape::Ratio, "0.5"), Ok(Value::Ratio(0.5)));
        let number = Shape::Number { min: 0.0, max: 2.0 };
        assert_eq!(read(number, "2"), Ok(Value::Number(2.0)));
        assert_eq!(number.read(&Raw::Integer(1), Path::new("/")), Ok(Value::Number(1.0)));
        assert_eq!(
            number.read(&Raw::Integer(3), Path::new("/")),
            Err("3 is not a number from 0 to 2".into())
        );
        let texts = Raw::List(vec![Raw::Text("\n\n".into())]);
        assert_eq!(Shape::Texts.read(&texts, Path::new("/")), Ok(Value::Texts(vec!["\n\n".into()])));
        assert_eq!(read(Shape::Flag, "yes"), Ok(Value::Flag(true)));
        assert_eq!(read(Shape::Names, "a, b,"), Ok(Value::Names(vec!["a".into(), "b".into()])));
        assert_eq!(read(Shape::Path, "x/y"), Ok(Value::Path("/base/x/y".into())));
        assert_eq!(read(Shape::PathOrNone, "x/y"), Ok(Value::Path("/base/x/y".into())));
        assert_eq!(read(Shape::PathOrNone, "").expect("none").to_string(), "(none)");
        assert!(matches!(read(Shape::Address, "[::1]:80"), Ok(Value::Address(_))));
        assert_eq!(read(Shape::Paths, "a, /b"), Ok(Value::Paths(vec!["/base/a".into(), "/b".into()])));
        assert_eq!(read(Shape::Url, "https://h.example/x/"), Ok(Value::Text("https://h.example/x".into())));
        assert_eq!(read(Shape::Flag, "TRUE"), Ok(Value::Flag(true)));
        assert_eq!(read(Shape::Template, "gemma"), Ok(Value::Text("gemma".into())));
        assert_eq!(read(Shape::Template, "chat.jinja"), Ok(Value::Path("/base/chat.jinja".into())));
        assert!(read(Shape::Template, "gema").expect_err("neither").contains("chatml or gemma"));
    }

    #[test]
    fn an_address_with_a_secret_or_without_a_host_is_refused() {
        for text in [
            "h.example",
            "ftp://h.example",
            "https://",
            "https:///x",
            "https://u:p@h.example",
            "https://h.example?x=1",
        ] {
            assert!(read(Shape::Url, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_shown_with_what_was_expected() {
        let reason = read(Shape::Count { min: 1, max: 9 }, "10").expect_err("out of range");
        assert_eq!(reason, "10 is not a whole number from 1 to 9");
        assert_eq!(read(Shape::OneOf(&["a", "b"]), "c"), Err("\"c\" is not a or b".to_owned()));
        assert!(read(Shape::Path, "~/x").expect_err("tilde").contains("shell"));
        assert!(read(Shape::Ratio, "85").is_err());
        assert!(read(Shape::Address, "nowhere.example:7266").is_err());
        assert!(
            Shape::Text.read(&Raw::Other("a table"), Path::new("/")).expect_err("table").contains("a table")
        );
    }
}
