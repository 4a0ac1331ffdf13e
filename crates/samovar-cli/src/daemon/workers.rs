//! How the daemon starts the processes that models run in.

use samovar::worker::WorkerConfig;

use crate::settings::Settings;

/// This very program, also when its file has been replaced since: then the file's name leads to another version.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Workers for these settings.
pub(crate) fn config(settings: &Settings) -> WorkerConfig {
    let mut config = WorkerConfig::new(THIS_PROGRAM, ["worker", "--log", &settings.log_level]);
    // A debugger that ggml calls for a backtrace would keep a dying worker alive for seconds.
    config.environment.push(("GGML_NO_BACKTRACE".into(), "1".into()));
    config.sandbox = settings.sandbox;
    config.memory_limit_bytes = settings.worker_memory_bytes;
    config
}
