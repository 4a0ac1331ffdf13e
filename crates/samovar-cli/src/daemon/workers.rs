//! How the daemon starts the processes that models run in.

use samovar::worker::WorkerConfig;

use crate::settings::Settings;

/// This very program, also when its file has been replaced since: then the file's name leads to another version.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Whether this system has what workers are made of.
pub(crate) const ARE_POSSIBLE: bool = cfg!(target_os = "linux");

/// Workers for these settings; nothing where models are to run in the daemon itself, or this system has no workers.
pub(crate) fn config(settings: &Settings) -> Option<WorkerConfig> {
    if !settings.has_workers || !ARE_POSSIBLE {
        return None;
    }
    let mut config = WorkerConfig::new(THIS_PROGRAM, ["worker", "--log", &settings.log_level]);
    // A debugger that ggml calls for a backtrace would keep a dying worker alive for seconds.
    config.environment.push(("GGML_NO_BACKTRACE".into(), "1".into()));
    config.sandbox = settings.sandbox;
    config.memory_limit_bytes = settings.worker_memory_bytes;
    Some(config)
}
