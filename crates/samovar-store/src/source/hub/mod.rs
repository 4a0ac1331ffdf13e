//! The hub: repositories of models under commits, with the sizes and digests of their files.
//!
//! ```text
//!   revision ─► commit ─► tree, page by page ─► select ─► Listing
//!   resolve/<commit>/<path> ──302──► CDN ─► Body      further parts: the CDN at once
//! ```
//!
//! What the hub's tree says of a file's digest is what the bytes must have; whatever a later answer says
//! differently is heard and not believed. Names that no file may have are left where they are.

mod api;
mod download;
mod redirect_cache;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::{self, HeaderValue};
use samovar_core::model::ArtifactRef;
use samovar_core::model::reference::HubRef;
use url::Url;

use crate::artifact::key::ArtifactKey;
use crate::artifact::name::{Commit, NameError};
use crate::config::{RetryConfig, SourceConfig};
use crate::error::Error;
use crate::fetch::retry::with_retries;
use crate::source::answer::Answer;
use crate::source::origin::{Client, OriginRequest, Token, lie, range_header};
use crate::source::select::{self, Choice, NamedChoice, Want};
use crate::source::{Body, Listing, Promise, RemoteFile, Source};

use api::Entry;
use redirect_cache::RedirectCache;
use refusal::Context;

/// The hub's public address.
const ENDPOINT: &str = "https://huggingface.co";
/// The branch that is meant when none is named.
const DEFAULT_BRANCH: &str = "main";
/// Bytes of one answer of the API.
const ANSWER_BYTES: usize = 32 << 20;
/// Pages of one listing.
const PAGES: usize = 100;
/// Files of one repository.
const ENTRIES: usize = 100_000;

/// A hub.
pub(crate) struct Hub {
    client: Arc<Client>,
    endpoint: Url,
    token: Option<Token>,
    retry: RetryConfig,
    redirect_cache: RedirectCache,
}

/// The files of a repository at one commit.
struct RepositoryTree {
    commit: Commit,
    /// The moving name that led there, if one did.
    revision: Option<String>,
    entries: Vec<Entry>,
}

impl Hub {
    /// The hub of the settings. Asks nothing.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn new(client: Arc<Client>, config: &SourceConfig) -> Result<Self, Error> {
        let text = config.hub_endpoint.as_deref().unwrap_or(ENDPOINT);
        let wrong = |fault: &str| Error::Unsupported {
            message: format!("the hub's address {fault}"),
            hint: format!("set HF_ENDPOINT to an address such as {ENDPOINT}"),
        };
        let mut endpoint: Url = text.parse().map_err(|_| wrong("is none"))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(wrong("does not begin with https://"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(wrong("holds a user or a password, which would be shown"));
        }
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let token = config.hub_token.as_ref().and_then(|secret| Token::bearer(&endpoint, secret));
        Ok(Self { client, endpoint, token, retry: config.retry, redirect_cache: RedirectCache::default() })
    }

    /// An address below the hub's own, its parts escaped.
    fn address<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Asks the API, as often as settings say.
    async fn ask(&self, context: &Context<'_>, url: &Url) -> Result<Answer, Error> {
        with_retries(self.retry, || async {
            let ask = OriginRequest::get(context.subject, url.clone()).with_token(self.token.as_ref());
            let answer = self.client.send(ask).await?;
            if answer.status().is_success() { Ok(answer) } else { Err(refusal::of(&answer, context)) }
        })
        .await
    }

    async fn listing(&self, reference: &HubRef) -> Result<Listing, Error> {
        let subject = reference.to_string();
        let tree = self.repository_tree(reference, &subject).await?;
        let want = Want { quant: reference.quant(), file: reference.file() };
        let choice = choose(&subject, &tree.entries, &want)?;
        self.listing_of(reference, &tree, &choice)
    }

    /// Every form in which a repository has its model, each under a reference of its own.
    async fn listings(&self, reference: &HubRef) -> Result<Vec<Listing>, Error> {
        let subject = reference.to_string();
        let tree = self.repository_tree(reference, &subject).await?;
        let listing = |variant: &NamedChoice| {
            let own = own_reference(reference, variant)?;
            self.listing_of(&own, &tree, &variant.choice).ok()
        };
        let listings: Vec<Listing> = variants(&tree.entries).iter().filter_map(listing).collect();
        if listings.is_empty() {
            // Why there is none is said as it is of a model that is fetched.
            let choice = choose(&subject, &tree.entries, &Want::default())?;
            return Ok(vec![self.listing_of(reference, &tree, &choice)?]);
        }
        Ok(listings)
    }

