//! Runs the built-in model in a child process, so that a crash of native code is a finding and not the end of the doctor.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use samovar::worker::sandbox::{Mode, Report};
use samovar_core::{ErrorKind, Failure};

use super::Finding;
use crate::command::Context;
use crate::command::answer::ms;
use crate::command::probe::Found;
use crate::daemon::{log, start, workers};
use crate::home;

/// The built-in model answers within a second; more than this is stuck.
const LIMIT: Duration = Duration::from_secs(120);
/// Batches above this size run other kernels than single tokens.
const BATCH_TOKENS: u32 = 64;

/// Whether models work, and what is taken from the process that they run in.
pub(super) async fn findings(context: &Context) -> Vec<Finding> {
    let found = probe(context).await;
    let sandbox =
        found.as_ref().ok().map(|found| isolation(found.sandbox.as_ref(), context.settings.sandbox));
    let inference = Finding::of("inference", found.and_then(|found| judge(&found)));
    std::iter::once(inference).chain(sandbox).collect()
}

fn isolation(report: Option<&Report>, mode: Mode) -> Finding {
    const NAME: &str = "workers";
    let Some(report) = report else {
        return Finding::odd(
            NAME,
            "models run in the daemon: a crash of one ends the daemon",
            if workers::ARE_POSSIBLE {
                "set pool.workers = true"
            } else {
                "separate processes for models need Linux"
            },
        );
    };
    let text = format!("each model runs in its own process; sandbox {report}");
    match (report.first_missing(), mode) {
        (None, _) => Finding::fine(NAME, text),
        (Some(_), Mode::Off) => Finding::odd(
            NAME,
            "each model runs in its own process, with all rights of the daemon",
            "set pool.sandbox = \"auto\"",
        ),
        (Some((part, why)), _) => Finding::odd(NAME, text, format!("without {}: {why}", part.name())),
    }
}

fn judge(found: &Found) -> Result<String, Failure> {
    if found.prompt_tokens < BATCH_TOKENS || found.text.trim().is_empty() {
        return Err(Failure::new(
            ErrorKind::EngineFailed,
            format!("the model read {} tokens and said {:?}", found.prompt_tokens, found.text),
        )
        .with_hint("the build may be faulty: rebuild, and compare with another compiler"));
    }
    Ok(format!(
        "the built-in model loads in {}, reads {:.0} and writes {:.0} tokens per second",
        ms(found.load_ms),
        found.prefill_tokens_per_s,
        found.decode_tokens_per_s
    ))
}

async fn probe(context: &Context) -> Result<Found, Failure> {
    let failed = |what: String| {
        Failure::new(ErrorKind::EngineFailed, what)
            .with_hint("the native build does not fit this machine; rebuild it here, after `cargo clean`")
    };
    let mut command = tokio::process::Command::new(start::own_program()?);
    if let Some(config) = &context.settings.config_file {
        command.arg("--config").arg(config);
    }
    if let Some(root) = &context.settings.home.root {
        command.arg("--home").arg(root);
    }
    command.args(["--json", "probe"]).env("GGML_NO_BACKTRACE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("the built-in model gave no answer within {} s", LIMIT.as_secs())))?
        .map_err(|error| failed(format!("the check could not be started: {}", home::plain(&error))))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(format!("the answer of the check could not be read: {error}")));
    }
    Err(told(&output.stderr).unwrap_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = log::cause_of_death(stderr.lines()).or_else(|| stderr.lines().last());
        let said = said.map(|line| format!(": {line}")).unwrap_or_default();
        failed(format!("running the built-in model {}{said}", how_it_ended(output.status)))
    }))
}

/// The failure that the child itself reports, if it still could.
fn told(stderr: &[u8]) -> Option<Failure> {
    let text = String::from_utf8_lossy(stderr);
    let object: serde_json::Value = serde_json::from_str(text.lines().last()?).ok()?;
    serde_json::from_value(object["error"].clone()).ok()
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("crashed with signal {signal}"),
        None => format!("failed with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_crash_is_told_as_one() {
        assert_eq!(how_it_ended(ExitStatus::from_raw(4)), "crashed with signal 4");
    }

    #[test]
    fn the_childs_own_failure_is_preferred() {
        let stderr = b"noise\n{\"error\":{\"kind\":\"storage\",\"message\":\"disk full\",\"hint\":\"free some\",\"exit_code\":74}}\n";
        let failure = told(stderr).expect("a failure");
        assert_eq!((failure.kind, failure.hint.as_deref()), (ErrorKind::Storage, Some("free some")));
        assert!(told(b"Illegal instruction").is_none());
    }

    #[test]
    fn what_is_not_taken_from_workers_is_told() {
        use samovar::worker::sandbox::{Part, PartStatus};

        use super::super::State;

        let mut report = Report::missing("no landlock here");
        let finding = isolation(Some(&report), Mode::Auto);
        assert_eq!(finding.state, State::Odd);
        assert!(finding.hint.unwrap().contains("no landlock here"));
        assert!(isolation(Some(&report), Mode::Off).text.contains("all rights"));
        report.parts = Part::ALL.map(|part| (part, PartStatus::Reached("somehow".into()))).into();
        assert_eq!(isolation(Some(&report), Mode::Auto).state, State::Fine);
        assert_eq!(isolation(None, Mode::Auto).state, State::Odd);
    }

    #[test]
    fn an_empty_or_short_answer_is_broken() {
        let found = Found {
            prompt_tokens: 100,
            completion_tokens: 32,
            load_ms: 1.0,
            prefill_tokens_per_s: 1.0,
            decode_tokens_per_s: 1.0,
            text: "went home".into(),
            sandbox: None,
        };
        assert!(judge(&found).is_ok());
        assert!(judge(&Found { prompt_tokens: 10, ..found.clone() }).is_err());
        assert!(judge(&Found { text: " ".into(), ..found }).is_err());
    }
}
