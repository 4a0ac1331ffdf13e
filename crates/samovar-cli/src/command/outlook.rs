//! What `show` prints of a model that is at its source: its variants, and what each would take and give here. Nothing is fetched but
//! headers.

use samovar::{Builder, MemoryInUse, MemoryUser, Outlook, VariantForm, VariantOutlook, Verdict};
use samovar_core::Failure;
use samovar_core::units::ByteSize;
use serde_json::json;

use super::Context;
use super::show::role;
use crate::client::Figures;
use crate::ended::Ended;
use crate::report::{Align, Columns};

/// What stands before the recommended variant.
const MARK: &str = "*";

/// Asks the source, and says what a daemon has in memory.
pub(super) async fn show(context: &Context, model: &str) -> Result<(), Ended> {
    let memory = memory(context).await?;
    let progress = context.report.progress();
    progress.say("Asking the source");
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    let outlook = Box::pin(here.outlook(model, memory)).await?;
    drop(progress);
    let main = main_of(&outlook);
    if context.report.is_json() {
        let mut object = json!(outlook);
        object["tier"] = "l3".into();
        if let Some(main) = main {
            object["name"] = json!(main.reference);
            object["key"] = json!(main.key);
            object["files"] = json!(main.files);
            object["size_bytes"] = json!(main.fetched_bytes);
            object["missing_bytes"] = json!(main.missing_bytes);
        }
        return context.report.json(&object);
    }
    if let Some(main) = main {
        context.report.table(facts(&outlook, main))?;
        context.report.line("")?;
    }
    context.report.table(variants(&outlook))?;
    if let Some(reason) = &outlook.reason {
        context.report.line(&format!("\n{MARK} {reason}"))?;
    }
    match main {
        Some(main) if outlook.variants.iter().all(|variant| variant.key == main.key) => {
            context.report.line("")?;
            context.report.table(files(main))
        }
        _ => Ok(()),
    }
}

/// What a daemon has in memory, if there is one.
async fn memory(context: &Context) -> Result<Option<MemoryInUse>, Failure> {
    let Some(daemon) = context.client().connect().await? else { return Ok(None) };
    let Figures { pool, models, .. } = Figures::read(&daemon.stats().await?)?;
    let users = models.into_iter().map(|model| MemoryUser {
        name: model.name,
        bytes: model.held_bytes.saturating_add(model.mapped_bytes),
        idle_ms: model.idle_ms,
        is_pinned: model.is_pinned,
    });
    Ok(Some(MemoryInUse {
        budget_bytes: pool.budget_bytes,
        used_bytes: pool.resident_bytes.saturating_add(pool.reserved_bytes),
        users: users.filter(|user| user.bytes > 0).collect(),
    }))
}

/// The variant that the name means, or would; else the largest.
fn main_of(outlook: &Outlook) -> Option<&VariantOutlook> {
    let recommended = outlook.variants.iter().find(|variant| variant.is_recommended);
    recommended.or_else(|| outlook.variants.first())
}

fn size(bytes: u64) -> String {
    ByteSize::from_bytes(bytes).to_string()
}

fn facts(outlook: &Outlook, main: &VariantOutlook) -> Columns {
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    row("name", outlook.model.clone());
    row("from", format!("{} {}, commit {}", main.key.source, main.key.model, main.key.commit));
    row("where", "at its source (L3), not on this machine".to_owned());
    let here = main.fetched_bytes.saturating_sub(main.missing_bytes);
    if here > 0 {
        row("on disk", format!("{} of the {} of {}", size(here), size(main.fetched_bytes), main.reference));
    }
    if let Some(usual) = main.usual {
        let trained = main.trained_context_tokens.map(|tokens| format!(" (trained for {tokens})"));
        let trained = trained.unwrap_or_default();
        row("context", format!("{} tokens for each request{trained}", usual.context_tokens));
    }
    let Outlook { budget_bytes, free_bytes, .. } = outlook;
    row("memory", format!("{} for all models, {} of it free now", size(*budget_bytes), size(*free_bytes)));
    if let Some(rate) = outlook.read_bytes_per_s {
        let whose = if outlook.is_read_rate_of_models {
            "as models read it here"
        } else {
            "as measured; models reach less"
        };
        row("speed", format!("{}/s, {whose}", size(rate as u64)));
    }
    columns
}

/// A line for each variant.
fn variants(outlook: &Outlook) -> Columns {
    let mut columns = Columns::new(&[
        ("", Align::Left),
        ("VARIANT", Align::Left),
        ("SIZE", Align::Right),
        ("AT 4K", Align::Right),
        ("AT 32K", Align::Right),
        ("TOKENS/S", Align::Right),
        ("VERDICT", Align::Left),
        ("COMMAND", Align::Left),
    ]);
    for variant in &outlook.variants {
        let at = |place: usize| {
            let bytes = variant.memory.get(place).map(|memory| memory.bytes);
            bytes.map_or_else(|| "-".to_owned(), size)
        };
        columns.row([
            if variant.is_recommended { MARK } else { "" }.to_owned(),
            name(outlook, variant),
            size(variant.bytes),
            at(0),
            at(1),
            speed(variant.tokens_per_s, outlook.is_read_rate_of_models),
            verdict(variant),
            variant.command.clone(),
        ]);
    }
    columns
}

