//! Arguments of `usage`.

use clap::Args;
use samovar_core::units::TimeSpan;
use samovar_server::admin::wire::GroupBy;

/// Arguments of `usage`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar usage --since 7d
  samovar usage --by client,day --since 30d
A client without a key is shown as its address, or as a user of the Unix socket. Days begin at midnight UTC.")]
pub(crate) struct Usage {
    /// Show one row for each of these, with commas: client, model, day. Default: client,model
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = group)]
    pub(crate) by: Vec<GroupBy>,
    /// Count from the day that is this long ago, such as 7d. Default: everything that is kept
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<TimeSpan>,
}

fn group(text: &str) -> Result<GroupBy, String> {
    text.parse().map_err(|_| "write one of client, model, day".to_owned())
}
