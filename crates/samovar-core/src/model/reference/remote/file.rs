//! Files and folders of this machine: `file:///models/x.gguf`.

use super::super::{ParseReferenceError, part, percent};
use super::refused;

/// The absolute path behind the escapes, without a `/` at the end.
pub(super) fn parse(text: &str) -> Result<String, ParseReferenceError> {
    let what = "a file URL";
    if !text.starts_with('/') {
        return Err(refused(what, text, "an absolute path follows file://, so that there are three slashes"));
    }
    // So that it is never longer when it is shown.
    if !text.chars().all(|c| c == '%' || percent::is_plain(c)) {
        return Err(refused(what, text, "it holds a character that must be escaped, such as ? as %3F"));
    }
    let Some(path) = percent::decoded(text) else {
        return Err(refused(what, text, "an escape in it is none (a % in a path is written %25)"));
    };
    let path = path.strip_suffix('/').unwrap_or(&path);
    let Some(relative) = path.strip_prefix('/').filter(|relative| !relative.is_empty()) else {
        return Err(refused(what, text, "the whole file system is no model"));
    };
    part::refuse_if(what, text, part::is_drive(relative).then_some("it begins with a drive"))?;
    for component in relative.split('/') {
        let fault = match component {
            "." | ".." => Some("it may not hold . or .. as a component"),
            // Caches lie in hidden folders, and here the path is the user's own.
            _ => part::unescaped_fault(component.strip_prefix('.').unwrap_or(component)),
        };
        part::refuse_if(what, text, fault)?;
    }
    Ok(path.to_owned())
}
