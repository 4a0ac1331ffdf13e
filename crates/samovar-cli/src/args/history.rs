//! Arguments of `history`, and of `chat` about what is kept.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which conversation a chat goes on with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeptChat {
    /// Go on with the latest conversation
    #[arg(long = "continue", conflicts_with_all = ["conversation", "private"])]
    pub(crate) goes_on: bool,
    /// Go on with this conversation: its number or its title
    #[arg(long, value_name = "ID|TITLE", conflicts_with = "private")]
    pub(crate) conversation: Option<String>,
    /// Keep nothing of this chat
    #[arg(long)]
    pub(crate) private: bool,
}

/// Arguments of `history`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar history                              the latest conversations
  samovar history --search \"blue sky\"          those with these words
  samovar history 12                           one of them
  samovar history 12 --export json > 12.json   a copy that --import reads
  samovar history --forget 12                  delete one
  samovar history --forget --all               delete all
Conversations lie in the state directory of this machine's owner. What is deleted is overwritten.")]
pub(crate) struct History {
    /// Show this conversation: its number or its title
    #[arg(value_name = "ID|TITLE")]
    pub(crate) conversation: Option<String>,
    /// Show the conversations with these words
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["conversation", "export", "forget", "import"])]
    pub(crate) search: Option<String>,
    /// Print the conversation in this format; without one, all conversations
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with_all = ["forget", "import"])]
    pub(crate) export: Option<ExportForm>,
    /// Take in conversations from a file that was exported as JSON
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["conversation", "forget"])]
    pub(crate) import: Option<PathBuf>,
    /// Delete this conversation; with --all, every one
    #[arg(long, value_name = "ID|TITLE", num_args = 0..=1, default_missing_value = "", conflicts_with = "conversation")]
    pub(crate) forget: Option<String>,
    /// Delete every conversation
    #[arg(long, requires = "forget")]
    pub(crate) all: bool,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
}

/// How a conversation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    /// With all its branches; can be imported.
    Json,
    /// For people.
    Markdown,
}
