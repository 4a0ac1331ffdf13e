//! Who answers: the daemon, or a runtime in this process. Both give the same events.
//!
//! ```text
//!   Backend::Daemon     Request ─► socket ─► GenerateEvent ─┐
//!   Backend::Here       Request ─► Runtime ─────────────────┴─► AnswerEvent
//! ```

use std::path::Path;
use std::time::Duration;

use samovar::{Answer, AnswerEvent, Builder, Common, Request, Runtime, WarmOptions, Work};
use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_server::admin::wire::{
    DetokenizeBody, EmbedBody, GenerateBody, GenerateEvent, TokenizeBody, WarmBody, WarmEvent,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Context, stored};
use crate::client::{Connection, Lines};
use crate::daemon::start;
use crate::home;
use crate::report::Report;
use crate::settings::{RuntimeSettings, Settings};

/// Time for a model in this process to write the state of its prompts down.
const UNLOAD: Duration = Duration::from_secs(3);

/// Who answers.
pub(crate) enum Backend<'a> {
    /// The daemon, started when there is none.
    Daemon(&'a Context),
    /// This process.
    Here(Runtime),
}

impl<'a> Backend<'a> {
    /// The daemon of this context.
    pub(crate) fn daemon(context: &'a Context) -> Self {
        Self::Daemon(context)
    }

    /// A runtime in this process; the engine starts now.
    ///
    /// # Errors
    /// `EngineFailed` and the like when the engine does not start here.
    pub(crate) fn here(settings: RuntimeSettings) -> Result<Self, Failure> {
        Ok(Self::Here(Builder::settings(settings).build()?))
    }

    /// Sends a request. A daemon that is just leaving is waited out.
    ///
    /// # Errors
    /// When no daemon is to be had, or it refuses the request before an answer begins.
    pub(crate) async fn generate(&self, mut request: Request) -> Result<Answers<'a>, Failure> {
        match self {
            Self::Here(runtime) => {
                // As the daemon calls the user of its socket: saved state is one person's, with a daemon or without.
                request.common.person = Some(format!("uid {}", rustix::process::geteuid().as_raw()));
                Ok(Answers::Here(runtime.generate(request)))
            }
            Self::Daemon(context) => {
                stored::keep_offline(context, &request.common.model).await?;
                let body = AskedBody::try_from(request)?;
                let lines = send(context, context.daemon().await?, &body).await?;
                Ok(Answers::Daemon(Box::new(Remote { context, body, lines, may_go_elsewhere: true })))
            }
        }
    }

    /// Loads a model, with progress for a person; returns how long that took, in milliseconds.
    ///
    /// # Errors
    /// Whatever keeps the model from being loaded.
    pub(crate) async fn warm(&self, report: &Report, model: &str, pin: bool) -> Result<f64, Failure> {
        match self {
            Self::Here(runtime) => {
                let progress = report.progress();
                let began = tokio::time::Instant::now();
                let (waits, mut waiting) = mpsc::channel(16);
                let watch = async {
                    while let Some(wait) = waiting.recv().await {
                        report.waiting(&progress, model, &wait);
                    }
                };
                let (warmed, ()) =
                    tokio::join!(runtime.warm(model, WarmOptions::default().waits(waits)), watch);
                warmed.map(|()| began.elapsed().as_secs_f64() * 1e3)
            }
            Self::Daemon(context) => {
                stored::keep_offline(context, model).await?;
                let body = WarmBody { model: model.to_owned(), pin };
                let connection = context.daemon().await?;
                let send = async |connection: Connection| connection.warm(&body).await;
                let mut events = start::ask(&context.settings, connection, send).await?;
                let progress = report.progress();
                loop {
                    match event(context, events.next().await).await? {
                        WarmEvent::Waiting(wait) => report.waiting(&progress, model, &wait.into()),
                        WarmEvent::Done { took_ms } => return Ok(took_ms),
                        WarmEvent::Failed(failure) => {
                            return Err(stored::of_daemon(context, model, failure));
                        }
                    }
                }
            }
        }
    }

    /// Token ids of texts. The model is best loaded before: nothing tells how that gets on.
    ///
    /// # Errors
    /// Whatever keeps the model from being asked, or the texts from being read.
    pub(crate) async fn tokenize(&self, body: &TokenizeBody) -> Result<Vec<Vec<u32>>, Failure> {
        let TokenizeBody { model, texts, add_special, parse_special } = body;
        match self {
            Self::Here(runtime) => {
                let common = Common::new(model.as_str());
                runtime.tokenize(common, texts.clone(), *add_special, *parse_special).await
            }
            Self::Daemon(context) => {
                let send = async |connection: Connection| connection.tokenize(body).await;
                let answer = start::ask(&context.settings, context.daemon().await?, send).await;
                answer
                    .map(|answer| answer.tokens)
                    .map_err(|failure| stored::of_daemon(context, model, failure))
            }
        }
    }

    /// Texts of token ids; bytes that are no text become U+FFFD.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize); `InvalidRequest` for ids outside the vocabulary.
    pub(crate) async fn detokenize(&self, body: &DetokenizeBody) -> Result<Vec<String>, Failure> {
        let DetokenizeBody { model, tokens } = body;
        match self {
            Self::Here(runtime) => {
                let texts = runtime.detokenize(Common::new(model.as_str()), tokens.clone()).await?;
                Ok(texts.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
            }
            Self::Daemon(context) => {
                let send = async |connection: Connection| connection.detokenize(body).await;
                let answer = start::ask(&context.settings, context.daemon().await?, send).await;
                answer
                    .map(|answer| answer.texts)
                    .map_err(|failure| stored::of_daemon(context, model, failure))
            }
        }
    }

    /// The numbers of the daemon that answers; `None` while no daemon runs.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(crate) async fn stats(&self) -> Result<Option<Value>, Failure> {
        match self {
            Self::Here(runtime) => {
                let stats = serde_json::to_value(runtime.stats_and_stored().await);
                Ok(Some(stats.expect("invariant: statistics serialize")))
            }
            Self::Daemon(context) => match context.client().connect().await? {
                Some(connection) => connection.stats().await.map(Some),
                None => Ok(None),
            },
        }
    }

    /// Ends a runtime in this process; a daemon stays.
    pub(crate) async fn end(self) {
        if let Self::Here(runtime) = self {
            runtime.shutdown(UNLOAD).await;
        }
    }
}

