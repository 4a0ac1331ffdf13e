//! What is read off a model's vocabulary: token ids of texts, and texts of token ids. Under a lease, since the vocabulary lies
//! where the model does.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use samovar_core::port::{Instance, PromptControl};
use samovar_core::{ErrorKind, Failure};

use crate::catalog::Skill;
use crate::lease::{Leased, LeasedWork, WhileHeld, by, with_lease};
use crate::request::Common;
use crate::request_trace::RequestTrace;
use crate::runtime::{Runtime, blocking};
use crate::unread;

/// Texts, or lists of token ids, of one request.
const TEXTS_MAX: usize = 1_024;
/// Their bytes together; a token id counts as four.
const BYTES_MAX: usize = 4 << 20;

impl Runtime {
    /// Token ids of each text by the model's own vocabulary, under a lease like every other work: special tokens are added
    /// around it if `add_special`, and read in it if `parse_special`. At most 1,024 texts of 4 MiB together.
    ///
    /// # Errors
    /// Whatever keeps the model from being found, loaded or granted; `InvalidRequest` for too many texts, or too long ones.
    ///
    /// # Cancel safety
    /// Dropping it gives the lease back.
    pub fn tokenize(
        &self,
        common: Common,
        texts: Vec<String>,
        add_special: bool,
        parse_special: bool,
    ) -> BoxFuture<'_, Result<Vec<Vec<u32>>, Failure>> {
        Box::pin(async move {
            check("texts", texts.len(), texts.iter().map(String::len).sum())?;
            let texts: Arc<[String]> = texts.into();
            let look = move |instance: &dyn Instance, wanted: &WhileHeld| {
                each(&texts, wanted, |text| instance.tokenize(text, add_special, parse_special))
            };
            let lookup: Lookup<Vec<Vec<u32>>> = Lookup { look: Arc::new(look) };
            self.look_up(&common, &lookup).await
        })
    }

    /// Bytes of each list of token ids; control tokens are left out. At most 1,024 lists of 1,048,576 ids together.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize); `InvalidRequest` for ids outside the vocabulary.
    ///
    /// # Cancel safety
    /// Dropping it gives the lease back.
    pub fn detokenize(
        &self,
        common: Common,
        tokens: Vec<Vec<u32>>,
    ) -> BoxFuture<'_, Result<Vec<Vec<u8>>, Failure>> {
        Box::pin(async move {
            let ids = tokens.iter().map(Vec::len).sum::<usize>();
            check("lists of tokens", tokens.len(), ids.saturating_mul(size_of::<u32>()))?;
            let tokens: Arc<[Vec<u32>]> = tokens.into();
            let look = move |instance: &dyn Instance, wanted: &WhileHeld| {
                each(&tokens, wanted, |tokens| instance.detokenize(tokens))
            };
            let lookup: Lookup<Vec<Vec<u8>>> = Lookup { look: Arc::new(look) };
            self.look_up(&common, &lookup).await
        })
    }

    async fn look_up<T: Send + 'static>(&self, common: &Common, lookup: &Lookup<T>) -> Result<T, Failure> {
        let inner = &self.inner;
        let mut request_trace = RequestTrace::begin(common.deadline.or(inner.rules.default_deadline));
        // No caller hears of its waits.
        let (outbox, _inbox) = unread::channel(&inner.buffers, &common.client);
        with_lease(inner, common, lookup, &mut request_trace, &outbox.news()).await
    }
}

fn check(what: &str, count: usize, bytes: usize) -> Result<(), Failure> {
    if count <= TEXTS_MAX && bytes <= BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "there are {count} {what} of {bytes} bytes, and one request may have {TEXTS_MAX} of {BYTES_MAX} bytes together"
    );
    Err(Failure::new(ErrorKind::InvalidRequest, message)
        .with_hint("send several requests, one after the other"))
}

/// What each becomes, for as long as the caller waits.
fn each<I, T>(
    all: &[I],
    wanted: &WhileHeld,
    become_what: impl Fn(&I) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut became = Vec::with_capacity(all.len());
    for one in all {
        if !wanted.is_wanted() {
            return Err(Failure::new(ErrorKind::Cancelled, "nobody waits for it any more"));
        }
        became.push(become_what(one)?);
    }
    Ok(became)
}

type Look<T> = dyn Fn(&dyn Instance, &WhileHeld) -> Result<T, Failure> + Send + Sync;

/// A look at a model's vocabulary.
struct Lookup<T> {
    look: Arc<Look<T>>,
}

impl<T: Send + 'static> LeasedWork for Lookup<T> {
    type Output = T;

    /// Every model has a vocabulary.
    fn skill(&self) -> Option<Skill> {
        None
    }

    fn how_to_shorten(&self) -> &'static str {
        "shorten the text"
    }

    fn affinity(&self) -> Option<u64> {
        None
    }

    /// It writes none.
    fn tokens(_: &T) -> u32 {
        0
    }

    async fn run(&self, leased: &mut Leased, request_trace: &mut RequestTrace) -> Result<T, Failure> {
        let (look, instance) = (Arc::clone(&self.look), Arc::clone(leased.lease().instance()));
        let (waiting, wanted) = WhileHeld::pair();
        let seen = by(request_trace.deadline, blocking(move || look(&*instance, &wanted))).await;
        drop(waiting);
        match seen {
            Some(seen) => seen?,
            None => Err(request_trace.too_late("nothing was read off its vocabulary", "allow more time")),
        }
    }
}
