//! `samovar show`: one model in detail: what its header says, its files, its use, and where it is. Works
//! without a daemon; a model that is not here is judged at its source.

use samovar::store::{Artifact, DerivedFacts, Error, PrefixUse, Role};
use samovar::{
    Alias, Builder, EmbedderInfo, Instances, ModelInfo, Origin, PackedInfo, TemplateOrigin, ToolSupport,
};
use samovar_core::footprint::Speed;
use samovar_core::units::{ByteSize, counted};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use super::answer::ms;
use super::backend::portable;
use super::list::{BUILT_IN, format, parameters, used};
use super::{Context, outlook, pack, stored};
use crate::client::Figures;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, name: &str) -> Result<(), Ended> {
    let reference = portable(name, &context.settings)?;
    if let Some(artifact) = stored::on_disk(context, name).await? {
        let is_name = |alias: &Alias| alias.name == name;
        // Weights that no engine of ours can read are shown without what their header says.
        let info = if context.settings.runtime.aliases.iter().any(is_name) {
            match describe(context, &reference).await {
                Err(failure) if failure.kind == ErrorKind::Unsupported => None,
                described => Some(described?),
            }
        } else {
            describe(context, &artifact.reference).await.ok()
        };
        return stored_model(context, &artifact, info.as_ref()).await;
    }
    if matches!(stored::source(name, &context.settings), Ok(Some(_))) {
        return outlook::show(context, &reference).await;
    }
    let info = describe(context, &reference).await?;
    let packed = packed(context, &reference).await;
    let embedder = embedder(context, &info, &reference).await;
    if context.report.is_json() {
        let mut object = json!(info);
        object["packed"] = json!(packed);
        object["embedder"] = json!(embedder);
        return context.report.json(&object);
    }
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    columns.row(["name".to_owned(), info.name.clone()]);
    let (place, form) = if info.path.is_dir() { ("folder", ", converted") } else { ("file", "") };
    columns.row([place.to_owned(), format!("{}{form}", info.path.display())]);
    header(&mut columns, &info, configured_context(context, name), embedder.as_ref());
    if let Some(packed) = &packed {
        layouts(&mut columns, packed);
    }
    context.report.table(columns)
}

/// By this process's own reading; names that only the daemon knows are asked of it.
async fn describe(context: &Context, reference: &str) -> Result<ModelInfo, Failure> {
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    match here.model(reference, Origin::Owner).await {
        Err(failure) if failure.kind == ErrorKind::NotFound => {
            let Some(daemon) = context.client().connect().await? else { return Err(failure) };
            let known = daemon.models().await?.models;
            known.into_iter().find(|model| model.name == reference).ok_or(failure)
        }
        outcome => outcome,
    }
}

/// What its vectors are, of a model that makes some.
async fn embedder(context: &Context, info: &ModelInfo, reference: &str) -> Option<EmbedderInfo> {
    if info.capabilities.iter().all(|work| work == "generate") {
        return None;
    }
    let here = Builder::settings(context.settings.runtime.clone()).build().ok()?;
    here.embedder(reference, Origin::Owner).await.ok()
}

/// Tokens of context that the settings ask for.
fn configured_context(context: &Context, name: &str) -> Option<u32> {
    let runtime = &context.settings.runtime;
    let alias = runtime.aliases.iter().find(|alias| alias.name == name);
    alias.and_then(|alias| alias.settings.context_tokens).or(runtime.defaults.context_tokens)
}

