//! Percent-encoding of paths in URLs (RFC 3986, section 2.1).

use std::fmt::Write as _;

/// The text behind `%41`-like escapes; `None` for escapes that are none or do not make UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? << 4 | digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// `path` with everything escaped that a URL cannot hold as it is; `/` stays.
pub(super) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if is_plain(char::from(byte)) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("invariant: writing to a string does not fail");
        }
    }
    text
}

/// Whether a path in a URL can hold it as it is.
pub(super) fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "/._-+=,()[]~!&'@:;$*".contains(character)
}
