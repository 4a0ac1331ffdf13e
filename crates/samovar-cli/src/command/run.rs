//! `samovar run`: one prompt, one answer.

use std::io::{IsTerminal, Read};

use samovar::{Message, Request, Work};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, ModelRef};

use super::Context;
use super::answer::{self, AnswerReport, Shown};
use super::backend::{self, Backend};
use super::{constraint, prepare};
use crate::args::Run;
use crate::ended::Ended;
use crate::home;
use crate::settings::Settings;

/// What the daemon takes in one request, and more text than most models read.
const STDIN_MAX_BYTES: u64 = 4_000_000;
/// Stands for standard input.
const STDIN: &str = "-";

pub(super) async fn execute(context: &Context, arguments: Run) -> Result<(), Ended> {
    let asked = read_words(&arguments, &context.settings, std::io::stdin().is_terminal())?;
    let model =
        backend::portable(&asked.model, &context.settings).map_err(|failure| asked.explain(failure))?;
    if arguments.quantize.is_some() {
        prepare::prepare(context, &model, arguments.quantize).await?;
    }
    let constraint = constraint::read(&arguments.form, asked.reads_stdin())?;
    let prompt = asked.prompt()?;
    let request = if arguments.raw {
        Request::text(model, prompt)
    } else {
        let system = arguments.generation.system.clone().map(Message::system);
        Request::chat(model, system.into_iter().chain([Message::user(prompt)]))
    };
    let mut request = answer::apply(request, &arguments.generation);
    request.common.context_tokens = arguments.context;
    if let Work::Generate(generate) = &mut request.work {
        generate.constraint = constraint;
    }
    let backend = backend(context, &arguments)?;
    let shown = if context.report.is_json() { Shown::Nothing } else { Shown::TextAndThoughts };
    let followed = answer::follow(context, &backend, request, shown).await;
    backend.end().await;
    let outcome = followed.map_err(|ended| match ended {
        Ended::Failed(failure) => Ended::Failed(asked.explain(failure)),
        other => other,
    })?;
    conclude(context, &arguments, &outcome)?;
    if !asked.reads_stdin() {
        mention_unread_stdin(context);
    }
    Ok(())
}

fn backend<'a>(context: &'a Context, arguments: &Run) -> Result<Backend<'a>, Failure> {
    if !arguments.generation.no_daemon {
        return Ok(Backend::daemon(context));
    }
    Backend::here(context.settings.runtime.clone())
}

fn conclude(context: &Context, arguments: &Run, outcome: &AnswerReport) -> Result<(), Ended> {
    let Some(summary) = &outcome.summary else { return Err(Ended::Interrupted) };
    if context.report.is_json() {
        context.report.json(&answer::as_json(outcome, summary))?;
    } else {
        answer::remark(context, outcome, summary, &arguments.generation);
    }
    if arguments.generation.verbose {
        context.report.note(&answer::timing_line(outcome, summary));
    }
    Ok(())
}

/// The user pipes text in and does not say where it belongs: say how.
fn mention_unread_stdin(context: &Context) {
    let stdin = std::io::stdin();
    let is_pipe = rustix::fs::fstat(&stdin)
        .is_ok_and(|facts| rustix::fs::FileType::from_raw_mode(facts.st_mode) == rustix::fs::FileType::Fifo);
    let is_unread = is_pipe && rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0);
    if is_unread && context.report.stderr_is_terminal() {
        context.report.note("note: standard input was not read; `-` in the prompt stands for it");
    }
}

/// The model and the parts of the prompt, before standard input is read.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    model: String,
    parts: Vec<String>,
    /// The model is the first of several words: the person may have meant a prompt without quotes.
    is_guess: bool,
}

impl Asked {
    fn reads_stdin(&self) -> bool {
        self.parts.iter().any(|part| part == STDIN)
    }

    /// Tells who wrote a prompt without quotes to write them, where its first word is no model: when it cannot be the
    /// name of one, when it begins like a sentence, or when the words are many.
    fn explain(&self, failure: Failure) -> Failure {
        let is_name = self.model.parse::<ModelRef>().map(|read| matches!(read, ModelRef::Alias(_)));
        let is_unknown = match (failure.kind, &is_name) {
            (ErrorKind::NotFound, Ok(is_name)) => {
                *is_name && !self.model.contains(|c: char| ":._".contains(c))
            }
            (ErrorKind::InvalidRequest, Err(_)) => !self.model.contains(['/', ':']),
            _ => false,
        };
        let has_blanks = self.parts.iter().any(|part| part.contains(char::is_whitespace));
        let is_prose = self.parts.len() > 1 || self.model.starts_with(char::is_uppercase) || is_name.is_err();
        let is_corrected = failure.hint.as_deref().is_some_and(|hint| hint.starts_with("did you mean"));
        if !self.is_guess || !is_unknown || has_blanks || !is_prose || is_corrected {
            return failure;
        }
        failure.with_hint(format!("a prompt of several words needs quotes: samovar run \"{} …\"", self.model))
    }

    fn prompt(&self) -> Result<String, Failure> {
        if !self.reads_stdin() {
            return whole(self.parts.join(" "));
        }
        let stdin = read_stdin()?;
        let parts: Vec<&str> = self
            .parts
            .iter()
            .map(|part| if part == STDIN { stdin.trim_end_matches('\n') } else { part })
            .collect();
        whole(parts.join("\n"))
    }
}

fn whole(prompt: String) -> Result<String, Failure> {
    if prompt.trim().is_empty() {
        return Err(Failure::new(ErrorKind::InvalidRequest, "the prompt is empty")
            .with_hint("samovar run \"Tell me a story about a fox\""));
    }
    Ok(prompt)
}

