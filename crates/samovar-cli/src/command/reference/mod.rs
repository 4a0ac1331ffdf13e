//! `samovar reference`: pages of the reference as Markdown, and the OpenAPI document, written from the tables that the program itself
//! runs on.

mod cli;
mod errors;
mod http;
mod metrics;
mod openapi;
mod settings;

use super::Context;
use crate::args::Topic;
use crate::ended::Ended;

pub(super) use settings::template;

pub(super) fn execute(context: &Context, topic: Topic) -> Result<(), Ended> {
    let page = match topic {
        Topic::Cli => cli::page(),
        Topic::Config => settings::config_page(),
        Topic::Env => settings::environment_page(),
        Topic::Errors => errors::page(),
        Topic::Http => http::page(),
        Topic::Metrics => metrics::page(),
        Topic::OpenApi => openapi::page(),
    };
    context.report.line(page.trim_end())
}

/// A row of a Markdown table; bars inside cells would end them.
fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> =
        cells.into_iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// What is typed or read as it is.
fn code(text: &str) -> String {
    format!("`{text}`")
}

/// The head of a Markdown table.
fn head(cells: &[&str]) -> String {
    format!("{}|{}\n", row(cells.iter().copied()), "---|".repeat(cells.len()))
}
