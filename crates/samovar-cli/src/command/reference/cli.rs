//! The page of verbs and arguments.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use super::{head, row};
use crate::args::Arguments;

pub(super) fn page() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut page = String::from("# Command line\n\n");
    page.push_str(
        "`samovar VERB …`. Exit codes are in [errors](errors.md), settings in [config](config.md).\n\n",
    );
    page.push_str(&head(&["verb", "does"]));
    let verbs: Vec<&Command> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").collect();
    for verb in &verbs {
        let name = verb.get_name();
        page.push_str(&row([format!("[`{name}`](#{name})").as_str(), &about(verb)]));
    }
    page.push_str("\n## Everywhere\n\n");
    let everywhere = command.get_arguments().filter(|argument| argument.is_global_set());
    page.push_str(&arguments(everywhere));
    for verb in verbs {
        section(verb, verb.get_name(), &mut page);
        for action in verb.get_subcommands().filter(|action| action.get_name() != "help") {
            section(action, &format!("{} {}", verb.get_name(), action.get_name()), &mut page);
        }
    }
    page
}

fn section(verb: &Command, name: &str, page: &mut String) {
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(page, "\n## {}\n\n{}.\n\n```console\n$ {usage}\n```\n", name, about(verb))
        .expect("invariant: writing to a String succeeds");
    let own: Vec<&Arg> = verb
        .get_arguments()
        .filter(|argument| {
            !argument.is_hide_set() && !argument.is_global_set() && argument.get_id() != "help"
        })
        .collect();
    if !own.is_empty() {
        page.push('\n');
        page.push_str(&arguments(own));
    }
    if let Some(after) = verb.get_after_help() {
        write!(page, "\n```text\n{}\n```\n", after.to_string().trim())
            .expect("invariant: writing to a String succeeds");
    }
}

fn arguments<'a>(arguments: impl IntoIterator<Item = &'a Arg>) -> String {
    arguments.into_iter().fold(head(&["argument", "means"]), |mut table, argument| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        table.push_str(&row([format!("`{}`", name(argument)).as_str(), &help]));
        table
    })
}

fn name(argument: &Arg) -> String {
    let value =
        argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let takes_value = argument.get_action().takes_values();
    match (argument.get_long(), argument.get_short()) {
        (Some(long), short) => {
            let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
            if takes_value { format!("{short}--{long} {value}") } else { format!("{short}--{long}") }
        }
        _ => value,
    }
}

fn about(verb: &Command) -> String {
    verb.get_about().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_verb_has_a_section() {
        let page = page();
        for verb in [
            "run",
            "chat",
            "serve",
            "ps",
            "warm",
            "stop",
            "shutdown",
            "pin",
            "unpin",
            "stats",
            "why",
            "config",
            "key",
            "key add",
            "doctor",
            "completions",
        ] {
            assert!(page.contains(&format!("\n## {verb}\n")), "{verb}");
        }
        assert!(page.contains("`-n, --max-tokens N`"), "{page}");
        assert!(!page.contains("--background"));
    }
}
