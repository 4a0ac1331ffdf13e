//! What went out and who asked: bytes for each file, requests for each route, headers that matter.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Requests that are remembered; the oldest go first.
const MAX_SEEN: usize = 100_000;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// The hub itself, the one place that a token may go to.
    Origin,
    /// Where large files are redirected to.
    Cdn,
    /// Another host, which only a lie redirects to.
    Elsewhere,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `/api/models/{repo}` and `…/revision/{revision}`.
    Info,
    /// `/api/models/{repo}/tree/{revision}`.
    Tree,
    /// `/{repo}/resolve/{revision}/{path}`.
    Resolve,
    /// `/api/resolve-cache/…`: where small files are redirected to, on the same host.
    ResolveCache,
    /// A large file at the CDN.
    Cdn,
    /// A file at another host.
    Elsewhere,
    /// `/plain/{path}`.
    Plain,
    /// `/v2/{repo}/manifests/{tag}`.
    OllamaManifest,
    /// `/v2/{repo}/blobs/{digest}`.
    OllamaBlob,
    /// `/_…`: the hub is being driven.
    Control,
    /// None of these.
    Unknown,
}

/// One request, as far as tests care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which listener it came to.
    pub listener: Listener,
    /// What it was for.
    pub route: Route,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// `Host`.
    pub host: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `Cookie`.
    pub cookie: Option<String>,
}

impl Seen {
    /// Whether it carries this token, in whatever place.
    pub fn carries(&self, token: &str) -> bool {
        let headers = [&self.authorization, &self.cookie, &self.user_agent];
        self.target.contains(token) || headers.into_iter().flatten().any(|value| value.contains(token))
    }
}

/// What went out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes of bodies for each file, by `repo/path`. Bytes that a lie added count too.
    pub files: BTreeMap<String, u64>,
    /// Bytes of all files' bodies.
    pub body_bytes: u64,
    /// Requests for each route.
    pub requests: BTreeMap<Route, u64>,
}

impl Sent {
    /// Bytes of one file's bodies, named `repo/path`, `plain/path`, or `ollama/repo/digest`.
    pub fn of(&self, file: &str) -> u64 {
        self.files.get(file).copied().unwrap_or(0)
    }

    /// Requests for a route.
    pub fn requests_for(&self, route: Route) -> u64 {
        self.requests.get(&route).copied().unwrap_or(0)
    }

    /// What went out since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let files = self.files.iter().map(|(file, bytes)| (file.clone(), bytes - earlier.of(file)));
        let requests =
            self.requests.iter().map(|(route, count)| (*route, count - earlier.requests_for(*route)));
        Self {
            files: files.filter(|(_, bytes)| *bytes > 0).collect(),
            body_bytes: self.body_bytes - earlier.body_bytes,
            requests: requests.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// All that is counted; also what `GET /_counts` answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// What went out.
    pub sent: Sent,
    /// Who asked, the oldest first.
    pub seen: VecDeque<Seen>,
    /// How many times each lie was told, by its place in the list.
    pub told: Vec<u64>,
}

impl Counts {
    pub(crate) fn note(&mut self, seen: Seen) {
        *self.sent.requests.entry(seen.route).or_default() += 1;
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
    }

    pub(crate) fn went_out(&mut self, file: &str, bytes: u64) {
        self.sent.body_bytes += bytes;
        match self.sent.files.get_mut(file) {
            Some(sum) => *sum += bytes,
            None => {
                self.sent.files.insert(file.to_owned(), bytes);
            }
        }
    }
}
