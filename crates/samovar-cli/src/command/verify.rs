//! `samovar verify`: reads models on disk again and holds them against their digests.

use samovar::store::{KeyDigest, Verified, VerifyOptions};
use samovar_core::Failure;
use samovar_core::units::{ByteSize, counted};

use super::{Context, follow, stored};
use crate::args::Verify;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Verify) -> Result<(), Ended> {
    let store = context.store().await?;
    let mut keys: Vec<KeyDigest> = Vec::new();
    for name in &arguments.models {
        match stored::all(&store, name, &context.settings).await?.as_slice() {
            [] => return Err(stored::absent(name, &context.settings)?.into()),
            fitting => keys.extend(fitting.iter().map(|artifact| artifact.key_digest)),
        }
    }
    let (watch, steps) = follow::watch();
    let options = VerifyOptions { keys, is_repair: arguments.repair, watch: Some(watch) };
    let work = async { store.verify(&options).await.map_err(Failure::from) };
    let Some(verified) = follow::follow(context, "Reading", steps, work).await? else {
        return Err(Ended::Interrupted);
    };
    if context.report.is_json() {
        let mut object = serde_json::json!(verified);
        object["is_sound"] = verified.is_sound().into();
        context.report.json(&object)?;
    } else {
        show(context, &verified, arguments.repair)?;
    }
    if verified.is_sound() { Ok(()) } else { Err(Ended::Damaged) }
}

fn show(context: &Context, verified: &Verified, is_repair: bool) -> Result<(), Ended> {
    for line in lines(verified) {
        context.report.line(&line)?;
    }
    if let Some(line) = prefixes(verified) {
        context.report.line(&line)?;
    }
    if let Some(line) = packed(verified) {
        context.report.line(&line)?;
    }
    if let Some(line) = prepared(verified) {
        context.report.line(&line)?;
    }
    let read =
        format!("read {} in {}", ByteSize::from_bytes(verified.bytes), counted(verified.blobs, "file"));
    if verified.is_sound() {
        let mended = if verified.repaired.is_empty() { "" } else { ", now" };
        return context.report.line(&format!("{read}: no damage found{mended}"));
    }
    context.report.line(&format!("{read}: damage found"))?;
    if !is_repair {
        context.report.note("hint: `samovar verify --repair` repairs it, and fetches damaged files again");
    }
    Ok(())
}

/// Saved prompts that are no fault, since they can be computed again.
fn prefixes(verified: &Verified) -> Option<String> {
    let prompts = |count| {
        if count == 1 { "1 saved prompt was".to_owned() } else { format!("{count} saved prompts were") }
    };
    (verified.damaged_prefixes > 0).then(|| {
        format!("{} damaged and removed; its prompts are computed again", prompts(verified.damaged_prefixes))
    })
}

/// Packed weights that are no fault, since they can be made again.
fn packed(verified: &Verified) -> Option<String> {
    let files = |count| {
        if count == 1 {
            "1 packed copy of a model was".to_owned()
        } else {
            format!("{count} packed copies of models were")
        }
    };
    (verified.damaged_packed > 0)
        .then(|| format!("{} damaged and removed; made again if it pays", files(verified.damaged_packed)))
}

/// Prepared models that are no fault, since they can be prepared again.
fn prepared(verified: &Verified) -> Option<String> {
    let models = |count| {
        if count == 1 { "1 prepared model was".to_owned() } else { format!("{count} prepared models were") }
    };
    (verified.damaged_prepared > 0).then(|| {
        format!("{} damaged and removed; prepared again at first use", models(verified.damaged_prepared))
    })
}

/// What is wrong, and what was set right, a line each.
fn lines(verified: &Verified) -> Vec<String> {
    let faults = [
        ("damaged, and set aside", &verified.damaged),
        ("gone", &verified.missing),
        ("unreadable", &verified.unreadable),
    ];
    let mut lines = Vec::new();
    for (what, faults) in faults {
        for fault in faults {
            let whose =
                if fault.artifacts.is_empty() { "no model's".to_owned() } else { fault.artifacts.join(", ") };
            lines.push(format!("{whose}: {what}: {} ({})", fault.message, fault.digest));
        }
    }
    let names = [
        ("in the index, but without a manifest", &verified.unfounded),
        ("not whole", &verified.incomplete),
        ("no manifest that can be read", &verified.unreadable_manifests),
        ("set right", &verified.repaired),
    ];
    for (what, names) in names {
        lines.extend(names.iter().map(|name| format!("{name}: {what}")));
    }
    let unrepaired = verified.unrepaired.iter();
    lines.extend(unrepaired.map(|one| format!("{}: could not be repaired: {}", one.reference, one.message)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_were_damaged_are_told_and_are_no_fault() {
        let verified = Verified { damaged_packed: 2, damaged_prefixes: 1, ..Verified::default() };
        assert!(verified.is_sound() && lines(&verified).is_empty());
        assert!(
            packed(&verified).is_some_and(|line| line.starts_with("2 packed copies of models were damaged"))
        );
        assert!(prefixes(&verified).is_some() && packed(&Verified::default()).is_none());
        let verified = Verified { damaged_prepared: 1, ..Verified::default() };
        assert!(
            verified.is_sound() && prepared(&verified).is_some_and(|line| line.starts_with("1 prepared"))
        );
    }
}