async fn send(
    context: &Context,
    connection: Connection,
    body: &AskedBody,
) -> Result<Lines<GenerateEvent>, Failure> {
    let send = async |connection: Connection| match body {
        AskedBody::Generate(body) => connection.generate(body).await,
        AskedBody::Embed(body) => connection.embed(body).await,
    };
    start::ask(&context.settings, connection, send).await
}

/// What the daemon is asked, kept so that the next one can be asked the same.
enum AskedBody {
    Generate(Box<GenerateBody>),
    Embed(Box<EmbedBody>),
}

impl AskedBody {
    fn model(&self) -> &str {
        match self {
            Self::Generate(body) => &body.model,
            Self::Embed(body) => &body.model,
        }
    }
}

impl TryFrom<Request> for AskedBody {
    type Error = Failure;

    fn try_from(request: Request) -> Result<Self, Failure> {
        Ok(match request.work {
            Work::Embed(_) => Self::Embed(Box::new(EmbedBody::try_from(request)?)),
            _ => Self::Generate(Box::new(GenerateBody::try_from(request)?)),
        })
    }
}

/// An answer on its way. **Dropping it cancels the request.**
pub(crate) enum Answers<'a> {
    Daemon(Box<Remote<'a>>),
    Here(Answer),
}

/// An answer of the daemon.
pub(crate) struct Remote<'a> {
    context: &'a Context,
    body: AskedBody,
    lines: Lines<GenerateEvent>,
    /// No slot was granted yet and no other daemon asked: should this one leave, the next can answer as well.
    may_go_elsewhere: bool,
}

impl Answers<'_> {
    /// The next event. The last is `Done` or `Failed`.
    ///
    /// # Errors
    /// What became of the daemon, when it goes away before the last event.
    pub(crate) async fn next(&mut self) -> Result<AnswerEvent, Failure> {
        match self {
            Self::Daemon(remote) => remote.next().await,
            Self::Here(answer) => answer
                .next()
                .await
                .ok_or_else(|| Failure::new(ErrorKind::Internal, "the answer ended without a summary")),
        }
    }
}

impl Remote<'_> {
    async fn next(&mut self) -> Result<AnswerEvent, Failure> {
        loop {
            match event(self.context, self.lines.next().await).await? {
                GenerateEvent::Failed(failure)
                    if self.may_go_elsewhere && failure.kind == ErrorKind::Unavailable =>
                {
                    self.may_go_elsewhere = false;
                    let connection = start::next(&self.context.settings).await?;
                    self.lines = send(self.context, connection, &self.body).await?;
                }
                event => {
                    self.may_go_elsewhere &= matches!(event, GenerateEvent::Waiting(_));
                    return Ok(match event.into() {
                        AnswerEvent::Failed(failure) => {
                            AnswerEvent::Failed(stored::of_daemon(self.context, self.body.model(), failure))
                        }
                        event => event,
                    });
                }
            }
        }
    }
}

/// An event, or what became of the daemon instead.
pub(super) async fn event<T>(context: &Context, line: Result<Option<T>, Failure>) -> Result<T, Failure> {
    let failure = match line {
        Ok(Some(event)) => return Ok(event),
        Ok(None) => Failure::new(ErrorKind::Unavailable, "the daemon broke its answer off")
            .with_hint("try again; `samovar doctor` says where its log is"),
        Err(failure) => failure,
    };
    Err(if failure.kind == ErrorKind::Unavailable {
        start::obituary(&context.settings, failure).await
    } else {
        failure
    })
}

/// A model reference as the daemon can read it: its working directory is not ours, so paths are made absolute.
///
/// # Errors
/// `InvalidRequest` for text that names no model.
pub(crate) fn portable(reference: &str, settings: &Settings) -> Result<String, Failure> {
    if settings.runtime.aliases.iter().any(|alias| alias.name == reference) {
        return Ok(reference.to_owned());
    }
    match reference.parse::<ModelRef>()? {
        ModelRef::File(path) => Ok(ModelRef::file(home::absolute(&path)?).to_string()),
        _ if looks_like_a_file(reference) => Err(Failure::new(
            ErrorKind::NotFound,
            format!("there is no model named `{reference}`, but there is a file of that name"),
        )
        .with_param("model")
        .with_hint(format!("a file is named by its path: ./{reference}"))),
        _ => Ok(reference.to_owned()),
    }
}

fn looks_like_a_file(reference: &str) -> bool {
    reference.parse::<ModelRef>().is_ok_and(|parsed| matches!(parsed, ModelRef::Alias(_) | ModelRef::Hub(_)))
        && Path::new(reference).is_file()
}
