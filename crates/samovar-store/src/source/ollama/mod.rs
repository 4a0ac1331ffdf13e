//! Ollama's registry: a manifest by its name and tag, layers by their digests.
//!
//! ```text
//!   GET /v2/<namespace>/<name>/manifests/<tag>   ─► layers
//!   GET /v2/<namespace>/<name>/blobs/sha256:…    ─► the bytes, or the way to a CDN
//! ```
//!
//! Sends no credentials: models that need Ollama's own keys are pulled with Ollama and adopted.

mod manifest;

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderValue};
use samovar_core::Digest;
use samovar_core::model::reference::{OllamaName, RemoteRef};
use url::Url;

pub(crate) use manifest::{CONFIG_BYTES, Layer, OllamaManifest, Part, quant_of};

use self::manifest::MANIFEST_BYTES;
use super::http::{self, other_scheme};
use super::origin::{Client, OriginRequest, lie};
use super::{ArtifactRef, Body, Listing, Promise, RemoteFile, Source};
use crate::artifact::key::ArtifactKey;
use crate::config::{RetryConfig, SourceConfig};
use crate::error::Error;
use crate::fetch::retry::with_retries;

/// The public registry.
const ENDPOINT: &str = "https://registry.ollama.ai";
const MANIFEST: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

/// Ollama's registry, or one that speaks like it.
pub(crate) struct Ollama {
    client: Arc<Client>,
    endpoint: Url,
    retry: RetryConfig,
}

impl Ollama {
    /// The registry of the settings, else the public one. Sends no request yet.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn new(client: Arc<Client>, config: &SourceConfig) -> Result<Self, Error> {
        let text = config.ollama_endpoint.as_deref().unwrap_or(ENDPOINT);
        let wrong = |fault: &str| Error::Unsupported {
            message: format!("the address of Ollama's registry {fault}"),
            hint: format!("set sources.ollama_endpoint to an address such as {ENDPOINT}"),
        };
        let endpoint: Url = text.parse().map_err(|_| wrong("is none"))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(wrong("does not begin with https://"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(wrong("holds a user or a password, which would be shown"));
        }
        Ok(Self { client, endpoint, retry: config.retry })
    }

    async fn listing(&self, reference: &RemoteRef) -> Result<Listing, Error> {
        let name = reference.ollama().ok_or_else(|| other_scheme("ollama", reference.scheme()))?;
        let subject = reference.to_string();
        let manifest = with_retries(self.retry, || self.manifest(&subject, name)).await?;
        let unsupported = |reason: String| Error::Unsupported {
            message: format!("{subject} {reason}"),
            hint: "choose a model in the GGUF format without adapters".to_owned(),
        };
        let parts = manifest.parts().map_err(unsupported)?;
        let quant = match &manifest.config {
            Some(config) => with_retries(self.retry, || self.quant(&subject, name, config)).await?,
            None => String::new(),
        };
        let files = parts.into_iter().map(|part| RemoteFile {
            path: part.path,
            role: part.role,
            size: Some(part.size),
            promise: Promise::Sha256(part.digest),
            locator: self.blob(name, part.digest).into(),
            etag: None,
            local: None,
        });
        Ok(Listing {
            key: key(name, &manifest, quant)?,
            revision: Some(name.tag.to_owned()),
            reference: subject.clone(),
            files: files.collect(),
        })
    }

    async fn manifest(&self, subject: &str, name: OllamaName<'_>) -> Result<OllamaManifest, Error> {
        let url = self.url(name, "manifests", name.tag);
        let ask = OriginRequest::get(subject, url).with(header::ACCEPT, HeaderValue::from_static(MANIFEST));
        let answer = self.client.send(ask).await?;
        match answer.status() {
            StatusCode::OK => (),
            StatusCode::NOT_FOUND => {
                return Err(Error::Missing {
                    subject: subject.to_owned(),
                    where_: " in Ollama's registry",
                    hint: "names are [namespace/]name:tag; without a tag, `latest` is asked for".to_owned(),
                });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Error::Denied {
                    subject: subject.to_owned(),
                    message: "the registry gives it to its owner only".to_owned(),
                    hint: "pull it with Ollama itself, then run `samovar adopt`".to_owned(),
                });
            }
            _ => return Err(answer.refusal(subject)),
        }
        let text = answer.text(subject, MANIFEST_BYTES).await?;
        OllamaManifest::parse(&text).map_err(|reason| lie(subject, format!("what it gave {reason}")))
    }

    /// The quantization by the model's description, which is checked like any other bytes.
    async fn quant(&self, subject: &str, name: OllamaName<'_>, config: &Layer) -> Result<String, Error> {
        if config.size > CONFIG_BYTES {
            return Err(lie(subject, format!("a description of {} bytes", config.size)));
        }
        let answer = self.client.send(OriginRequest::get(subject, self.blob(name, config.digest))).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.refusal(subject));
        }
        let text = answer.text(subject, CONFIG_BYTES as usize).await?;
        let got = Digest::of_bytes(text.as_bytes());
        if got != config.digest {
            return Err(Error::Mismatch {
                subject: format!("the description of {subject}"),
                expected: config.digest.to_string(),
                got: got.to_string(),
            });
        }
        Ok(quant_of(&text))
    }

    fn blob(&self, name: OllamaName<'_>, digest: Digest) -> Url {
        self.url(name, "blobs", &format!("sha256:{digest}"))
    }

    fn url(&self, name: OllamaName<'_>, what: &str, which: &str) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v2", name.namespace, name.name, what, which]);
        }
        url
    }
}

/// The key of a model, the same whether the registry or Ollama's store on disk named it.
pub(crate) fn key(
    name: OllamaName<'_>,
    manifest: &OllamaManifest,
    quant: String,
) -> Result<ArtifactKey, Error> {
    Ok(ArtifactKey {
        source: "ollama".parse()?,
        model: format!("{}/{}", name.namespace, name.name).parse()?,
        commit: manifest.commit(),
        quant,
        modality: "text".to_owned(),
    })
}

impl Source for Ollama {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            match reference {
                ArtifactRef::Remote(reference) => self.listing(reference).await,
                ArtifactRef::Hub(_) => Err(other_scheme("ollama", "hf")),
            }
        })
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        Box::pin(http::fetch(&self.client, file, range))
    }
}
