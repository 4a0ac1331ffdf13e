//! Arguments of `key`.

use clap::{Args, Subcommand};
use samovar_core::units::TimeSpan;
use samovar_server::Scope;

use super::whole;

const LIMIT_MAX: u32 = 1_000_000_000;
const CONCURRENCY_MAX: u32 = 1_000_000;
const WEIGHT_MAX: u32 = 1_000;

/// Arguments of `key`.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
  samovar key add ci --models demo,org/name --rpm 60 --tpm 40000 --expires 30d
  samovar key list
  samovar key rotate ci
  samovar key rm ci
Once there is a key, requests over HTTP need one: `authorization: Bearer KEY` or `x-api-key: KEY`.
The Unix socket needs none. A running daemon follows each change at once.")]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key and print it; it is shown only once
    Add(AddKey),
    /// List the keys with what they may do
    List,
    /// Replace a key by a new one of the same name, and print that; the old one stops at once
    Rotate(NamedKey),
    /// Remove a key; it stops at once
    Rm(NamedKey),
}

/// Arguments of `key add`.
#[derive(Args, Debug)]
pub(crate) struct AddKey {
    /// A name for its user, such as ci: letters, digits, `.`, `_`, `-` and `@`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Models that its requests may name, with commas; default: all
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// What it may be used for, with commas: infer, manage, admin, fleet
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "infer", value_parser = scope)]
    pub(crate) scope: Vec<Scope>,
    /// Requests per minute; default: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = limit)]
    pub(crate) rpm: Option<u32>,
    /// Tokens of prompts and answers per minute; default: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = limit)]
    pub(crate) tpm: Option<u32>,
    /// Requests at the same time; default: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = concurrency)]
    pub(crate) concurrency: Option<u32>,
    /// Requests per turn among the clients of a model; default: 1
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = weight)]
    pub(crate) weight: Option<u32>,
    /// How long it is valid, such as 30d; default: until it is removed
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) expires: Option<TimeSpan>,
}

/// The name of a key.
#[derive(Args, Debug)]
pub(crate) struct NamedKey {
    /// A key as `samovar key list` shows it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

fn scope(text: &str) -> Result<Scope, String> {
    text.trim().parse().map_err(|_| format!("write one of {}", Scope::OF_KEYS.map(Scope::word).join(", ")))
}

fn limit(text: &str) -> Result<u32, String> {
    whole(text, 1, LIMIT_MAX)
}

fn concurrency(text: &str) -> Result<u32, String> {
    whole(text, 1, CONCURRENCY_MAX)
}

fn weight(text: &str) -> Result<u32, String> {
    whole(text, 1, WEIGHT_MAX)
}
