//! Arguments of `plan`.

use std::path::PathBuf;

use clap::Args;
use samovar::EvictionPolicy;
use samovar_core::units::{ByteSize, KeepAlive, TimeSpan};

/// Arguments of `plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar plan --trace requests.log
  samovar plan --trace requests.log --budget 8GB,16GB --policy gdsf,lru
The daemon writes such a log if `server.request_log` names a file. A line written by hand is
  TIME_MS MODEL [HOLD_MS]
and for models that are not on this machine, once:
  {\"model\":\"qwen2.5:7b\",\"bytes\":5100000000,\"load_ms\":3200}")]
pub(crate) struct Plan {
    /// A log of requests; may be given several times; `-` = standard input
    #[arg(long, value_name = "FILE", required = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) trace: Vec<PathBuf>,
    /// Memory for all models together, such as 8GB; several with commas. Default: half, once and twice the configured budget
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(crate) budget: Vec<ByteSize>,
    /// Which idle model leaves first; several with commas. Default: every policy
    #[arg(long, value_name = "POLICY", value_delimiter = ',', value_parser = policy)]
    pub(crate) policy: Vec<EvictionPolicy>,
    /// Unload models instead of parking them
    #[arg(long)]
    pub(crate) no_parking: bool,
    /// How long a model stays ready after its last use, such as 10m; -1 = until memory is needed. Default: as configured
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<KeepAlive>,
    /// How long a request holds its slot, if the log does not say
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) hold: TimeSpan,
}

fn policy(text: &str) -> Result<EvictionPolicy, String> {
    let known = || EvictionPolicy::ALL.map(EvictionPolicy::name).join(", ");
    EvictionPolicy::named(text).ok_or_else(|| format!("write one of {}", known()))
}
