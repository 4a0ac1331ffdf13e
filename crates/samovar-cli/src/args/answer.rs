//! Arguments of `run` and `chat`: how tokens are chosen, how much a model thinks before it answers, and what its answer must
//! look like.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samovar_core::Quantization;
use samovar_core::units::{KeepAlive, TimeSpan};

use super::{KeptChat, count, quantization, tokens, whole};
use crate::settings::keys::CONTEXT_MAX;

/// How much the model thinks; shared by `run` and `chat`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Thinking {
    /// How much the model thinks before it answers; models that never think ignore it
    #[arg(long, value_name = "EFFORT", value_enum)]
    pub(crate) think: Option<Effort>,
    /// End the thought after N tokens, so that the answer begins; 0 = no thought
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub(crate) thinking_budget: Option<u32>,
}

/// How much a model thinks.
// Described variants would spread the help of `run` and `chat` over several screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Effort {
    Low,
    Medium,
    High,
    Off,
}

impl From<Effort> for samovar::Effort {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Low => Self::Low,
            Effort::Medium => Self::Medium,
            Effort::High => Self::High,
            Effort::Off => Self::Off,
        }
    }
}

/// What the answer must look like; at most one of them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Form {
    /// Answer with JSON that the schema in this file allows; `-` = standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grammar", "regex"], value_hint = clap::ValueHint::FilePath)]
    pub(crate) schema: Option<PathBuf>,
    /// Answer with text of the grammar in this file (.lark or .gbnf)
    #[arg(long, value_name = "FILE", conflicts_with = "regex", value_hint = clap::ValueHint::FilePath)]
    pub(crate) grammar: Option<PathBuf>,
    /// Answer with text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub(crate) regex: Option<String>,
}

/// How tokens are chosen and how far; shared by `run` and `chat`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Generation {
    /// Maximum number of tokens to generate
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true, value_parser = tokens)]
    pub(crate) max_tokens: Option<u32>,
    /// 0 = always the most likely token; higher values give more variety
    #[arg(long, short = 't', value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub(crate) temperature: Option<f32>,
    /// Draw from the smallest set of tokens whose probability reaches P
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = positive_share)]
    pub(crate) top_p: Option<f32>,
    /// Draw from the K most likely tokens; 0 = all
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count)]
    pub(crate) top_k: Option<u32>,
    /// Drop tokens less likely than P times the most likely one
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = share)]
    pub(crate) min_p: Option<f32>,
    /// Divide the likelihood of recent tokens by R; 1 = off
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = repeat_penalty)]
    pub(crate) repeat_penalty: Option<f32>,
    /// The same seed and prompt give the same text
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub(crate) seed: Option<u32>,
    /// End the answer at this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    #[command(flatten)]
    pub(crate) thinking: Thinking,
    /// How the model should behave
    #[arg(long, short = 's', value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Time limit, such as 30s: keeps the text so far, or fails without text
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub(crate) timeout: Option<TimeSpan>,
    /// How long the model stays ready afterwards, such as 10m; -1 = until memory is needed
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Load the model in this process, without the daemon
    #[arg(long)]
    pub(crate) no_daemon: bool,
    /// Print the time of each phase
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(override_usage = "samovar run [OPTIONS] [MODEL] PROMPT…")]
#[command(after_help = "\
One argument is the prompt for the default model. Of two or more, the first is the model:
  samovar run \"Why is the sky blue?\"
  samovar run ./model.gguf \"Why is the sky blue?\"
A lone argument that is `demo`, a configured name, a path or an address such as hf://org/name is
the model, and the prompt comes from standard input. `-` stands for standard input anywhere in the
prompt. A model that is not on disk is fetched first, and kept.
With --schema, --grammar or --regex the model cannot write anything else:
  samovar run ./model.gguf --schema person.json \"Who wrote Faust?\"
A terminal shows what the model thinks, dimmed, before the answer. In a pipe there is only the
answer; --json prints both.")]
pub(crate) struct Run {
    /// The prompt, or the model and the prompt; `-` = standard input
    #[arg(value_name = "PROMPT")]
    pub(crate) words: Vec<String>,
    /// The model: a name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(long, short = 'm', value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    /// Let the model continue the prompt as it is, without its chat template
    #[arg(long, conflicts_with_all = ["system", "think", "thinking_budget"])]
    pub(crate) raw: bool,
    /// Tokens of context for this answer; a loaded model that has less grows
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = context)]
    pub(crate) context: Option<u32>,
    /// First convert a model published in safetensors to this number format, such as `Q4_K_M`
    #[arg(long, value_name = "FORMAT", value_parser = quantization, conflicts_with = "no_daemon")]
    pub(crate) quantize: Option<Quantization>,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) generation: Generation,
}

/// Arguments of `chat`.
#[derive(Args, Debug)]
pub(crate) struct Chat {
    /// The model: a name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) kept: KeptChat,
    #[command(flatten)]
    pub(crate) generation: Generation,
}

fn context(text: &str) -> Result<u32, String> {
    whole(text, 8, CONTEXT_MAX)
}

fn number(text: &str, is_fine: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    text.parse::<f32>()
        .ok()
        .filter(|number| is_fine(*number))
        .ok_or_else(|| format!("write a number {expected}"))
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=2.0).contains(&value), "from 0 to 2")
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "from 0 to 1")
}

fn positive_share(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "above 0 and at most 1")
}

fn repeat_penalty(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 10.0, "above 0 and at most 10; 1 = off")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Verb};
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        for flags in [["-t", "9"], ["--top-p", "0"], ["--min-p", "1.1"], ["-n", "0"], ["-t", "NaN"]] {
            let line = [["samovar", "run", "x"].as_slice(), &flags].concat();
            assert!(Arguments::try_parse_from(line).is_err(), "{flags:?}");
        }
    }

    fn run(line: &[&str]) -> Result<Run, clap::Error> {
        let line = [["samovar", "run"].as_slice(), line].concat();
        Arguments::try_parse_from(line).map(|arguments| match arguments.verb {
            Verb::Run(run) => run,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn an_answer_has_one_form_and_a_prompt_as_it_is_no_thoughts() {
        let asked =
            run(&["--schema", "s.json", "--think", "low", "--thinking-budget", "0", "x"]).expect("parses");
        assert_eq!(asked.form.schema.as_deref(), Some(std::path::Path::new("s.json")));
        let Thinking { think, thinking_budget } = asked.generation.thinking;
        assert_eq!((think, thinking_budget), (Some(Effort::Low), Some(0)));
        let asked = run(&["--regex", "-?[0-9]+", "x"]).expect("parses");
        assert_eq!(asked.form.regex.as_deref(), Some("-?[0-9]+"));
        for line in [
            &["--schema", "s.json", "--grammar", "g.lark", "x"][..],
            &["--schema", "s.json", "--regex", "a", "x"],
            &["--grammar", "g.lark", "--regex", "a", "x"],
            &["--raw", "--think", "off", "x"],
            &["--raw", "--thinking-budget", "9", "x"],
            &["--think", "hard", "x"],
            &["--thinking-budget", "-1", "x"],
        ] {
            assert!(run(line).is_err(), "{line:?}");
        }
        assert!(run(&["--raw", "--schema", "s.json", "x"]).is_ok());
    }

    #[test]
    fn a_negative_keep_alive_is_not_a_flag() {
        let line = ["samovar", "run", "x", "--keep-alive", "-1"];
        let Verb::Run(run) = Arguments::try_parse_from(line).expect("parses").verb else { panic!("run") };
        assert_eq!(run.generation.keep_alive, Some(KeepAlive::UntilEvicted));
    }
}