fn header(
    columns: &mut Columns,
    model: &ModelInfo,
    configured_context: Option<u32>,
    embedder: Option<&EmbedderInfo>,
) {
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    row("architecture", model.architecture.clone());
    // Of a daemon of an older version it is not known.
    if !model.capabilities.is_empty() {
        row("capabilities", model.capabilities.join(", "));
    }
    if let Some(embedder) = embedder {
        for (name, text) in vectors(embedder) {
            row(name, text);
        }
    }
    row("parameters", parameters(model.parameters));
    row("format", model.quantization.clone());
    row("size", ByteSize::from_bytes(model.size_bytes).to_string());
    let trained = model.trained_context_tokens;
    let too_much = configured_context.filter(|asked| *asked > trained && trained > 0);
    let too_much = too_much.map(|asked| format!("; {asked} are configured")).unwrap_or_default();
    row(
        "context",
        format!("{} tokens for each request (trained for {trained}{too_much})", model.context_tokens),
    );
    // The engine looks at the shape of a model's heads and at the KV cache's format.
    row("device", "CPU, flash attention where the model allows it".to_owned());
    row("slots", format!("{} at the same time", counted(model.slots, "request")));
    let Instances { min, max } = model.instances;
    if max > 1 {
        let at_most = if max > min { format!(", at most {max}") } else { String::new() };
        row("instances", format!("{min}{at_most}"));
    }
    match &model.chat_template {
        TemplateOrigin::Own => {}
        TemplateOrigin::Missing if !writes_text(model) => {}
        TemplateOrigin::Missing => row(
            "chat template",
            "ChatML, because its file has no template: set chat_template if the answers look wrong"
                .to_owned(),
        ),
        TemplateOrigin::BuiltIn(name) => row("chat template", format!("{name}, by its settings")),
        TemplateOrigin::File(path) => row("chat template", path.display().to_string()),
        _ => row("chat template", "another than its file's".to_owned()),
    }
    match model.tools {
        Some(ToolSupport::ByTemplate) => row("tools", "by its chat template".to_owned()),
        Some(_) => row("tools", "described before the conversation: its chat template knows none".to_owned()),
        None => {}
    }
    if model.thinks {
        row("thinking", "before it answers".to_owned());
    }
    for adapter in &model.adapters {
        row("adapter", adapter.clone());
    }
    if !model.needs.is_empty() {
        row("needs", model.needs.join(", "));
    }
    if let Some(draft) = &model.draft {
        row("draft model", format!("{draft}, in memory with it"));
    }
    row("memory", format!("{} when loaded, by prediction", ByteSize::from_bytes(model.predicted_bytes)));
}

/// Whether the model can be asked for text; a daemon of an older version says nothing, and knew no other models.
fn writes_text(model: &ModelInfo) -> bool {
    model.capabilities.is_empty() || model.capabilities.iter().any(|work| work == "generate")
}

/// What its vectors are, and what stored ones must have in common with them.
fn vectors(embedder: &EmbedderInfo) -> Vec<(&'static str, String)> {
    let EmbedderInfo { pooling, dimensions, max_input_tokens, .. } = embedder;
    let longest = format!("inputs of at most {}", counted(*max_input_tokens, "token"));
    let mut rows = vec![
        ("vectors", format!("{dimensions} dimensions, pooling {}, {longest}", pooling.as_str())),
        ("fingerprint", embedder.fingerprint.clone()),
    ];
    let prompts = [("query prompt", &embedder.query_prompt), ("document prompt", &embedder.document_prompt)];
    rows.extend(
        prompts
            .iter()
            .filter(|(_, prompt)| !prompt.is_empty())
            .map(|(name, prompt)| (*name, format!("{prompt:?}"))),
    );
    rows
}

async fn stored_model(context: &Context, artifact: &Artifact, info: Option<&ModelInfo>) -> Result<(), Ended> {
    let is_loaded = is_loaded(context, artifact, info).await?;
    let packed = match info {
        Some(info) => packed(context, &info.name).await,
        None => None,
    };
    let embedder = match info {
        Some(info) => embedder(context, info, &info.name).await,
        None => None,
    };
    let (store, key) = (context.store().await?, artifact.key_digest);
    let (prefixes, mut prepared) =
        stored::blocking(move || Ok::<_, Error>((store.prefixes_of(&key)?, store.prepared().list()?)))
            .await?;
    prepared.retain(|file| file.parent == Some(key));
    if context.report.is_json() {
        let mut object = as_json(artifact, info, is_loaded);
        object["prefixes"] = json!(prefixes);
        object["prepared"] = json!(prepared);
        object["packed"] = json!(packed);
        object["embedder"] = json!(embedder);
        return context.report.json(&object);
    }
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    columns.row(["name".to_owned(), artifact.reference.clone()]);
    match info {
        Some(info) => {
            header(&mut columns, info, configured_context(context, &info.name), embedder.as_ref());
        }
        None => columns.row(["format".to_owned(), format(artifact)]),
    }
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    row("from", from(artifact));
    row("where", if is_loaded { "in memory (L1), and on disk (L2)" } else { "on disk (L2)" }.to_owned());
    let pinned = if artifact.is_pinned { ", pinned" } else { "" };
    let files = counted(artifact.files.len(), "file");
    row("on disk", format!("{} in {files}{pinned}", ByteSize::from_bytes(artifact.bytes())));
    for (name, text) in uses(artifact) {
        row(name, text);
    }
    for file in &prepared {
        row("prepared", prepared_as(file));
    }
    if let Some(text) = prompts(prefixes) {
        row("prompts", text);
    }
    if let Some(packed) = &packed {
        layouts(&mut columns, packed);
    }
    context.report.table(columns)?;
    context.report.line("")?;
    context.report.table(files_table(artifact))
}