    /// All files of the repository at the asked revision.
    async fn repository_tree(&self, reference: &HubRef, subject: &str) -> Result<RepositoryTree, Error> {
        let page = self.address([reference.org(), reference.name()]);
        let context = Context {
            subject,
            page: page.as_str(),
            revision: reference.revision().unwrap_or(DEFAULT_BRANCH),
            has_token: self.token.is_some(),
        };
        let (commit, revision) = match reference.revision().and_then(full_commit) {
            Some(commit) => (commit, None),
            None => (self.commit(reference, &context).await?, Some(context.revision.to_owned())),
        };
        let entries = self.tree(reference, &commit, &context).await?;
        Ok(RepositoryTree { commit, revision, entries })
    }

    fn listing_of(
        &self,
        reference: &HubRef,
        tree: &RepositoryTree,
        choice: &Choice,
    ) -> Result<Listing, Error> {
        let RepositoryTree { commit, revision, entries } = tree;
        let files = choice
            .files
            .iter()
            .map(|&(place, role)| self.remote_file(reference, commit, &entries[place], role))
            .collect::<Result<_, Error>>()?;
        Ok(Listing {
            key: ArtifactKey {
                source: "hub".parse()?,
                model: model_of(reference, entries, choice).parse()?,
                commit: commit.clone(),
                quant: choice.quant.clone(),
                modality: choice.modality.to_owned(),
            },
            revision: revision.clone(),
            reference: canonical(reference, choice),
            files,
        })
    }

    /// The commit that a branch, a tag or a pull request is at.
    async fn commit(&self, reference: &HubRef, context: &Context<'_>) -> Result<Commit, Error> {
        let parts = ["api", "models", reference.org(), reference.name(), "revision", context.revision];
        let answer = self.ask(context, &self.address(parts)).await?;
        let text = answer.text(context.subject, ANSWER_BYTES).await?;
        let sha = api::commit(&text).map_err(|message| lie(context.subject, message))?;
        full_commit(&sha).ok_or_else(|| lie(context.subject, "the commit that it names is none"))
    }

    /// All files of a commit.
    async fn tree(
        &self,
        reference: &HubRef,
        commit: &Commit,
        context: &Context<'_>,
    ) -> Result<Vec<Entry>, Error> {
        let parts = ["api", "models", reference.org(), reference.name(), "tree", commit.as_str()];
        let mut url = self.address(parts);
        url.set_query(Some("recursive=true"));
        let fail = |message: String| lie(context.subject, message);
        let mut entries = Vec::new();
        for _ in 0..PAGES {
            let answer = self.ask(context, &url).await?;
            let next = answer.header(&header::LINK).and_then(api::next_page).map(|next| url.join(&next));
            let text = answer.text(context.subject, ANSWER_BYTES).await?;
            entries.extend(api::entries(&text).map_err(fail)?);
            if entries.len() > ENTRIES {
                return Err(fail(format!("a listing of more than {ENTRIES} files")));
            }
            url = match next {
                None => return Ok(entries),
                Some(Ok(next)) if next.origin() == self.endpoint.origin() => next,
                Some(_) => return Err(fail("its listing goes on at another address".to_owned())),
            };
        }
        Err(fail(format!("a listing of more than {PAGES} pages")))
    }

    fn remote_file(
        &self,
        reference: &HubRef,
        commit: &Commit,
        entry: &Entry,
        role: crate::artifact::manifest::Role,
    ) -> Result<RemoteFile, Error> {
        let path = entry.path.clone()?;
        if entry.promise == Promise::Unknown {
            // The hub knows every file's digest; without one nothing could be checked.
            return Err(lie(path.as_str(), "its digest is of no kind that is known"));
        }
        let parts = [reference.org(), reference.name(), "resolve", commit.as_str()];
        let locator = self.address(parts.into_iter().chain(path.as_str().split('/'))).into();
        Ok(RemoteFile {
            path,
            role,
            size: Some(entry.size),
            promise: entry.promise,
            locator,
            // The commit fixes the bytes; what servers on the way call them is their affair.
            etag: None,
            local: None,
        })
    }
}

