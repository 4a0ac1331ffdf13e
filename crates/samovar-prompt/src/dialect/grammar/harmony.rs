//! An answer in gpt-oss's channels: thoughts, then the answer, or one call.

use super::calls::arguments_rule;
use super::lark::{Lark, literal};
use crate::dialect::reader::tools::Tool;

/// The whole grammar. `content` is what the answer may be; without it there must be a call. `opens_thinking`: it begins
/// behind the mark that ends a thought.
pub(super) fn write(
    mut lark: Lark<'_>,
    tools: &[Tool],
    content: Option<&str>,
    opens_thinking: bool,
) -> String {
    let [channel, message, start] = ["<|channel|>", "<|message|>", "<|start|>"].map(|mark| lark.mark(mark));
    let until_end = lark.text_until("<|end|>", "TEXT");
    for (name, of) in [("thought", "analysis"), ("preamble", "commentary")] {
        let message = format!("{channel} \"{of}\" {message} {until_end} {start} \"assistant\"");
        lark.rule(name, &message);
    }
    let mut choices = Vec::new();
    if let Some(content) = content {
        lark.rule("final", &format!("{channel} \"final\" {message} {content}"));
        choices.push("final".to_owned());
    }
    let constrain = lark.mark("<|constrain|>");
    for tool in tools {
        let arguments = arguments_rule(&mut lark, tool);
        let recipient = literal(&format!("commentary to=functions.{}", tool.name));
        let json = format!("( \" \" {constrain} \"json\" | \" json\" )?");
        choices.push(lark.own_rule("", &format!("{channel} {recipient} {json} {message} {arguments}")));
    }
    let begin = if opens_thinking { format!("{start} \"assistant\" ") } else { String::new() };
    let preamble = if tools.is_empty() { "" } else { "preamble? " };
    lark.rule("start", &format!("{begin}thought* {preamble}( {} )", choices.join(" | ")));
    lark.finish()
}
