//! What the words of a chat template tell of its model: whether it knows tools, and thinks. The template is looked at, never run.

/// Variables by which templates write the tools of a request.
const TOOLS: [&str; 1] = ["tools"];
/// Variables and fields by which they switch thoughts, or write them.
const THINKING: [&str; 4] = ["enable_thinking", "thinking", "reasoning_effort", "reasoning_content"];
/// Marks around thoughts.
const MARKS: [&str; 3] = ["<think>", "</think>", "[THINK]"];

/// Whether a template writes the tools of a request for its model.
pub(super) fn knows_tools(template: &str) -> bool {
    names_any(template, &TOOLS)
}

/// Whether its model thinks before it answers.
pub(super) fn thinks(template: &str) -> bool {
    MARKS.iter().any(|mark| template.contains(mark)) || names_any(template, &THINKING)
}

/// Whether one of these is a name in a tag of the template: text around the tags, and in them, is for the model.
fn names_any(template: &str, wanted: &[&str]) -> bool {
    tags(template).any(|tag| {
        let code = without_texts(tag);
        let mut names = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        names.any(|name| wanted.contains(&name))
    })
}

/// What stands in its tags.
fn tags(template: &str) -> impl Iterator<Item = &str> {
    between(template, "{%", "%}").chain(between(template, "{{", "}}"))
}

fn between<'a>(text: &'a str, open: &'static str, close: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).map(move |rest| rest.split(close).next().unwrap_or(rest))
}

/// The same with a space in place of each letter that is in quotation marks.
fn without_texts(tag: &str) -> String {
    let (mut quote, mut is_escaped) = (None, false);
    let code = |letter: char| match quote {
        Some(_) if is_escaped => {
            is_escaped = false;
            ' '
        }
        Some(mark) => {
            is_escaped = letter == '\\';
            if letter == mark {
                quote = None;
            }
            ' '
        }
        None => {
            quote = matches!(letter, '\'' | '"').then_some(letter);
            letter
        }
    };
    tag.chars().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_names_tools_knows_them() {
        for (template, knows) in [
            ("{%- if tools %}{{ tools | tojson }}{% endif %}", true),
            ("{% for tool in tools %}{{ tool }}{% endfor %}", true),
            ("{{ '<tools>' + (tools|tojson) }}", true),
            ("{% if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}", true),
            ("{{ messages[0].content }}", false),
            ("You have tools. {{ messages[0].content }}", false),
            ("{{ 'your tools: none' }}{{ \"it\\\"s tools\" }}", false),
            ("{% if message.tool_calls %}{{ mytools }}{% endif %}", false),
            ("{{ tools", true),
            ("", false),
        ] {
            assert_eq!(knows_tools(template), knows, "{template}");
        }
    }

    #[test]
    fn a_template_that_switches_or_marks_thoughts_is_a_thinkers() {
        for (template, is_thinker) in [
            ("{% if enable_thinking is defined and not enable_thinking %}x{% endif %}", true),
            ("{{ message.content.split('</think>')[-1] }}", true),
            ("<|im_start|>assistant\n<think>\n", true),
            ("{{ 'Reasoning: ' + reasoning_effort }}", true),
            ("{{ message['content'] }} is thinking about it", false),
            ("chatml", false),
        ] {
            assert_eq!(thinks(template), is_thinker, "{template}");
        }
    }
}
