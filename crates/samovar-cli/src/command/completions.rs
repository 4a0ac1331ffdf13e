//! `samovar completions`: the completion script of a shell.

use clap::CommandFactory;
use samovar_core::{ErrorKind, Failure};

use super::Context;
use crate::args::Arguments;
use crate::ended::Ended;

pub(super) fn execute(context: &Context, shell: clap_complete::Shell) -> Result<(), Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "samovar", &mut script);
    let script = String::from_utf8(script)
        .map_err(|_| Failure::new(ErrorKind::Internal, "the completion script is not UTF-8 text"))?;
    context.report.line(script.trim_end())
}
