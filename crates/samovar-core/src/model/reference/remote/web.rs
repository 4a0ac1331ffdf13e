//! Places on web servers: `https://host/path/model.gguf`, `http://` too.

use std::net::Ipv6Addr;

use super::super::part::{self, Part};
use super::super::{ParseReferenceError, percent};
use super::{before, refused};

/// Bytes of a host's name, by RFC 1035.
const MAX_HOST_BYTES: usize = 253;
/// Punctuation that a path or query in a URL may hold, by RFC 3986.
const IN_URL: &str = "/?%-._~!$&'()*+,;=:@[]";

/// `host[:port]/path[?query]`, the host in lower case.
pub(super) fn parse(text: &str) -> Result<String, ParseReferenceError> {
    let Some((authority, rest)) = text.split_once('/') else {
        return Err(refused("a URL", text, "a path to a file must follow the host"));
    };
    check_authority(authority)?;
    let stray = rest.chars().any(|c| !c.is_ascii_alphanumeric() && !IN_URL.contains(c));
    part::refuse_if("a URL", text, stray.then_some("it holds a character that must be escaped"))?;
    for component in before(rest, '?').split('/') {
        let Some(component) = percent::decoded(component) else {
            return Err(refused("a URL", text, "an escape in it is none"));
        };
        part::refuse_if("the path of a URL", text, part::unescaped_fault(&component))?;
    }
    Ok(format!("{}/{rest}", authority.to_ascii_lowercase()))
}

fn check_authority(authority: &str) -> Result<(), ParseReferenceError> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port
        .is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return Err(refused("a host and port", authority, "a port is a number up to 65535"));
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err(refused("a host", host, "brackets hold an IPv6 address")),
        None => Part { what: "a host", text: host, max_bytes: MAX_HOST_BYTES, also: "._-" }.check(),
    }
}
