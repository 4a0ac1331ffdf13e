//! `samovar link`: what other programs must be told to ask this daemon, and whether it answers them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use samovar::ModelInfo;
use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_server::KeyFile;
use serde_json::json;

use super::{Context, serve, stored};
use crate::args::Link;
use crate::edit;
use crate::ended::Ended;
use crate::home;
use crate::link::{self, ClientProgram, FileForm, KEY_VARIABLE, LinkTarget, Wanted, check};
use crate::report::{Align, Columns, Mark, harmless};
use crate::settings::Settings;

/// A file of settings that is larger is something else.
const FILE_MAX_BYTES: u64 = 4 << 20;
/// What is said of the context where no daemon tells.
const USUAL_CONTEXT_TOKENS: u32 = 4_096;

pub(super) async fn execute(context: &Context, arguments: Link) -> Result<(), Ended> {
    let Some(program) = arguments.program else { return list(context) };
    let (target, remark) = target(context, arguments.model.as_deref()).await?;
    if let Some(remark) = &remark {
        context.report.note(&format!("note: {remark}"));
    }
    if arguments.check {
        return checked(context, program, &target).await;
    }
    let wanted = link::wanted(program, &target);
    if arguments.write {
        write(context, program, &wanted, arguments.file)
    } else {
        show(context, program, &target, &wanted)
    }
}

/// The programs that are known.
fn list(context: &Context) -> Result<(), Ended> {
    let programs = ClientProgram::value_variants();
    if context.report.is_json() {
        let programs: Vec<_> =
            programs.iter().map(|program| json!({ "program": program, "name": program.title() })).collect();
        return context.report.json(&json!({ "programs": programs }));
    }
    let mut columns = Columns::new(&[("PROGRAM", Align::Left), ("NAME", Align::Left)]);
    for program in programs {
        columns.row([program.word(), program.title().to_owned()]);
    }
    context.report.table(columns)?;
    context.report.note(
        "`samovar link PROGRAM` shows its settings; --write writes them, --check asks as the program does",
    );
    Ok(())
}

/// What the program is to ask, and what keeps it from being answered now.
async fn target(context: &Context, named: Option<&str>) -> Result<(LinkTarget, Option<String>), Failure> {
    let settings = &context.settings;
    let mut remark = None;
    let mut listens: Option<SocketAddr> = None;
    let mut is_tls = settings.tls.is_some();
    let mut models: Vec<ModelInfo> = Vec::new();
    match context.client().connect().await? {
        Some(connection) => {
            let stats = connection.stats().await?;
            listens = stats["listen"].as_str().and_then(|text| text.parse().ok());
            if listens.is_some() {
                is_tls = stats["tls"] == true;
            }
            models = context.running_daemon().await?.models().await?.models;
            if listens.is_none() {
                remark =
                    Some("the daemon has no open port: `samovar shutdown`, then `samovar serve`".to_owned());
            }
        }
        None => remark = Some("no daemon is running: `samovar serve` starts one".to_owned()),
    }
    let default_model = network_name(&settings.default_model);
    let address = listens.or(settings.listen).unwrap_or(serve::DEFAULT_LISTEN);
    let info = match named {
        Some(named) => models.iter().find(|model| model.name == named),
        None => link::chat_model(&models, &default_model),
    };
    if let (Some(named), None, false) = (named, info, models.is_empty()) {
        let failure = Failure::new(ErrorKind::NotFound, format!("there is no model named `{named}`"))
            .with_param("model")
            .with_hint("`samovar list` shows the names that programs can use");
        return Err(stored::with_near(named, failure, settings));
    }
    let target = LinkTarget {
        address,
        // A certificate is made for a name rather than for an address.
        host: settings.allowed_hosts.first().filter(|_| is_tls).cloned(),
        is_tls,
        certificate: settings.tls.as_ref().map(|files| files.certificate.clone()),
        chat: info.map_or(named.unwrap_or(&default_model), |model| model.name.as_str()).to_owned(),
        context_tokens: info.map_or(USUAL_CONTEXT_TOKENS, |model| model.context_tokens),
        has_tools: info.is_none_or(|model| model.tools.is_some()),
        embedder: link::embedder(&models).map(|model| model.name.clone()),
        needs_key: needs_key(settings, address),
    };
    Ok((target, remark))
}

/// Whether a daemon at this address asks requests for a key.
fn needs_key(settings: &Settings, address: SocketAddr) -> bool {
    let knows_clients = settings.tls.as_ref().is_some_and(|files| files.client_ca.is_some());
    let is_exposed = !address.ip().is_loopback() && !settings.is_insecure && !knows_clients;
    // No daemon serves without keys while their file cannot be read.
    is_exposed || !KeyFile::new(settings.home.keys_file()).read().is_ok_and(|keys| keys.is_empty())
}

/// The name that requests over the network use: a file goes by its short name.
fn network_name(model: &str) -> String {
    match model.parse() {
        Ok(ModelRef::File(path)) => {
            path.file_stem().map_or_else(|| model.to_owned(), |stem| stem.to_string_lossy().into_owned())
        }
        _ => model.to_owned(),
    }
}

