//! JSON as text, before a parser reads it: how deep it is nested. Never parses it.

/// Where this JSON first has more than `levels` brackets open at once. Brackets in strings do not count.
pub fn place_beyond(json: &[u8], levels: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut is_string = false;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match (is_string, byte) {
            (true, b'\\') => at += 1,
            (_, b'"') => is_string = !is_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > levels {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_outside_of_strings_only() {
        assert_eq!(place_beyond(br#"{"a":"[[[[\"[[[["}"#, 1), None);
        assert_eq!(place_beyond(br#"{"a\\":[1]}"#, 1), Some(7));
        assert_eq!(place_beyond(b"[[[]]][[[]]]", 3), None);
        assert_eq!(place_beyond(b"[[[[]]]]", 3), Some(3));
        assert_eq!(place_beyond(b"]]][", 0), Some(3));
        assert_eq!(place_beyond(b"\"\\", 0), None);
    }
}
