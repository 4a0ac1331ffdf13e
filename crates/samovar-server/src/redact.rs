//! Takes the owner's paths out of what strangers read.

/// Routes of this server, which look like paths and may be named.
const ROUTES: [&str; 7] = ["/v1", "/api", "/admin", "/chat", "/healthz", "/readyz", "/metrics"];

/// The text with each absolute path cut to its last part.
pub(crate) fn redact(text: &str) -> String {
    if !text.contains('/') {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = find_path(rest, clean.chars().next_back()) {
        clean.push_str(&rest[..start]);
        let length = path_length(&rest[start..]);
        let path = &rest[start..start + length];
        clean.push('…');
        if let Some((_, last)) = path.rsplit_once('/') {
            clean.push('/');
            clean.push_str(last);
        }
        rest = &rest[start + length..];
    }
    clean.push_str(rest);
    clean
}

/// Where the next path begins: a slash that follows no word and begins no route.
fn find_path(text: &str, before: Option<char>) -> Option<usize> {
    let mut previous = before;
    for (at, character) in text.char_indices() {
        let begins_word =
            previous.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '/' | '.' | '…' | '-' | '_'));
        if character == '/' && begins_word && !is_route(&text[at..]) && has_name(&text[at + 1..]) {
            return Some(at);
        }
        previous = Some(character);
    }
    None
}

fn has_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~'))
}

fn is_route(text: &str) -> bool {
    ROUTES.iter().any(|route| {
        text.strip_prefix(route).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    })
}

/// Up to white space or a closing mark; and on over white space as long as words with a slash in
/// them follow, because directories may have blanks in their names.
fn path_length(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | ',' | ';' | ')' | ']' | '>');
    let mut length = text.find(ends).unwrap_or(text.len());
    while let Some(after) = text[length..].strip_prefix(' ') {
        let word = &after[..after.find(ends).unwrap_or(after.len())];
        if word.starts_with('/') || !word.contains('/') {
            break;
        }
        length += 1 + word.len();
    }
    length - (text[..length].len() - text[..length].trim_end_matches([':', '.']).len())
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn cuts_paths_to_their_last_part() {
        for (text, clean) in [
            ("there is no file /home/ann/models/x.gguf", "there is no file …/x.gguf"),
            ("cannot open `/srv/a b/c.gguf`: damaged", "cannot open `…/c.gguf`: damaged"),
            ("/a/b.gguf: ends early.", "…/b.gguf: ends early."),
            ("path=/a/b, then (/c/d)", "path=…/b, then (…/d)"),
            ("both /a/b.gguf and /c/d.gguf", "both …/b.gguf and …/d.gguf"),
        ] {
            assert_eq!(redact(text), clean);
        }
    }

    #[test]
    fn leaves_routes_rates_and_relative_names_alone() {
        for text in [
            "send plain text to /v1/completions",
            "`samovar history` and GET /chat/conversations list them",
            "org/name:Q4_K_M is not here",
            "such as ./model.gguf",
            "3 tokens/s, 1 / 2",
            "hf://org/name",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_redacted_once_and_for_all(text in "[a-z/. :`'…é-]{0,40}") {
            let clean = redact(&text);
            proptest::prop_assert_eq!(redact(&clean), clean);
        }
    }
}