fn show(
    context: &Context,
    program: ClientProgram,
    target: &LinkTarget,
    wanted: &Wanted,
) -> Result<(), Ended> {
    let text = wanted.applied("").map_err(|reason| Failure::new(ErrorKind::Internal, reason))?;
    let file = wanted.file.as_ref().map(|file| format!("~/{}", file.display()));
    if context.report.is_json() {
        return context.report.json(&json!({
            "program": program,
            "file": file,
            "text": text,
            "notes": wanted.notes,
            "url": target.url(),
            "model": target.chat,
            "embedder": target.embedder,
        }));
    }
    context.report.line(&harmless(text.trim_end()))?;
    match (file, wanted.form) {
        (Some(file), _) => context.report.note(&format!(
            "belongs into {file}; `samovar link {} --write` writes it there and keeps a copy of what it was",
            program.word()
        )),
        (None, FileForm::Python) => {}
        (None, _) => {
            context.report.note(&format!(
                "`samovar link {} --write --file FILE` writes it into a file",
                program.word()
            ));
        }
    }
    wanted.notes.iter().for_each(|note| context.report.note(note));
    Ok(())
}

fn write(
    context: &Context,
    program: ClientProgram,
    wanted: &Wanted,
    named: Option<PathBuf>,
) -> Result<(), Ended> {
    let path = place(context, program, wanted, named)?;
    let before = edit::text_before(&path, FILE_MAX_BYTES)?;
    let after = wanted.applied(before.as_deref().unwrap_or_default()).map_err(|reason| {
        Failure::new(ErrorKind::InvalidRequest, format!("{} {reason}", path.display())).with_hint(format!(
            "nothing was written; `samovar link {}` prints what belongs into it",
            program.word()
        ))
    })?;
    let is_new = before.as_deref() != Some(after.as_str());
    let copy = if is_new {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(folder)
            .map_err(|error| home::storage("create the directory", folder, &error))?;
        edit::replace(&path, before.as_deref(), &after, true)?
    } else {
        None
    };
    if context.report.is_json() {
        let answer = json!({ "program": program, "file": path, "changed": is_new, "copy": copy, "notes": wanted.notes });
        return context.report.json(&answer);
    }
    let path = path.display();
    context.report.line(&match (is_new, copy) {
        (false, _) => format!("{path} says so already"),
        (true, None) => format!("wrote {path}"),
        (true, Some(copy)) => format!("wrote {path}; what it was is in {}", copy.display()),
    })?;
    wanted.notes.iter().for_each(|note| context.report.note(note));
    Ok(())
}

/// The file to write.
fn place(
    context: &Context,
    program: ClientProgram,
    wanted: &Wanted,
    named: Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    let refuse = |message: String| Failure::new(ErrorKind::InvalidRequest, message);
    if wanted.form == FileForm::Python {
        return Err(refuse(format!("{} is set up in your own program", program.title()))
            .with_hint(format!("`samovar link {}` prints the lines", program.word())));
    }
    if let Some(named) = named {
        return home::absolute(&named);
    }
    let file = wanted.file.as_ref().ok_or_else(|| {
        refuse(format!("{} has no usual file for its settings", program.title()))
            .with_hint("name one: --write --file FILE")
    })?;
    let user =
        context.settings.foreign.variables.text("HOME").map(PathBuf::from).filter(|user| user.is_absolute());
    let user = user.ok_or_else(|| {
        refuse("HOME is not set, so the place of the file is unknown".to_owned())
            .with_hint("name it: --write --file FILE")
    })?;
    Ok(user.join(file))
}

async fn checked(context: &Context, program: ClientProgram, target: &LinkTarget) -> Result<(), Ended> {
    let key = context.settings.foreign.variables.text(KEY_VARIABLE);
    let asks = check::asks(program, target);
    let progress = context.report.progress();
    progress.say(format!("Asking as {} does", program.title()));
    let checked = check::check(&asks, target, key.as_deref()).await;
    drop(progress);
    let broken = checked.iter().filter(|checked| !checked.works).count();
    if context.report.is_json() {
        context.report.json(
            &json!({ "program": program, "url": target.url(), "model": target.chat, "checks": checked }),
        )?;
    } else {
        for checked in &checked {
            let answer = checked.answer.as_deref().map_or_else(String::new, |answer| format!(": {answer}"));
            let mark = if checked.works { Mark::Fine } else { Mark::Broken };
            context.report.marked(mark, &format!("{} ({}){answer}", checked.what, checked.path))?;
        }
    }
    if broken == 0 {
        return Ok(());
    }
    let hint = format!(
        "`samovar serve` must be running at {}; where it asks for a key, {KEY_VARIABLE} must hold one",
        target.url()
    );
    Err(Failure::new(
        ErrorKind::Unavailable,
        format!("{broken} of {} requests of {} do not work", checked.len(), program.title()),
    )
    .with_hint(hint)
    .into())
}
