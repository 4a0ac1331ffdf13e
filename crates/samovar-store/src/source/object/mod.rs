//! Object stores: `s3://bucket/key.gguf`, `gs://…`, `az://container/…`; one object, or those below a prefix.
//!
//! What fixes the content is what the store says of the chosen objects: names, sizes, etags, versions.
//! Credentials come from the settings, never from a reference. Writes nothing.

mod client;
mod fault;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use samovar_core::Digest;
use samovar_core::model::reference::{RemoteRef, Scheme};

use self::client::Bucket;
use super::http::other_scheme;
use super::select::{self, Want};
use super::{ArtifactRef, Body, Listing, Promise, RemoteFile, Source, commit_of};
use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::Role;
use crate::artifact::name::Commit;
use crate::config::SourceConfig;
use crate::error::Error;

/// Objects below a prefix that are looked at.
const OBJECTS: usize = 10_000;

/// The object stores.
pub(crate) struct Object {
    config: SourceConfig,
    /// The buckets that were asked before, so that connections are kept.
    buckets: Mutex<BTreeMap<(&'static str, String), Bucket>>,
}

/// A place in a bucket.
struct ObjectLocation {
    bucket: Bucket,
    key: Key,
    /// The reference, for errors.
    subject: String,
}

impl Object {
    /// Sends no request yet.
    pub(crate) fn new(config: &SourceConfig) -> Self {
        Self { config: config.clone(), buckets: Mutex::default() }
    }

    /// The object stores with a bucket that the caller has.
    #[cfg(test)]
    pub(super) fn with_bucket(scheme: Scheme, name: &str, bucket: Bucket) -> Self {
        let stores = Self::new(&SourceConfig::default());
        let known = (scheme.name(), name.to_owned());
        stores.buckets.lock().unwrap_or_else(PoisonError::into_inner).insert(known, bucket);
        stores
    }

    async fn listing(&self, reference: &RemoteRef) -> Result<Listing, Error> {
        let (scheme, subject) = (reference.scheme(), reference.to_string());
        let (bucket, key) = reference.bucket_and_key().ok_or_else(|| other_scheme("object", scheme))?;
        let place = self.place(scheme, bucket, key, subject)?;
        let (objects, named) = place.objects().await?;
        let names: Vec<&str> = objects.iter().map(|(name, _)| name.as_str()).collect();
        let want = Want { quant: None, file: named.as_deref() };
        let choice = select::choose(&place.subject, &names, &want)?;
        let chosen: Vec<_> = choice.files.iter().map(|&(place, role)| (&objects[place], role)).collect();
        let promise = promise(&place.subject, reference, chosen.iter().map(|(_, role)| *role))?;
        let files = chosen.iter().map(|((name, meta), role)| {
            Ok(RemoteFile {
                path: name.parse()?,
                role: *role,
                size: Some(meta.size),
                promise: if *role == Role::Weights { promise } else { Promise::Unknown },
                locator: format!("{scheme}://{bucket}/{}", meta.location),
                etag: meta.e_tag.clone(),
                local: None,
            })
        });
        Ok(Listing {
            key: ArtifactKey {
                source: "object".parse()?,
                model: reference.url().parse()?,
                commit: match reference.digest() {
                    Some(digest) => commit_of(digest),
                    None => commit(chosen.iter().map(|(object, _)| *object)),
                },
                quant: choice.quant,
                modality: choice.modality.to_owned(),
            },
            revision: None,
            reference: place.subject,
            files: files.collect::<Result<_, Error>>()?,
        })
    }

    fn place(
        &self,
        scheme: Scheme,
        bucket: &str,
        key: &str,
        subject: String,
    ) -> Result<ObjectLocation, Error> {
        let key = Key::parse(key).map_err(|error| fault::of(&subject, &error.into()))?;
        Ok(ObjectLocation { bucket: self.bucket(scheme, bucket)?, key, subject })
    }

    fn bucket(&self, scheme: Scheme, name: &str) -> Result<Bucket, Error> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (scheme.name(), name.to_owned());
        if let Some(bucket) = buckets.get(&known) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = client::open(scheme, name, &self.config)?;
        buckets.insert(known, Arc::clone(&bucket));
        Ok(bucket)
    }
}

type Named = (String, ObjectMeta);

