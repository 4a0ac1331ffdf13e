//! Power cuts: as the sweeps, but with the disk gone at the call, and what had not reached it.
//!
//! The disks are mounted in a mount namespace of this test's own, which the kernel takes down with it however it
//! ends: the test starts itself once more inside one.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::disk::{Cut, Disk, Switch};
use crate::scene::Scene;
use crate::sweep::{Extent, Life, Tally};
use crate::tracer::{self, Blow, End, Run};

/// Says that this process is inside.
const INSIDE: &str = "SAMOVAR_CRASH_INSIDE";

/// Whether this process may mount what it likes, unseen by others.
#[expect(clippy::disallowed_methods, reason = "the way by which a test tells its own process what to do")]
pub(crate) fn is_inside() -> bool {
    std::env::var(INSIDE).is_ok()
}

/// Runs a test of this binary in a mount namespace of its own. An error says why that cannot be done.
pub(crate) fn inside(test: &str) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let unshare = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]).args(arguments);
        command.stdin(Stdio::null()).env(INSIDE, "1");
        command
    };
    let probe = unshare(&["true".as_ref()]).output();
    match probe {
        Ok(output) if output.status.success() => (),
        Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => return Err(format!("unshare could not be started: {error}")),
    }
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let status = unshare(&[program.as_ref()]).args(arguments).status();
    status.map(|status| status.success()).map_err(|error| error.to_string())
}

impl Life {
    /// Lives as often as there are points, each time on a new disk that stops there.
    pub(crate) fn cuts(&self, scene: &Scene, extent: Extent) -> Result<Tally> {
        let started = Instant::now();
        let mut switch = Switch::new()?;
        let (whole, _) = self.until(scene, None, &mut switch).context("an undisturbed life")?;
        let mut tally = Tally { calls: whole.calls.len(), ..Tally::default() };
        for at in extent.places(whole.calls.len()) {
            let cuts = if extent == Extent::All { &Cut::BOTH[..] } else { &Cut::BOTH[at % 2..][..1] };
            let mut is_over = false;
            for cut in cuts {
                let blow = Blow { at, is_torn: false };
                let life = self.until(scene, Some((blow, *cut)), &mut switch);
                let (run, violations) = life.with_context(|| format!("{cut:?} at {at}"))?;
                let Some(call) = run.calls.last().filter(|_| run.end == End::Struck) else {
                    is_over = at > whole.calls.len();
                    continue;
                };
                tally.struck += 1;
                let where_ = format!("{}, power cut ({cut:?}) before call {at}, {call}", self.name);
                tally.violations.extend(violations.into_iter().map(|what| format!("{where_}: {what}")));
            }
            if is_over {
                break;
            }
        }
        tally.took = started.elapsed();
        Ok(tally)
    }

    fn until(
        &self,
        scene: &Scene,
        blow: Option<(Blow, Cut)>,
        switch: &mut Switch,
    ) -> Result<(Run, Vec<String>)> {
        let disk = Disk::new()?;
        let cache = disk.root().join("cache");
        (self.before)(scene, &cache).context("what comes before")?;
        disk.sync()?;
        let order = self.order(scene, &cache, disk.elsewhere());
        let cut_power = || blow.map_or(Ok(()), |(_, cut)| switch.cut(cut, &disk.root()));
        let run = tracer::run(&order.command()?, &cache, blow.map(|(blow, _)| blow), cut_power)?;
        anyhow::ensure!(
            matches!(run.end, End::Struck | End::Exited(0)),
            "undisturbed, it ends with {:?}",
            run.end
        );
        let _disk = disk.again()?;
        let violations = self.judge(scene, &order).judge();
        Ok((run, violations))
    }
}
