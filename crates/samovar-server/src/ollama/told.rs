//! How far something is that takes its time, as one object a line in Ollama's words. It goes on for as long as its lines are read.

use std::sync::Arc;

use samovar::store::{Progress, Transfer, Watch};
use samovar_core::{Digest, Failure};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error;
use crate::app::App;
use crate::generation::running::until_cut;

/// Lines that wait to be sent. A reader that falls behind misses some.
const LINES: usize = 16;
/// Digits of a digest by which clients call what they fetch.
const SHORT_DIGITS: usize = 12;

/// Tells the client how far it is, where there is one that listens.
#[derive(Clone, Debug, Default)]
pub(super) struct Teller(Option<mpsc::WeakSender<Value>>);

impl Teller {
    /// Says one line, unless the reader has fallen behind.
    pub(super) fn say(&self, line: Value) {
        if let Some(lines) = self.0.as_ref().and_then(mpsc::WeakSender::upgrade) {
            lines.try_send(line).ok();
        }
    }

    /// Tells of a fetch of this model.
    pub(super) fn watch(&self, reference: &str) -> Watch {
        let teller = self.clone();
        let digest = Digest::of_bytes(reference.as_bytes());
        Arc::new(move |progress| teller.say(line(&progress, &digest)))
    }
}

/// Does the work and tells of it; the last line is its success or its failure. Dropping the lines drops the work, and so does the
/// end of the server.
pub(super) fn lines<F>(app: &App, work: impl FnOnce(Teller) -> F) -> ReceiverStream<Value>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (app, in_flight) = (app.clone(), app.server.begin());
    let (lines, sent) = mpsc::channel(LINES);
    // The stream ends with this task, also where the work's watch lives on.
    let work = work(Teller(Some(lines.downgrade())));
    crate::task::spawn(async move {
        let abandoned = lines.clone();
        tokio::select! {
            () = abandoned.closed() => {}
            done = until_cut(&app, work) => {
                let last = match done {
                    Ok(()) => status("success"),
                    Err(failure) => error::object(&failure.into()),
                };
                lines.send(last).await.ok();
            }
        }
        drop(in_flight);
    });
    ReceiverStream::new(sent)
}

pub(super) fn status(status: &str) -> Value {
    json!({ "status": status })
}

/// How far a fetch is. Clients draw a bar for each digest and none where there is no digest: this one stands for all files of the
/// model.
fn line(progress: &Progress, digest: &Digest) -> Value {
    match progress {
        Progress::Resolving | Progress::Unanswered { .. } | Progress::Chosen { .. } => {
            status("pulling manifest")
        }
        Progress::Nearby { .. } => status("taking the model from another program"),
        Progress::Fetching(Transfer { done_bytes, total_bytes, .. }) => {
            let digest = digest.to_string();
            json!({
                "status": format!("pulling {}", &digest[..SHORT_DIGITS]),
                "digest": format!("sha256:{digest}"),
                "total": total_bytes,
                "completed": done_bytes,
            })
        }
        Progress::Verifying(_) => status("verifying sha256 digest"),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use samovar_core::testing::FakeEngine;

    use super::*;
    use crate::activity::Phase;
    use crate::app::Surface;
    use crate::config::ServeConfig;
    use crate::serve::Server;

    #[tokio::test]
    async fn work_for_which_the_server_cannot_wait_ends_with_an_error() {
        let home = tempfile::tempdir().expect("tempdir");
        let engine = Arc::new(FakeEngine::new());
        let runtime =
            samovar::Runtime::builder().cache_dir(home.path()).engine(engine).build().expect("builds");
        let config = ServeConfig { socket: Some(home.path().join("run/s")), ..ServeConfig::default() };
        let app = Server::bind(runtime, config).await.expect("binds").app(Surface::Local);
        let mut sent = lines(&app, |_| std::future::pending());
        app.server.enter(Phase::Cut);
        let last = sent.next().await.expect("a line");
        assert!(last["error"].as_str().is_some_and(|error| error.contains("leaving")), "{last}");
        assert_eq!(sent.next().await, None);
    }

    #[test]
    fn a_fetch_is_told_in_ollamas_words() {
        let digest = Digest::of_bytes(b"x");
        let transfer = Transfer { done_bytes: 3, total_bytes: 7, ..Transfer::default() };
        let hex = digest.to_string();
        let expected = json!({ "status": format!("pulling {}", &hex[..12]), "digest": format!("sha256:{hex}"),
                               "total": 7, "completed": 3 });
        assert_eq!(line(&Progress::Fetching(transfer), &digest), expected);
        assert_eq!(line(&Progress::Resolving, &digest), json!({ "status": "pulling manifest" }));
        assert_eq!(line(&Progress::Verifying(transfer), &digest)["status"], "verifying sha256 digest");
    }
}
