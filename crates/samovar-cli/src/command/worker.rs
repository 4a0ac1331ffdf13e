//! The hidden verb behind every loaded model: a process that runs it for the daemon, and can do little else.

use rustix::stdio;
use samovar::worker::child;
use samovar_core::{ErrorKind, Failure};
use tracing_subscriber::EnvFilter;

use crate::args::Worker;
use crate::ended::Ended;

/// Runs until the daemon says that it is enough, or is gone. The daemon's socket is the standard input.
pub(crate) fn execute(worker: &Worker) -> Result<(), Ended> {
    #[cfg(target_os = "linux")]
    rustix::thread::set_name(c"samovar-worker").ok();
    log(&worker.log);
    let alone = || {
        Failure::new(ErrorKind::InvalidRequest, "a worker is started by the daemon alone")
            .with_hint("`samovar serve` starts a daemon, `samovar run MODEL` asks one")
    };
    rustix::net::sockopt::socket_type(stdio::stdin()).map_err(|_| alone())?;
    let socket = stdio::stdin().try_clone_to_owned().map_err(|_| alone())?;
    if let Ok(null) = std::fs::File::options().read(true).open("/dev/null") {
        stdio::dup2_stdin(null).ok();
    }
    Ok(child::run(socket, samovar::engine_named)?)
}

/// Lines for the daemon, which knows the time and the colours.
fn log(filter: &str) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    lines.without_time().with_ansi(false).with_writer(std::io::stderr).try_init().ok();
}
