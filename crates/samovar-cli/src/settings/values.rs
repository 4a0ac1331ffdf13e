//! Values by the paths of their settings, each with where it came from, and how one is read as the type that its shape promises.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use samovar_core::units::TimeSpan;

use super::Provenance;
use super::value::Value;

/// Each value that is set, or that has a default, by the path of its setting.
pub(super) type Values = BTreeMap<String, (Value, Provenance)>;

pub(super) fn value<'a>(values: &'a Values, key: &str) -> Option<&'a Value> {
    values.get(key).map(|(value, _)| value)
}

pub(super) fn text(values: &Values, key: &str) -> Option<String> {
    match value(values, key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn path(values: &Values, key: &str) -> Option<PathBuf> {
    match value(values, key) {
        Some(Value::Path(path)) if !path.as_os_str().is_empty() => Some(path.clone()),
        _ => None,
    }
}

pub(super) fn address(values: &Values, key: &str) -> Option<SocketAddr> {
    match value(values, key) {
        Some(Value::Address(address)) => Some(*address),
        _ => None,
    }
}

pub(super) fn count(values: &Values, key: &str) -> Option<u32> {
    match value(values, key) {
        Some(Value::Count(count)) => Some(*count),
        _ => None,
    }
}

pub(super) fn size(values: &Values, key: &str) -> Option<u64> {
    match value(values, key) {
        Some(Value::Size(size)) => Some(size.bytes()),
        _ => None,
    }
}

pub(super) fn flag(values: &Values, key: &str) -> bool {
    matches!(value(values, key), Some(Value::Flag(true)))
}

pub(super) fn names(values: &Values, key: &str) -> Vec<String> {
    match value(values, key) {
        Some(Value::Names(names)) => names.clone(),
        _ => Vec::new(),
    }
}

pub(super) fn span_ms(values: &Values, key: &str) -> Option<u64> {
    match value(values, key) {
        Some(Value::Span(span)) => Some(TimeSpan::as_ms(*span)),
        _ => None,
    }
}

pub(super) fn span(values: &Values, key: &str) -> Option<Duration> {
    span_ms(values, key).map(Duration::from_millis)
}
