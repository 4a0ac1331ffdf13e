//! Configuration, directories, disk and daemon.

use std::path::Path;

use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use super::Finding;
use crate::client::Figures;
use crate::command::Context;
use crate::command::answer::roughly;
use crate::daemon::{lock, start};
use crate::exposure;
use crate::home;
use crate::settings::Settings;

/// Less than this, and an unpacked model or a log may not fit.
const DISK_FLOOR_BYTES: u64 = 256 << 20;

pub(super) fn configuration(settings: &Settings) -> Finding {
    let file = settings.config_file.as_ref();
    let text = file.map_or_else(
        || format!("defaults; there is no {}", settings.home.config_file.display()),
        |file| file.display().to_string(),
    );
    if settings.unknown_variables.is_empty() {
        return Finding::fine("configuration", text);
    }
    Finding::odd(
        "configuration",
        format!("{text}; {}", settings.unknown_variables().collect::<Vec<_>>().join("; ")),
        "`samovar config` lists what is in force; correct or unset them",
    )
}

pub(super) fn directories(settings: &Settings) -> Finding {
    let outcome = exposure::check(settings)
        .and_then(|()| start::make_places(settings))
        .and_then(|()| home::make_private_dir(&settings.runtime.store.cache_dir))
        .and_then(|()| {
            let home = &settings.home;
            [&settings.runtime.store.cache_dir, &home.state_dir, &home.run_dir]
                .into_iter()
                .try_for_each(|path| write_to(path))
        });
    let root = settings.home.root.as_ref().unwrap_or(&settings.home.state_dir);
    Finding::of("directories", outcome.map(|()| format!("can be written, such as {}", root.display())))
}

/// Writes a file and takes it away again.
fn write_to(directory: &Path) -> Result<(), Failure> {
    let probe = directory.join(format!(".doctor-{}", std::process::id()));
    let written = fs_err::write(&probe, b"samovar");
    std::fs::remove_file(&probe).ok();
    written.map_err(|error| home::storage("write into", directory, &error))
}

pub(super) fn disk(settings: &Settings) -> Finding {
    let path = &settings.runtime.store.cache_dir;
    let facts = match rustix::fs::statvfs(path) {
        Ok(facts) => facts,
        Err(error) => {
            return Finding::broken("disk", home::storage("look at the disk of", path, &error.into()));
        }
    };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let text = format!("{} free at {}", ByteSize::from_bytes(free), path.display());
    if free < DISK_FLOOR_BYTES {
        return Finding::odd("disk", text, "free some space: models are unpacked and logs are written there");
    }
    Finding::fine("disk", text)
}

pub(super) async fn daemon(context: &Context) -> Finding {
    match look(context).await {
        Ok(finding) => finding,
        Err(failure) => Finding::broken("daemon", failure),
    }
}

async fn look(context: &Context) -> Result<Finding, Failure> {
    let settings = &context.settings;
    let held = lock::is_held(&lock::daemon_lock(&settings.socket));
    let log = settings.home.log_file();
    match context.client().connect().await? {
        Some(connection) => {
            let figures = Figures::read(&connection.stats().await?)?;
            let text = format!(
                "process {}, up {}, at {}; log: {}",
                figures.pid,
                roughly(figures.uptime_ms),
                settings.socket.display(),
                log.display()
            );
            Ok(match start::skew(settings) {
                Some(skew) => Finding::odd("daemon", text, skew),
                None => Finding::fine("daemon", text),
            })
        }
        None if held => Err(Failure::new(
            ErrorKind::Unavailable,
            format!("a daemon is running but does not answer at {}", settings.socket.display()),
        )
        .with_hint(format!("it may be shutting down: wait, or see {}", log.display()))),
        None => Ok(Finding::fine(
            "daemon",
            format!(
                "not running; `samovar run` starts it at {}; log: {}",
                settings.socket.display(),
                log.display()
            ),
        )),
    }
}
