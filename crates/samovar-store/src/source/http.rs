//! Single files of web servers: `https://host/path/model.gguf`, with `#sha256=…` where the user knows it.
//!
//! What fixes the content is the promised digest. Without one it is what the server calls this version of
//! the file: its etag, else its date and size; and the digest of what came first is what counts from then on.
//! Sends no credentials, and believes no name but the one in the address.

use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode};
use samovar_core::Digest;
use samovar_core::model::reference::{RemoteRef, Scheme};
use url::Url;

use super::answer::Answer;
use super::origin::{Client, OriginRequest, host, lie, range_header};
use super::{ArtifactRef, Body, Listing, Promise, RemoteFile, Source, commit_of, select};
use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::Role;
use crate::artifact::name::Commit;
use crate::config::{RetryConfig, SourceConfig};
use crate::error::Error;
use crate::fetch::retry::with_retries;

/// Any web server.
pub(crate) struct Http {
    client: Arc<Client>,
    retry: RetryConfig,
}

impl Http {
    /// Sends no request yet.
    pub(crate) fn new(client: Arc<Client>, config: &SourceConfig) -> Self {
        Self { client, retry: config.retry }
    }

    async fn listing(&self, reference: &RemoteRef) -> Result<Listing, Error> {
        if !matches!(reference.scheme(), Scheme::Http | Scheme::Https) {
            return Err(other_scheme("web server", reference.scheme()));
        }
        let subject = reference.to_string();
        let names = names(&subject, reference)?;
        let mut files = Vec::new();
        let mut versions = String::new();
        for name in &names {
            let url = beside(reference, name)?;
            let facts = with_retries(self.retry, || self.facts(&subject, &url)).await?;
            versions.push_str(&facts.version());
            files.push(RemoteFile {
                path: name.parse()?,
                role: Role::Weights,
                size: facts.size,
                promise: reference.digest().map_or(Promise::Unknown, Promise::Sha256),
                locator: url.into(),
                etag: facts.etag,
                local: None,
            });
        }
        Ok(Listing {
            key: ArtifactKey {
                source: "http".parse()?,
                model: reference.url().parse()?,
                commit: commit(reference, &versions),
                quant: select::quant_of(&names[0]),
                modality: "text".to_owned(),
            },
            revision: None,
            reference: subject,
            files,
        })
    }

    /// What the server says of the file beforehand; of a part of one byte where it does not like HEAD.
    async fn facts(&self, subject: &str, url: &Url) -> Result<ResponseMetadata, Error> {
        let mut ask = OriginRequest::get(subject, url.clone());
        ask.method = Method::HEAD;
        let answer = self.client.send(ask).await?;
        if answer.status() == StatusCode::OK {
            let size = answer.header(&header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
            return ResponseMetadata::of(subject, &answer, size);
        }
        let ask = OriginRequest::get(subject, url.clone())
            .with(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let answer = self.client.send(ask).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {
                let total = answer.header(&header::CONTENT_RANGE).and_then(|text| text.rsplit('/').next());
                let length = answer.header(&header::CONTENT_LENGTH);
                let size = if answer.status() == StatusCode::OK { length } else { total };
                let size = size.and_then(|text| text.trim().parse().ok());
                ResponseMetadata::of(subject, &answer, size)
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::Missing {
                subject: subject.to_owned(),
                where_: " at its server",
                hint: "check the address".to_owned(),
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Denied {
                subject: subject.to_owned(),
                message: format!("{} gives it to those it knows only", host(answer.url())),
                hint: "download it with a program that can log in, then name the file".to_owned(),
            }),
            _ => Err(answer.refusal(subject)),
        }
    }
}

/// What a server says of a file.
struct ResponseMetadata {
    size: Option<u64>,
    etag: Option<String>,
    date: Option<String>,
}

impl ResponseMetadata {
    fn of(subject: &str, answer: &Answer, size: Option<u64>) -> Result<Self, Error> {
        let kind = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
        if kind.starts_with("text/html") {
            return Err(lie(subject, "a web page instead of the file"));
        }
        let date = answer.header(&header::LAST_MODIFIED).map(str::to_owned);
        Ok(Self { size, etag: answer.etag(), date })
    }

    /// What the server calls this version of the file.
    fn version(&self) -> String {
        match (&self.etag, &self.date, self.size) {
            (Some(etag), ..) => format!("etag {etag}\n"),
            (None, Some(date), size) => format!("date {date} size {size:?}\n"),
            (None, None, size) => format!("size {size:?}\n"),
        }
    }
}

/// The names of the file, or of all parts where its name says that it is one of several.
fn names(subject: &str, reference: &RemoteRef) -> Result<Vec<String>, Error> {
    let name = reference.file_name();
    let extension = name.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase();
    let is_extension = extension.chars().all(|c| c.is_ascii_alphanumeric())
        && extension.chars().any(|c| c.is_ascii_alphabetic());
    let names = match extension.as_str() {
        "gguf" | "safetensors" => select::parts_of(&name),
        _ if is_extension => {
            return Err(Error::Unsupported {
                message: format!("{subject} is no model file"),
                hint: "model files end in .gguf or .safetensors".to_owned(),
            });
        }
        // An address without a file's name; whether it is a GGUF is told by its header.
        _ => vec![format!("{name}.gguf")],
    };
    if names.len() > 1 && reference.digest().is_some() {
        return Err(Error::Unsupported {
            message: format!("{subject} is one of {} parts, and a digest is said of one file", names.len()),
            hint: "leave the digest out".to_owned(),
        });
    }
    Ok(names)
}

/// The address of a file beside the named one; of the named one itself where there is only that.
fn beside(reference: &RemoteRef, name: &str) -> Result<Url, Error> {
    let mut url = address(&reference.url())?;
    if name != reference.file_name()
        && select::parts_of(name).len() > 1
        && let Ok(mut path) = url.path_segments_mut()
    {
        path.pop().push(name);
    }
    Ok(url)
}

/// The promised digest; else the address and what the server says of the version. A server that says
/// nothing has one version for ever: removing the artifact is what fetches it again.
fn commit(reference: &RemoteRef, versions: &str) -> Commit {
    let digest = reference.digest().unwrap_or_else(|| {
        Digest::of_bytes(format!("samovar http 1\n{}\n{versions}", reference.url()).as_bytes())
    });
    commit_of(digest)
}

fn address(text: &str) -> Result<Url, Error> {
    Url::parse(text).map_err(|error| Error::Unsupported {
        message: format!("{text} cannot be asked: {error}"),
        hint: "write https://host/path/model.gguf".to_owned(),
    })
}

/// Bytes of a file from a web server that was listed.
pub(super) async fn fetch(client: &Client, file: &RemoteFile, range: Range<u64>) -> Result<Body, Error> {
    let url = address(&file.locator)?;
    let subject = format!("{} at {}", file.path, host(&url));
    let mut ask = OriginRequest::get(&subject, url);
    if let Some(part) = range_header(&range) {
        ask = ask.with(header::RANGE, part);
    }
    client.send(ask).await?.body(&subject, &range)
}

/// A reference that came to the wrong source.
pub(super) fn other_scheme(wanted: &str, got: impl Display) -> Error {
    Error::Unsupported {
        message: format!("a reference of the kind {got}:// is none for the {wanted} source"),
        hint: "this is a fault of the program".to_owned(),
    }
}

impl Source for Http {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            match reference {
                ArtifactRef::Remote(reference) => self.listing(reference).await,
                ArtifactRef::Hub(_) => Err(other_scheme("web server", "hf")),
            }
        })
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        Box::pin(fetch(&self.client, file, range))
    }
}
