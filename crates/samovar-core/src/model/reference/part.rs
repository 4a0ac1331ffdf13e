//! A part of a reference, with the rules that make it safe as a file name and in a URL.

use super::ParseReferenceError;

/// Bytes of one component of a path: what file systems allow.
const MAX_COMPONENT_BYTES: usize = 255;
/// What a component may hold besides ASCII letters and digits.
const IN_COMPONENT: &str = "._-+=,()[]";

/// One part: what it is, its text, and what it may hold.
pub(super) struct Part<'a> {
    pub(super) what: &'static str,
    pub(super) text: &'a str,
    pub(super) max_bytes: usize,
    /// Characters allowed besides ASCII letters and digits.
    pub(super) also: &'static str,
}

impl Part<'_> {
    /// Letters, digits and `also`; no `..` or `//`; a letter or digit at both ends.
    pub(super) fn check(&self) -> Result<(), ParseReferenceError> {
        refuse_if(self.what, self.text, self.fault())
    }

    fn fault(&self) -> Option<&'static str> {
        let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
        if self.text.is_empty() {
            Some("it is empty")
        } else if self.text.len() > self.max_bytes {
            Some("it is too long")
        } else if !self.text.chars().all(|c| is_alphanumeric(c) || self.also.contains(c)) {
            Some("it may hold ASCII letters, digits and a few of . _ - : / only")
        } else if self.text.contains("..") || self.text.contains("//") {
            Some("it may not hold .. or //")
        } else if !self.text.starts_with(is_alphanumeric)
            || !self.text.ends_with(|c| is_alphanumeric(c) || c == '_')
        {
            Some("it begins and ends with a letter or a digit")
        } else {
            None
        }
    }
}

/// Checks a relative path: components of printable ASCII without tricks, separated by single `/`.
pub(super) fn check_path(what: &'static str, path: &str) -> Result<(), ParseReferenceError> {
    path.split('/').try_for_each(|component| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || IN_COMPONENT.contains(c);
        let fault = if component.chars().all(is_allowed) {
            component_fault(component)
        } else {
            Some("it may hold ASCII letters, digits and . _ - + = , ( ) [ ] only")
        };
        refuse_if(what, path, fault)
    })
}

/// What keeps one component of a path from being a plain name, whatever characters it is made of.
pub(super) fn component_fault(component: &str) -> Option<&'static str> {
    if component.is_empty() {
        Some("a component is empty")
    } else if component.len() > MAX_COMPONENT_BYTES {
        Some("a component is too long")
    } else if component.contains("..") || component == "." {
        Some("it may not hold .. or lead to itself")
    } else if component.starts_with(['.', '-']) || component.ends_with('.') {
        Some("a component begins with . or -, or ends with .")
    } else if component.contains(['/', '\\']) || component.chars().any(char::is_control) {
        Some("a component holds a separator or a control character")
    } else {
        None
    }
}

/// As [`component_fault`] for what stood behind escapes and may be any text: other letters than
/// ASCII's may pass, characters that only look like dots and slashes may not.
pub(super) fn unescaped_fault(component: &str) -> Option<&'static str> {
    let is_usual = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation() || c == ' ';
    if component.chars().all(is_usual) {
        component_fault(component)
    } else {
        Some("a component holds unusual characters")
    }
}

/// Whether this is `C:` or the like.
pub(super) fn is_drive(component: &str) -> bool {
    matches!(component.as_bytes(), [letter, b':' | b'|', ..] if letter.is_ascii_alphabetic())
}

pub(super) fn refuse_if(
    what: &'static str,
    text: &str,
    fault: Option<&'static str>,
) -> Result<(), ParseReferenceError> {
    match fault {
        None => Ok(()),
        Some(reason) => Err(ParseReferenceError::Part { what, text: text.to_owned(), reason }),
    }
}
