//! Presets of llama-server's router: sections of `key = value` lines, with `;` and `#` before comments.

/// Sections of one file, and keys of one section.
const SECTIONS_MAX: usize = 1_000;
const KEYS_MAX: usize = 500;

/// A section with its keys, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Empty for the lines before the first section.
    pub(crate) name: String,
    /// Each key with its value.
    pub(crate) values: Vec<(String, String)>,
}

/// Reads a file.
///
/// # Errors
/// A clause about the text, with the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, String> {
    let mut sections = vec![Section { name: String::new(), values: Vec::new() }];
    for (at, line) in text.lines().enumerate() {
        let wrong = |reason: &str| format!("cannot be read: line {}: {reason}", at + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().filter(|_| rest.contains(']'));
            let name = name.ok_or_else(|| wrong("a section begins and does not end"))?.trim().to_owned();
            if sections.len() > SECTIONS_MAX {
                return Err(wrong(&format!("there are more than {SECTIONS_MAX} sections")));
            }
            sections.push(Section { name, values: Vec::new() });
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| wrong("it is neither a section nor a value"))?;
        let section = sections.last_mut().ok_or("has no section")?;
        if section.values.len() == KEYS_MAX {
            return Err(wrong(&format!("the section has more than {KEYS_MAX} keys")));
        }
        section.values.push((key.trim().to_owned(), without_comment(value).to_owned()));
    }
    Ok(sections)
}

/// The value without a comment after it: llama-server ends a value there as well.
fn without_comment(value: &str) -> &str {
    value.find([';', '#']).map_or(value, |at| &value[..at]).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_their_values_in_order() {
        let text = "version = 1\n\n; all\n[*]\nc = 8192 ; a comment\n# more\n[ org/name:Q8_0 ]\nmodel=/m/x.gguf\njinja = true\n";
        let sections = parse(text).expect("valid");
        let shown: Vec<String> = sections
            .iter()
            .map(|section| {
                let values: Vec<String> =
                    section.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{}: {}", section.name, values.join(", "))
            })
            .collect();
        assert_eq!(shown, [": version=1", "*: c=8192", "org/name:Q8_0: model=/m/x.gguf, jinja=true"]);
    }

    #[test]
    fn what_is_no_preset_is_refused_with_its_line() {
        assert_eq!(
            parse("[a\n").expect_err("open"),
            "cannot be read: line 1: a section begins and does not end"
        );
        assert_eq!(
            parse("[a]\nx\n").expect_err("no value"),
            "cannot be read: line 2: it is neither a section nor a value"
        );
        assert!(parse(&"[a]\n".repeat(1_002)).expect_err("many").contains("more than 1000 sections"));
        assert!(parse(&"a = 1\n".repeat(501)).expect_err("many").contains("more than 500 keys"));
    }
}