impl Source for Hub {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        async move {
            match reference {
                ArtifactRef::Hub(hub) => self.listing(hub).await,
                ArtifactRef::Remote(remote) => Err(Error::Unsupported {
                    message: format!("{remote} is not at the hub"),
                    hint: "hub models are written hf://organisation/name".to_owned(),
                }),
            }
        }
        .boxed()
    }

    fn variants<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Vec<Listing>, Error>> {
        async move {
            match reference {
                ArtifactRef::Hub(hub) if hub.leaves_choice() => self.listings(hub).await,
                _ => Ok(vec![self.resolve(reference).await?]),
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        self.body(file, range).boxed()
    }
}

/// The files of an artifact among those of a repository. Names that no file may have count only when
/// nothing else fits: then it is said that they are refused.
fn choose(subject: &str, entries: &[Entry], want: &Want<'_>) -> Result<Choice, Error> {
    let (places, names) = sound_names(entries);
    match select::choose(subject, &names, want) {
        Ok(mut choice) => {
            relocate(&mut choice, &places);
            Ok(choice)
        }
        Err(error) => Err(refused(subject, entries, want).map_or(error, Error::Name)),
    }
}

/// All that a user may choose among the files of a repository.
fn variants(entries: &[Entry]) -> Vec<NamedChoice> {
    let (places, names) = sound_names(entries);
    let mut variants = select::variants(&names);
    for variant in &mut variants {
        relocate(&mut variant.choice, &places);
    }
    variants
}

/// The names that files may have, with their places among the entries.
fn sound_names(entries: &[Entry]) -> (Vec<usize>, Vec<&str>) {
    let sound = entries.iter().enumerate();
    sound.filter_map(|(place, entry)| Some((place, entry.path.as_ref().ok()?.as_str()))).unzip()
}

/// From places among the sound names to places among the entries.
fn relocate(choice: &mut Choice, places: &[usize]) {
    for (place, _) in &mut choice.files {
        *place = places[*place];
    }
}

/// The reference that means this one alone; `None` where none can be written.
fn own_reference(reference: &HubRef, variant: &NamedChoice) -> Option<HubRef> {
    let text = match &variant.file {
        Some(file) => {
            let revision = reference.revision().map(|revision| format!("@{revision}")).unwrap_or_default();
            format!("hf://{}/{}{revision}/{file}", reference.org(), reference.name())
        }
        None => canonical(reference, &variant.choice),
    };
    match text.parse() {
        // A branch with a `/` in its name and a file would be read as another one.
        Ok(ArtifactRef::Hub(own)) => {
            (own.revision() == reference.revision() && own.file() == variant.file.as_deref()).then_some(own)
        }
        _ => None,
    }
}

/// What the hub calls the model of these files: the repository, and a file of it where its quantization alone
/// would name others, so that two models of one repository never have one key.
fn model_of(reference: &HubRef, entries: &[Entry], choice: &Choice) -> String {
    let repository = format!("{}/{}", reference.org(), reference.name());
    if reference.file().is_none() {
        return repository;
    }
    let quant = (!choice.quant.is_empty()).then_some(choice.quant.as_str());
    let usual = choose("", entries, &Want { quant, file: None });
    match choice.files.first() {
        Some((first, _)) if usual.ok().is_none_or(|usual| usual.files != choice.files) => {
            format!("{repository}/{}", entries[*first].name)
        }
        _ => repository,
    }
}

/// The refused name that would have been chosen.
fn refused(subject: &str, entries: &[Entry], want: &Want<'_>) -> Option<NameError> {
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let choice = select::choose(subject, &names, want).ok()?;
    choice.files.iter().find_map(|&(place, _)| entries[place].path.clone().err())
}

/// The commit in full, if the text is one.
fn full_commit(text: &str) -> Option<Commit> {
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_ascii_lowercase().parse().ok()).flatten()
}

/// How users name what was chosen.
fn canonical(reference: &HubRef, choice: &Choice) -> String {
    if reference.file().is_some() || choice.quant.is_empty() {
        return reference.to_string();
    }
    let revision = reference.revision().map(|revision| format!("@{revision}")).unwrap_or_default();
    format!("hf://{}/{}{revision}:{}", reference.org(), reference.name(), choice.quant)
}

fn quoted(etag: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{etag}\"")).ok()
}
