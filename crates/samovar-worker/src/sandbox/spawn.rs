//! What a worker does not inherit from its parent.

use std::process::Command;

/// Variables of the parent that a worker may see: without the first, a program that is linked against libraries in
/// unusual places does not start; the second tells languages, nothing else.
const KEPT_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "LANG"];

/// Takes from the process to be what it would inherit: the environment, the working directory, the group of processes, and (on
/// Linux) the session with its terminal and every descriptor but the three standard ones.
///
/// What `command` is given *after* this call it keeps: variables, and descriptors that a later `pre_exec` makes
/// inheritable.
pub fn prepare(command: &mut Command) {
    command.env_clear().current_dir("/");
    for name in KEPT_VARIABLES {
        #[allow(clippy::disallowed_methods, reason = "it is handed on, and decides nothing here")]
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    #[cfg(target_os = "linux")]
    {
        super::linux::lead_session(command);
        super::linux::close_at_exec(command);
    }
    #[cfg(not(target_os = "linux"))]
    std::os::unix::process::CommandExt::process_group(command, 0);
}