/// Tells model and prompt apart; the rule is in the help text of `run`.
fn read_words(arguments: &Run, settings: &Settings, stdin_is_terminal: bool) -> Result<Asked, Failure> {
    let words = &arguments.words;
    let default_model = || settings.default_model.clone();
    let from_stdin = |model: String| {
        if stdin_is_terminal {
            return Err(Failure::new(ErrorKind::InvalidRequest, format!("there is no prompt for {model}"))
                .with_hint(format!(
                    "samovar run {model} \"Your question\", or `samovar chat {model}` to talk with it"
                )));
        }
        Ok(Asked { model, parts: vec![STDIN.to_owned()], is_guess: false })
    };
    match (&arguments.model, words.as_slice()) {
        (Some(model), []) => from_stdin(model.clone()),
        (Some(model), parts) => Ok(Asked { model: model.clone(), parts: parts.to_vec(), is_guess: false }),
        (None, []) => from_stdin(default_model()),
        (None, [only]) if settings.names_a_model(only) => from_stdin(only.clone()),
        (None, [only]) => Ok(Asked { model: default_model(), parts: vec![only.clone()], is_guess: false }),
        (None, [first, rest @ ..]) => {
            if first == STDIN || first.contains(char::is_whitespace) && first.parse::<ModelRef>().is_err() {
                return Err(Failure::new(
                    ErrorKind::InvalidRequest,
                    format!("{first:?} is not the name of a model"),
                )
                .with_param("model")
                .with_hint(
                    "of two or more arguments the first is the model; name it with -m to write only a prompt",
                ));
            }
            Ok(Asked { model: first.clone(), parts: rest.to_vec(), is_guess: true })
        }
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().take(STDIN_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(ErrorKind::Storage, format!("could not read standard input: {}", home::plain(&error)))
    })?;
    if bytes.len() as u64 > STDIN_MAX_BYTES {
        return Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("standard input has more than {}", ByteSize::from_bytes(STDIN_MAX_BYTES)),
        )
        .with_hint("a request holds no more; send a part of it"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(ErrorKind::InvalidRequest, "standard input is not UTF-8 text")
            .with_hint("a prompt is text")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Verb};
    use crate::settings::{Environment, Flags, settle};

    fn read(line: &[&str], stdin_is_terminal: bool) -> Result<Asked, Failure> {
        let environment = Environment::from_pairs([("SAMOVAR_HOME".into(), "/nowhere".into())]);
        let settings = settle(&Flags::default(), &environment).expect("settles");
        let line = [["samovar", "run"].as_slice(), line].concat();
        let Verb::Run(run) = Arguments::try_parse_from(line).expect("parses").verb else { panic!("run") };
        read_words(&run, &settings, stdin_is_terminal)
    }

    fn asked(model: &str, parts: &[&str]) -> Asked {
        Asked {
            model: model.into(),
            parts: parts.iter().map(|part| (*part).into()).collect(),
            is_guess: false,
        }
    }

    #[test]
    fn one_argument_is_the_prompt_unless_it_can_only_be_a_model() {
        assert_eq!(read(&["Why is the sky blue?"], true), Ok(asked("demo", &["Why is the sky blue?"])));
        assert_eq!(read(&["hello"], true), Ok(asked("demo", &["hello"])));
        assert_eq!(read(&["./m.gguf"], false), Ok(asked("./m.gguf", &["-"])));
        assert!(read(&["demo"], true).expect_err("no prompt").hint.expect("hint").contains("chat demo"));
    }

    #[test]
    fn of_two_arguments_the_first_is_the_model() {
        assert_eq!(
            read(&["demo", "a", "b"], true),
            Ok(Asked { is_guess: true, ..asked("demo", &["a", "b"]) })
        );
        assert_eq!(read(&["-m", "demo", "a", "b"], true), Ok(asked("demo", &["a", "b"])));
        assert_eq!(
            read(&["Summarise this:", "-"], true).expect_err("not a model").kind,
            ErrorKind::InvalidRequest
        );
    }

    #[test]
    fn quotes_are_the_hint_of_prose_alone() {
        let hint = |line: &[&str], kind| {
            let asked = read(line, true).expect("reads");
            asked.explain(Failure::new(kind, "no").with_hint("another")).hint.expect("a hint")
        };
        for prose in [&["Tell", "me"][..], &["what", "is", "this"]] {
            assert!(hint(prose, ErrorKind::NotFound).contains("needs quotes"), "{prose:?}");
        }
        assert!(hint(&["What's", "up"], ErrorKind::InvalidRequest).contains("needs quotes"));
        for named in [&["mistral", "hello"][..], &["./none.gguf", "hi", "you"], &["qwen2.5:7b", "hi", "you"]]
        {
            assert_eq!(hint(named, ErrorKind::NotFound), "another", "{named:?}");
        }
        assert_eq!(hint(&["Mistral", "What is a samovar?"], ErrorKind::NotFound), "another");
        assert_eq!(hint(&["-m", "Tell", "me"], ErrorKind::NotFound), "another");
        assert_eq!(hint(&["Tell", "me"], ErrorKind::Busy), "another");
    }

    #[test]
    fn without_words_the_prompt_comes_from_a_pipe_or_not_at_all() {
        assert_eq!(read(&[], false), Ok(asked("demo", &["-"])));
        assert!(read(&[], true).is_err());
        assert_eq!(read(&["-"], false), Ok(asked("demo", &["-"])));
    }
}