impl ObjectLocation {
    /// The named object with its neighbours, or what lies below the named prefix; names are relative.
    /// The second is the name of the named object, if there is one.
    async fn objects(&self) -> Result<(Vec<Named>, Option<String>), Error> {
        let name = self.key.filename().unwrap_or_default().to_owned();
        match self.bucket.head(&self.key).await {
            Ok(meta) => Ok((self.parts(&name, meta).await?, Some(name))),
            Err(object_store::Error::NotFound { .. }) => {
                let below = self.below(&self.key).await?;
                if below.is_empty() {
                    return Err(Error::Missing {
                        subject: self.subject.clone(),
                        where_: " at the object store",
                        hint: "no object has this key and none lies below it; \
                               names are case-sensitive"
                            .to_owned(),
                    });
                }
                Ok((below, None))
            }
            Err(error) => Err(fault::of(&self.subject, &error)),
        }
    }

    /// The named object, and its neighbours where its name says that it is one of several parts.
    async fn parts(&self, name: &str, meta: ObjectMeta) -> Result<Vec<Named>, Error> {
        if select::parts_of(name).len() == 1 {
            return Ok(vec![(name.to_owned(), meta)]);
        }
        let folder = self.key.parts().collect::<Vec<_>>();
        let folder = Key::from_iter(folder[..folder.len().saturating_sub(1)].to_vec());
        let mut beside = self.below(&folder).await?;
        beside.retain(|(name, _)| !name.contains('/'));
        Ok(beside)
    }

    async fn below(&self, prefix: &Key) -> Result<Vec<Named>, Error> {
        let whole = if prefix.as_ref().is_empty() { None } else { Some(prefix) };
        let mut objects = self.bucket.list(whole);
        let mut below = Vec::new();
        while let Some(meta) = objects.try_next().await.map_err(|error| fault::of(&self.subject, &error))? {
            if below.len() == OBJECTS {
                return Err(Error::Choice {
                    message: format!("more than {OBJECTS} objects lie below {}", self.subject),
                    hint: "name the object itself, or a longer prefix".to_owned(),
                });
            }
            let name = match meta.location.prefix_match(prefix) {
                Some(parts) => parts.collect::<Key>().to_string(),
                None => continue,
            };
            below.push((name, meta));
        }
        Ok(below)
    }
}

/// A digest is said of one file: of the only weights.
fn promise(
    subject: &str,
    reference: &RemoteRef,
    roles: impl Iterator<Item = Role>,
) -> Result<Promise, Error> {
    let Some(digest) = reference.digest() else { return Ok(Promise::Unknown) };
    match roles.filter(|role| *role == Role::Weights).count() {
        1 => Ok(Promise::Sha256(digest)),
        count => Err(Error::Unsupported {
            message: format!("{subject} consists of {count} files, and a digest is said of one"),
            hint: "leave the digest out".to_owned(),
        }),
    }
}

/// Scheme, bucket and key of a locator.
fn located(locator: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = locator.split_once("://")?;
    let scheme = Scheme::ALL.into_iter().find(|known| known.name() == scheme)?;
    let (bucket, key) = rest.split_once('/')?;
    Some((scheme, bucket, key))
}

/// What fixes the content of the chosen objects.
fn commit<'a>(objects: impl Iterator<Item = &'a Named>) -> Commit {
    let line = |(name, meta): &Named| {
        let version = match (&meta.version, &meta.e_tag) {
            (Some(version), _) => format!("version {version}"),
            (None, Some(etag)) => format!("etag {etag}"),
            (None, None) => format!("date {}", meta.last_modified),
        };
        format!("{}:{name} {} {}:{version}\n", name.len(), meta.size, version.len())
    };
    let lines: String = objects.map(line).collect();
    commit_of(Digest::of_bytes(format!("samovar object 1\n{lines}").as_bytes()))
}

impl Object {
    async fn body(&self, file: &RemoteFile, range: Range<u64>) -> Result<Body, Error> {
        let subject = format!("{} at {}", file.path, file.locator);
        let (scheme, bucket, key) =
            located(&file.locator).ok_or_else(|| other_scheme("object", &file.locator))?;
        let place = self.place(scheme, bucket, key, subject)?;
        let end = file.size.map_or(range.end, |size| range.end.min(size));
        let options = GetOptions { range: Some((range.start..end).into()), ..GetOptions::default() };
        let failed = |error| fault::of(&place.subject, &error);
        let result = place.bucket.get_opts(&place.key, options).await.map_err(failed)?;
        let (start, size, etag) = (result.range.start, result.meta.size, result.meta.e_tag.clone());
        let subject = place.subject.clone();
        let stream =
            result.into_stream().map(move |bytes| bytes.map_err(|error| fault::of(&subject, &error)));
        Ok(Body { stream: stream.boxed(), start, size: Some(size), etag, is_whole: false })
    }
}

impl Source for Object {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            match reference {
                ArtifactRef::Remote(reference) => self.listing(reference).await,
                ArtifactRef::Hub(_) => Err(other_scheme("object", "hf")),
            }
        })
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        Box::pin(self.body(file, range))
    }
}
