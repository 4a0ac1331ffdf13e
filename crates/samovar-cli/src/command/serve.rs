//! `samovar serve`: this process is the daemon, for a person to watch or in the background for `run`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use samovar_core::{Failure, ModelRef};
use samovar_server::KeyFile;
use serde_json::json;

use super::{Context, backend};
use crate::args::Serve;
use crate::daemon::log::{self, LogTarget};
use crate::daemon::resident::{self, ListenAddresses, ServeOptions};
use crate::daemon::start::StartReport;
use crate::ended::Ended;
use crate::home;
use crate::settings::Settings;
use crate::settings::value::DEFAULT_PORT;

/// Where `samovar serve` listens by default.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);
/// A daemon that `run` started ends when no client has needed it for so long.
const BACKGROUND_IDLE_EXIT: Duration = Duration::from_secs(30 * 60);

pub(super) async fn execute(context: &Context, arguments: Serve) -> Result<(), Ended> {
    let settings = &context.settings;
    let in_background = arguments.background;
    let default_idle = in_background.then_some(BACKGROUND_IDLE_EXIT);
    let options = ServeOptions {
        in_background,
        // A user of `run` did not ask for an open port.
        listen: settings.listen.or_else(|| (!in_background).then_some(DEFAULT_LISTEN)),
        ollama_listen: ollama_listen(settings, &arguments),
        idle_exit: settings.idle_exit.or(default_idle).filter(|after| !after.is_zero()),
        models: models(context, &arguments)?,
        is_insecure: arguments.insecure_no_auth || settings.is_insecure,
    };
    if in_background { background(context, options).await } else { foreground(context, options).await }
}

/// Where Ollama's clients are served besides, if anywhere. A daemon that `run` started opens no port of itself.
fn ollama_listen(settings: &Settings, arguments: &Serve) -> Option<SocketAddr> {
    let is_asked = arguments.as_ollama && !arguments.background;
    let configured = settings.ollama_address.filter(|_| !arguments.background);
    configured.or_else(|| is_asked.then_some(settings.ollama_host))
}

fn models(context: &Context, arguments: &Serve) -> Result<Vec<String>, Failure> {
    arguments.models.iter().map(|name| backend::portable(name, &context.settings)).collect()
}

async fn foreground(context: &Context, options: ServeOptions) -> Result<(), Ended> {
    let place = LogTarget::Stderr { is_coloured: context.report.colours_stderr() };
    log::begin(&place, &context.settings.log_level)?;
    let model = options.models.first().cloned().unwrap_or_else(|| context.settings.default_model.clone());
    let mut greeted = Ok(());
    let names = context.watched.clone();
    resident::live(&context.settings, names, options, |addresses| {
        greeted = greet(context, addresses, &model);
    })
    .await?;
    greeted
}

/// Tells a person where the daemon is and how to call it.
fn greet(context: &Context, addresses: &ListenAddresses, model: &str) -> Result<(), Ended> {
    if context.report.is_json() {
        return context.report.json(
            &json!({ "pid": std::process::id(), "listen": addresses.listen, "ollama": addresses.ollama,
                     "socket": addresses.socket }),
        );
    }
    context.report.line(&format!("samovar {} is serving", env!("CARGO_PKG_VERSION")))?;
    context.report.line(&format!("  socket  {}", addresses.socket.display()))?;
    if let Some(address) = addresses.ollama {
        context
            .report
            .line(&format!("  ollama  http://{address}      (for clients that look for Ollama)"))?;
    }
    let Some(address) = addresses.listen else { return Ok(()) };
    let scheme = if context.settings.tls.is_some() { "https" } else { "http" };
    context.report.line(&format!(
        "  {scheme:<6}  {scheme}://{address}      (a page for browsers; the APIs of Anthropic, Ollama and llama-server)"
    ))?;
    context.report.line(&format!("          {scheme}://{address}/v1   (OpenAI's API)"))?;
    // Over the network a file goes by its short name.
    let name = match model.parse() {
        Ok(ModelRef::File(path)) => {
            path.file_stem().map_or(model.into(), |stem| stem.to_string_lossy().into_owned())
        }
        _ => model.to_owned(),
    };
    let body =
        json!({ "model": name, "messages": [{ "role": "user", "content": "Tell me a story about a fox" }] });
    // The daemon has read the file already, so it can be read.
    let has_keys = KeyFile::new(context.settings.home.keys_file()).read().is_ok_and(|keys| !keys.is_empty());
    let key = if has_keys { " -H \"authorization: Bearer $KEY\"" } else { "" };
    context.report.line(&format!(
        "\nTry it:\n  curl {scheme}://{address}/v1/chat/completions -H 'content-type: application/json'{key} \\\n    -d '{body}'\n\nCtrl-C ends it."
    ))
}

/// Without terminal or reader: it reports only to the process that started it.
async fn background(context: &Context, options: ServeOptions) -> Result<(), Ended> {
    log::begin(&LogTarget::File(context.settings.home.log_file()), &context.settings.log_level)?;
    // A directory that can be unmounted while we run.
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::warn!(error = home::plain(&error), "stays in its working directory");
    }
    let mut is_up = false;
    let names = context.watched.clone();
    let outcome = resident::live(&context.settings, names, options, |_| {
        is_up = true;
        speak(&StartReport::Ready);
    })
    .await;
    if let Err(failure) = outcome {
        tracing::error!(hint = failure.hint, "{failure}");
        if !is_up {
            speak(&StartReport::Failed(failure.clone()));
        }
        return Err(Ended::Shown(failure.kind));
    }
    Ok(())
}

/// Says the one word and closes the pipe behind it.
pub(crate) fn speak(word: &StartReport) {
    use std::io::Write;
    let line = serde_json::to_vec(word).expect("invariant: a word serializes");
    let mut stdout = std::io::stdout().lock();
    // The process that started us may have ended; we serve on.
    stdout.write_all(&line).and_then(|()| stdout.flush()).ok();
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        rustix::stdio::dup2_stdout(null).ok();
    }
}
