//! A choice among some of a request's tools, as OpenAI's `allowed_tools` makes it.

use std::collections::BTreeSet;

use samovar::Tool;

use crate::refusal::{Refusal, shown};

/// Keeps the tools of these names alone. Nothing has bounded the number of either yet.
///
/// # Errors
/// 400 that names `tool_choice`, for a name that no tool has.
pub(crate) fn keep(tools: &mut Vec<Tool>, among: &[String]) -> Result<(), Refusal> {
    let absent = {
        let known: BTreeSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        among.iter().find(|name| !known.contains(name.as_str()))
    };
    if let Some(absent) = absent {
        let message = format!("`tool_choice` allows {:?}, which is not in `tools`", shown(absent));
        return Err(Refusal::invalid("tool_choice", message));
    }
    let among: BTreeSet<&str> = among.iter().map(String::as_str).collect();
    tools.retain(|tool| among.contains(tool.name.as_str()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_are_named_stay_in_their_order() {
        let kept = |among: &[&str]| {
            let mut tools = Vec::from(["f", "g", "h"].map(Tool::new));
            let among: Vec<String> = among.iter().map(|name| (*name).to_owned()).collect();
            keep(&mut tools, &among).map(|()| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>())
        };
        assert_eq!(kept(&["h", "f", "h"]).expect("are there"), ["f", "h"]);
        assert!(kept(&[]).expect("none").is_empty());
        let failure = kept(&["f", &"x".repeat(9_000)]).expect_err("is not there").failure;
        assert_eq!(failure.param.as_deref(), Some("tool_choice"));
        assert!(failure.message.len() < 200, "{failure}");
    }
}
