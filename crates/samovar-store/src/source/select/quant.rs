//! Quantizations as they stand in file names.

use super::MIXTURE;

/// Tokens of several letters that may follow a quantization's first part.
const LONG_SUFFIXES: [&str; 1] = ["MOE"];
/// Other spellings of the same.
const SAME: [(&str, &str); 3] = [("FP16", "F16"), ("FP32", "F32"), ("FP64", "F64")];

/// The usual spelling of a quantization, whatever its case.
pub(crate) fn normal(text: &str) -> String {
    let upper = text.trim().to_ascii_uppercase();
    SAME.iter().find(|(other, _)| *other == upper).map_or(upper.clone(), |(_, usual)| (*usual).to_owned())
}

/// The quantization that a name without its extension ends in or holds, in its usual spelling. Of several
/// the last counts, since it stands for what was done last: `model-f16-Q4_K_M`.
pub(crate) fn of_stem(stem: &str) -> Option<String> {
    let upper = stem.to_ascii_uppercase();
    let (at, length) = last_token(&upper)?;
    let token = &upper[at..at + length];
    // Unsloth's own mixtures have the names of the usual ones with this before them.
    let is_dynamic = without_mixture(&upper[..at]).is_some();
    Some(if is_dynamic { format!("{MIXTURE}{token}") } else { normal(token) })
}

/// The same name without its quantization, in lower case: what the files of one model in several quantizations have in common.
pub(crate) fn rest_of_stem(stem: &str) -> String {
    let upper = stem.to_ascii_uppercase();
    let Some((at, length)) = last_token(&upper) else { return stem.to_ascii_lowercase() };
    let before = without_mixture(&upper[..at]).unwrap_or(&upper[..at]);
    let before = before.trim_end_matches(['-', '.', '_', ' ', '/']);
    format!("{before}{}", &upper[at + length..]).to_ascii_lowercase()
}

/// Where the last quantization in a text in upper case begins, and its bytes.
fn last_token(upper: &str) -> Option<(usize, usize)> {
    let starts =
        std::iter::once(0).chain(upper.match_indices(['-', '.', '_', ' ', '/']).map(|(at, _)| at + 1));
    let found: Vec<_> = starts.filter_map(|at| token(&upper[at..]).map(|length| (at, length))).collect();
    found.last().copied()
}

/// What stands before the mark of a mixture, if a text in upper case ends in one.
fn without_mixture(before: &str) -> Option<&str> {
    let rest = before.strip_suffix(['-', '_'])?.strip_suffix("UD")?;
    (rest.is_empty() || rest.ends_with(['-', '.', '_', '/'])).then_some(rest)
}

/// Bytes of the quantization that a text in upper case begins with, up to a boundary.
fn token(text: &str) -> Option<usize> {
    let end_of_word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let first = end_of_word(text);
    if !is_first_part(&text[..first]) {
        return None;
    }
    let takes_more = !is_float(&text[..first]);
    let mut end = first;
    while takes_more && text[end..].starts_with('_') {
        let word = end_of_word(&text[end + 1..]);
        let next = &text[end + 1..end + 1 + word];
        if next.is_empty() || (next.len() > 3 && !LONG_SUFFIXES.contains(&next)) {
            break;
        }
        end += 1 + word;
    }
    Some(end)
}

fn is_float(word: &str) -> bool {
    matches!(word, "F16" | "F32" | "F64" | "BF16" | "FP16" | "FP32" | "FP64")
}

/// `Q4`, `IQ3`, `TQ1`, `MXFP4`, `F16` …
fn is_first_part(word: &str) -> bool {
    let is_number =
        |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_float(word)
        || ["IQ", "TQ", "Q", "MXFP", "NVFP"].iter().any(|kind| word.strip_prefix(kind).is_some_and(is_number))
}