/// How its weights lie: as the daemon knows it, else by this process's own reading.
async fn packed(context: &Context, name: &str) -> Option<PackedInfo> {
    if let Ok(Some(daemon)) = context.client().connect().await
        && let Ok(answer) = daemon.why(name).await
        && let Ok(packed) = serde_json::from_value(answer["packed"].clone())
    {
        return Some(packed);
    }
    let here = Builder::settings(context.settings.runtime.clone()).build().ok()?;
    here.packed(name).await.ok()
}

fn layouts(columns: &mut Columns, info: &PackedInfo) {
    columns.row(["layout".to_owned(), pack::layout(info)]);
    if let Some(text) = pack::file(info) {
        columns.row(["packed".to_owned(), text]);
    }
    for speed in &info.speeds {
        let Speed { layout, prefill, decode, decode_eight, .. } = speed;
        let busy =
            if speed.is_provisional() { " (measured while other programs used the cores)" } else { "" };
        let rates =
            format!("{prefill:.0} prompt, {decode:.1} answer, {decode_eight:.1} of eight answers{busy}");
        columns.row([format!("  {layout}"), format!("{rates}, in tokens per second")]);
    }
}

/// Whether the daemon has it in memory.
async fn is_loaded(
    context: &Context,
    artifact: &Artifact,
    info: Option<&ModelInfo>,
) -> Result<bool, Failure> {
    let Some(daemon) = context.client().connect().await? else { return Ok(false) };
    let figures = Figures::read(&daemon.stats().await?)?;
    let is_it = |name: &str| name == artifact.reference || info.is_some_and(|info| info.name == name);
    Ok(figures.models.iter().any(|model| is_it(&model.name) && model.held_bytes + model.mapped_bytes > 0))
}

fn as_json(artifact: &Artifact, info: Option<&ModelInfo>, is_loaded: bool) -> Value {
    let mut object = info
        .and_then(|info| serde_json::to_value(info).ok())
        .unwrap_or_else(|| json!({ "name": artifact.reference, "size_bytes": artifact.bytes() }));
    object["tier"] = if is_loaded { "l1" } else { "l2" }.into();
    object["artifact"] = json!(artifact);
    object
}

fn from(artifact: &Artifact) -> String {
    let key = &artifact.key;
    if key.source.as_str() == BUILT_IN {
        return "part of this program".to_owned();
    }
    format!("{} {}, commit {}", key.source, key.model, key.commit)
}

fn uses(artifact: &Artifact) -> Vec<(&'static str, String)> {
    let usage = &artifact.usage;
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let times = match usage.hits {
        0 => "never".to_owned(),
        1 => format!("once, {}", used(Some(usage.last_ms))),
        hits => format!("{hits} times, last {}", used(Some(usage.last_ms))),
    };
    let mut rows = vec![("used", times)];
    if usage.loads > 0 {
        let (held, mapped) = (usage.footprint.held_bytes, usage.footprint.mapped_bytes);
        let measured = if held + mapped > 0 {
            format!(", holding {} and mapping {}, as measured", size(held), size(mapped))
        } else {
            String::new()
        };
        rows.push(("loads", format!("{}, {} each{measured}", usage.loads, ms(usage.load_ms))));
    }
    if usage.fetch_bytes_per_s > 0.0 {
        rows.push(("fetched", format!("at {}/s", size(usage.fetch_bytes_per_s as u64))));
    }
    rows
}

/// A file that was converted of it. Its key ends with the number format, or says that it is an adapter.
fn prepared_as(file: &DerivedFacts) -> String {
    let quantization = file.key.rsplit(' ').next().unwrap_or_default();
    let size = ByteSize::from_bytes(file.bytes);
    format!("as {quantization}, {size}, used {}", used(Some(file.used_ms)))
}

/// What is kept so that prompts which begin alike need not be computed again.
fn prompts(prefixes: PrefixUse) -> Option<String> {
    let PrefixUse { count, bytes } = prefixes;
    (count > 0)
        .then(|| format!("state of {} kept, {}", counted(count, "prompt"), ByteSize::from_bytes(bytes)))
}

fn files_table(artifact: &Artifact) -> Columns {
    let mut columns = Columns::new(&[
        ("FILE", Align::Left),
        ("ROLE", Align::Left),
        ("SIZE", Align::Right),
        ("SHA-256", Align::Left),
    ]);
    for file in &artifact.files {
        let digest = file.digest.to_string();
        columns.row([
            file.path.to_string(),
            role(file.role).to_owned(),
            ByteSize::from_bytes(file.size).to_string(),
            digest.rsplit(':').next().unwrap_or_default().to_owned(),
        ]);
    }
    columns
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Weights => "weights",
        Role::Projector => "projector",
        Role::Tokenizer => "tokenizer",
        Role::Template => "template",
        Role::Config => "config",
        Role::Other => "other",
    }
}
