//! What a request's path means.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::count::{Listener, Route};
use crate::request::decode;
use crate::rule::Occasion;

/// What is written as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    /// A repository.
    Hub,
    /// The plain area.
    Plain,
    /// An Ollama registry.
    Ollama,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) route: Route,
    pub(crate) collection: Collection,
    /// `organisation/name`, or `plain`.
    pub(crate) repo: String,
    /// Branch, tag or commit; a tag at Ollama.
    pub(crate) revision: String,
    /// A file's path, or a blob's digest.
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn of(listener: Listener, path: &str) -> Self {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let away = if listener == Listener::Cdn { Route::Cdn } else { Route::Elsewhere };
        let target = |route, org: &str, name: &str, revision: &str, path: &[&str]| Self {
            route,
            collection: Collection::Hub,
            repo: format!("{}/{}", decode(org), decode(name)),
            revision: decode(revision),
            path: decode(&path.join("/")),
        };
        match (listener, segments.as_slice()) {
            (_, ["api", "models", org, name]) => target(Route::Info, org, name, "main", &[]),
            (_, ["api", "models", org, name, "revision", revision]) => {
                target(Route::Info, org, name, revision, &[])
            }
            (_, ["api", "models", org, name, "tree", revision, path @ ..]) => {
                target(Route::Tree, org, name, revision, path)
            }
            (_, ["api", "resolve-cache", "models", org, name, commit, path @ ..]) => {
                target(Route::ResolveCache, org, name, commit, path)
            }
            (Listener::Cdn | Listener::Elsewhere, ["repos", org, name, commit, path @ ..]) => {
                target(away, org, name, commit, path)
            }
            (Listener::Cdn | Listener::Elsewhere, ["plain", path @ ..]) => Self::plain(away, path),
            (Listener::Cdn | Listener::Elsewhere, ["blobs", org, name, digest]) => {
                Self::ollama(away, &[org, name], "", digest)
            }
            (_, ["plain", path @ ..]) => Self::plain(Route::Plain, path),
            (_, ["v2", repo @ .., "manifests", tag]) => Self::ollama(Route::OllamaManifest, repo, tag, ""),
            (_, ["v2", repo @ .., "blobs", digest]) => Self::ollama(Route::OllamaBlob, repo, "", digest),
            (_, [control]) if control.starts_with('_') => Self::nothing(Route::Control),
            (_, [org, name, "resolve", revision, path @ ..]) => {
                target(Route::Resolve, org, name, revision, path)
            }
            _ => Self::nothing(Route::Unknown),
        }
    }

    fn plain(route: Route, path: &[&str]) -> Self {
        let path = decode(&path.join("/"));
        Self { route, collection: Collection::Plain, repo: "plain".to_owned(), revision: String::new(), path }
    }

    fn ollama(route: Route, repo: &[&str], tag: &str, digest: &str) -> Self {
        Self {
            route,
            collection: Collection::Ollama,
            repo: decode(&repo.join("/")),
            revision: decode(tag),
            path: decode(digest),
        }
    }

    fn nothing(route: Route) -> Self {
        let (repo, revision, path) = (String::new(), String::new(), String::new());
        Self { route, collection: Collection::Hub, repo, revision, path }
    }

    pub(crate) fn occasion<'a>(&'a self, method: &'a str) -> Occasion<'a> {
        Occasion { route: self.route, method, repo: &self.repo, path: &self.path }
    }

    /// The name that the file is counted under.
    pub(crate) fn file(&self) -> String {
        let collection = if self.collection == Collection::Ollama { "ollama/" } else { "" };
        format!("{collection}{}/{}", self.repo, self.path)
    }

    /// Where the CDN, or another host, has this file.
    pub(crate) fn path_away(&self, commit: &str) -> String {
        // A path as one segment: what is odd in it must reach the other host as it is.
        let path = encode(&self.path);
        match self.collection {
            Collection::Hub => format!("/repos/{}/{commit}/{path}", self.repo),
            Collection::Plain => format!("/plain/{path}"),
            Collection::Ollama => format!("/blobs/{}/{path}", self.repo),
        }
    }
}

/// Text as one segment of a path.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_hub_means_by_them() {
        let target = Target::of(Listener::Origin, "/org/name/resolve/refs%2Fpr%2F1/sub/a%20b.gguf");
        assert_eq!((target.route, target.repo.as_str()), (Route::Resolve, "org/name"));
        assert_eq!((target.revision.as_str(), target.path.as_str()), ("refs/pr/1", "sub/a b.gguf"));
        assert_eq!(Target::of(Listener::Origin, "/api/models/o/n").revision, "main");
        assert_eq!(Target::of(Listener::Origin, "/v2/library/tiny/manifests/latest").revision, "latest");
        assert_eq!(Target::of(Listener::Origin, "/_counts").route, Route::Control);
        assert_eq!(Target::of(Listener::Origin, "/").route, Route::Unknown);
        let away = Target::of(Listener::Cdn, &target.path_away("abc"));
        assert_eq!((away.route, away.path.as_str()), (Route::Cdn, "sub/a b.gguf"));
    }
}