/// What tells a variant from the others.
fn name(outlook: &Outlook, variant: &VariantOutlook) -> String {
    let VariantOutlook { quantization, form, .. } = variant;
    let is_alike = |other: &&VariantOutlook| other.quantization == *quantization && other.form == *form;
    let is_only = outlook.variants.iter().filter(is_alike).count() == 1;
    match form {
        VariantForm::Published => format!("{quantization}, as published"),
        VariantForm::Prepared => format!("{quantization}, prepared"),
        _ if is_only && !quantization.is_empty() => quantization.clone(),
        _ => variant.files.first().map(|file| file.path.to_string()).unwrap_or_default(),
    }
}

fn speed(tokens_per_s: Option<f64>, is_of_models: bool) -> String {
    let about = if is_of_models { "~" } else { "<" };
    match tokens_per_s {
        Some(speed) if speed < 9.95 => format!("{about}{speed:.1}"),
        Some(speed) => format!("{about}{speed:.0}"),
        None => "-".to_owned(),
    }
}

fn verdict(variant: &VariantOutlook) -> String {
    let others = variant.others.join(", ");
    match (variant.verdict, &variant.problem, variant.form) {
        (Verdict::FitsNow, ..) => "fits now".to_owned(),
        (Verdict::AfterEvictions, ..) => format!("fits after {others} left"),
        (Verdict::AfterUnpinning, ..) if others.is_empty() => "not while memory is reserved".to_owned(),
        (Verdict::AfterUnpinning, ..) if variant.others.len() == 1 => format!("not while {others} is pinned"),
        (Verdict::AfterUnpinning, ..) => format!("not while {others} are pinned"),
        (Verdict::Never, ..) => "never here".to_owned(),
        (_, Some(problem), _) => problem.clone(),
        (_, None, VariantForm::Published) => "is prepared once, then loaded".to_owned(),
        (_, None, _) => "not known".to_owned(),
    }
}

fn files(variant: &VariantOutlook) -> Columns {
    let mut files = Columns::new(&[("FILE", Align::Left), ("ROLE", Align::Left), ("SIZE", Align::Right)]);
    for file in &variant.files {
        let bytes = file.size.map_or_else(|| "?".to_owned(), size);
        files.row([file.path.to_string(), role(file.role).to_owned(), bytes]);
    }
    files
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn variant(quantization: &str, bytes: u64, verdict: &str, others: &[&str]) -> Value {
        let reference = format!("hf://o/n:{quantization}");
        let commit = "a".repeat(40);
        json!({
            "command": format!("samovar pull {reference}"),
            "reference": reference,
            "form": "mapped",
            "quantization": quantization,
            "key": { "source": "hub", "model": "o/n", "commit": commit, "quant": quantization, "modality": "text" },
            "files": [{ "path": format!("n-{quantization}.gguf"), "role": "weights", "size": bytes }],
            "bytes": bytes,
            "fetched_bytes": bytes,
            "missing_bytes": bytes,
            "trained_context_tokens": 131_072,
            "usual": { "context_tokens": 4096, "slots": 1, "bytes": bytes + 500_000_000 },
            "memory": [
                { "context_tokens": 4096, "slots": 1, "bytes": bytes + 500_000_000 },
                { "context_tokens": 32_768, "slots": 1, "bytes": bytes + 4_000_000_000_u64 },
            ],
            "verdict": verdict,
            "others": others,
            "tokens_per_s": 40e9 / bytes as f64,
            "is_recommended": quantization == "Q4_K_M",
        })
    }

    #[test]
    fn a_line_for_each_variant_says_what_it_takes_and_gives() {
        let outlook = json!({
            "model": "o/n",
            "budget_bytes": 9_000_000_000_u64,
            "free_bytes": 6_000_000_000_u64,
            "read_bytes_per_s": 40e9,
            "is_read_rate_of_models": true,
            "reason": "Q4_K_M: it fits",
            "variants": [
                variant("Q8_0", 8_540_000_000, "never", &[]),
                variant("Q6_K", 6_600_000_000, "after_evictions", &["writer", "old"]),
                variant("Q4_K_M", 4_920_000_000, "fits_now", &[]),
            ],
        });
        let outlook: Outlook = serde_json::from_value(outlook).expect("an outlook");
        let table = variants(&outlook).render(false);
        let table: Vec<&str> = table.lines().collect();
        let expected = [
            "   VARIANT    SIZE   AT 4K   AT 32K  TOKENS/S  VERDICT                      COMMAND",
            "   Q8_0     8.5 GB  9.0 GB  12.5 GB      ~4.7  never here                   samovar pull hf://o/n:Q8_0",
            "   Q6_K     6.6 GB  7.1 GB  10.6 GB      ~6.1  fits after writer, old left  samovar pull hf://o/n:Q6_K",
            "*  Q4_K_M   4.9 GB  5.4 GB   8.9 GB      ~8.1  fits now                     samovar pull hf://o/n:Q4_K_M",
        ];
        assert_eq!(table, expected);
        let facts = facts(&outlook, main_of(&outlook).expect("one is recommended")).render(false);
        assert!(facts.contains("4096 tokens for each request (trained for 131072)"), "{facts}");
        assert!(facts.contains("9.0 GB for all models, 6.0 GB of it free now"), "{facts}");
    }

    #[test]
    fn one_model_is_pinned_and_several_are() {
        let said = |others: &[&str]| {
            let value = variant("Q8_0", 8_540_000_000, "after_unpinning", others);
            verdict(&serde_json::from_value(value).expect("a variant"))
        };
        assert_eq!(said(&["writer"]), "not while writer is pinned");
        assert_eq!(said(&["writer", "old"]), "not while writer, old are pinned");
        assert_eq!(said(&[]), "not while memory is reserved");
    }
}
