//! Arguments of `embed`, `rerank` and `tokenize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samovar::Truncate;
use samovar_core::units::KeepAlive;

use super::tokens;

/// Where texts come from, when they are no arguments.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TextSource {
    /// Read the texts from this file, one per line; `-` = standard input
    #[arg(long, short = 'f', value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// How the file or standard input is written. Default: jsonl if the file's name ends in .jsonl or .ndjson
    #[arg(long, value_name = "FORM", value_enum)]
    pub(crate) input: Option<InputForm>,
}

/// How texts are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputForm {
    /// A text per line
    Lines,
    /// JSON per line: a string, a list of token ids, or an object with `text` and perhaps `id`
    Jsonl,
}

/// Under which terms the work is done.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WorkTerms {
    /// How long the model stays ready afterwards, such as 10m; -1 = until memory is needed
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Load the model in this process, without the daemon
    #[arg(long)]
    pub(crate) no_daemon: bool,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VectorForm {
    /// An object per line: index, embedding, tokens
    Jsonl,
    /// One array of such objects
    Json,
    /// A vector per line, with blanks between its numbers
    Text,
}

/// Arguments of `embed`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar embed ./embedder.gguf \"A samovar heats water\"
  samovar embed ./embedder.gguf --file notes.txt > vectors.jsonl
  samovar embed ./embedder.gguf --file notes.txt --skip 5000 >> vectors.jsonl
Without a text and without --file, texts are read from standard input. Empty lines are passed over.
A command that ends early says how many lines to skip to continue.")]
pub(crate) struct Embed {
    /// A name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: String,
    /// The texts
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) source: TextSource,
    /// The texts are queries: put the model's prompt for queries before each
    #[arg(long, conflicts_with = "document")]
    pub(crate) query: bool,
    /// The texts are documents: put the model's prompt for documents before each
    #[arg(long)]
    pub(crate) document: bool,
    /// Keep only the first N numbers of each vector
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens)]
    pub(crate) dimensions: Option<u32>,
    /// Cut texts that are too long for the model, at their end or at their start. Default: they are an error
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "end", value_parser = truncate)]
    pub(crate) truncate: Option<Truncate>,
    /// Leave each vector's length as the model gives it; default: the length becomes 1
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// How vectors are written. Default: jsonl
    #[arg(long, value_name = "FORM", value_enum)]
    pub(crate) format: Option<VectorForm>,
    /// Pass over the first N texts, to continue a command that ended early
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true, value_parser = skipped)]
    pub(crate) skip: u64,
    #[command(flatten)]
    pub(crate) terms: WorkTerms,
}

/// Arguments of `rerank`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar rerank ./reranker.gguf \"What heats water?\" \"A fox met a bird.\" \"A samovar heats water.\"
  samovar rerank ./reranker.gguf \"What heats water?\" --file notes.txt --top 5
Without a document and without --file, documents are read from standard input. Scores lie between 0 and 1.
Documents that are too long for the model are cut at their end.")]
pub(crate) struct Rerank {
    /// A name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: String,
    /// What is looked for
    #[arg(value_name = "QUERY")]
    pub(crate) query: String,
    /// The documents
    #[arg(value_name = "DOCUMENT")]
    pub(crate) documents: Vec<String>,
    #[command(flatten)]
    pub(crate) source: TextSource,
    /// Print only the N best documents
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true, value_parser = tokens)]
    pub(crate) top: Option<u32>,
    /// Print the model's own scores, which have no bounds
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) terms: WorkTerms,
}

/// Arguments of `tokenize`.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar tokenize demo \"A samovar heats water\"
  samovar tokenize demo --count --file notes.txt
  samovar tokenize demo --detokenize 1 320 417
Without a text and without --file, texts are read from standard input.")]
pub(crate) struct Tokenize {
    /// A name, a path such as ./model.gguf, or `org/name:Q4_K_M`
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::FilePath)]
    pub(crate) model: String,
    /// The texts; with --detokenize, token ids
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) source: TextSource,
    /// Print the text of each token instead of its id; control tokens have none
    #[arg(long, conflicts_with_all = ["count", "detokenize"])]
    pub(crate) pieces: bool,
    /// Print only the number of tokens
    #[arg(long, conflicts_with = "detokenize")]
    pub(crate) count: bool,
    /// Read token ids, and print their text
    #[arg(long)]
    pub(crate) detokenize: bool,
    /// Leave out the special tokens that the model expects around a text
    #[arg(long, conflicts_with = "detokenize")]
    pub(crate) plain: bool,
    /// Read special tokens that are written in the texts
    #[arg(long, conflicts_with = "detokenize")]
    pub(crate) special: bool,
    #[command(flatten)]
    pub(crate) terms: WorkTerms,
}

fn skipped(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number from 0".to_owned())
}

fn truncate(text: &str) -> Result<Truncate, String> {
    match text {
        "end" => Ok(Truncate::End),
        "start" => Ok(Truncate::Start),
        _ => Err("write --truncate=end or --truncate=start".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Verb};

    fn embed(line: &[&str]) -> Embed {
        let line = [["samovar", "embed"].as_slice(), line].concat();
        let Verb::Embed(embed) = Arguments::try_parse_from(line).expect("parses").verb else {
            panic!("embed")
        };
        embed
    }

    #[test]
    fn a_text_after_truncate_is_a_text() {
        let read = embed(&["m", "--truncate", "a text", "another"]);
        assert_eq!((read.truncate, read.texts.len()), (Some(Truncate::End), 2));
        assert_eq!(embed(&["m", "--truncate=start"]).truncate, Some(Truncate::Start));
        assert_eq!(embed(&["m", "a"]).truncate, None);
        for line in
            [&["m", "--truncate=middle"][..], &["m", "--query", "--document"], &["m", "--dimensions", "0"]]
        {
            let line = [["samovar", "embed"].as_slice(), line].concat();
            assert!(Arguments::try_parse_from(&line).is_err(), "{line:?}");
        }
    }
}
