//! A registry as Ollama's: a manifest for each tag, blobs by digest, which are a redirect away.

use serde_json::{Value, json};

use super::file::{self, FileHeaders};
use super::{Asked, resolve};
use crate::reply::Reply;
use crate::state::State;

/// What a tag names.
pub(crate) type Manifest = Value;

/// What Ollama's client says that it accepts.
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// `GET /v2/{repo}/manifests/{tag}`.
pub(super) fn manifest(state: &mut State, asked: &Asked<'_>) -> Reply {
    let name = format!("{}:{}", asked.target.repo, asked.target.revision);
    match state.ollama.get(&name) {
        Some(manifest) => Reply::text(200, MANIFEST_TYPE, manifest.to_string()),
        None => missing("MANIFEST_UNKNOWN", "manifest unknown", &name),
    }
}

/// `GET /v2/{repo}/blobs/{digest}`.
pub(super) fn blob(state: &mut State, asked: &Asked<'_>) -> Reply {
    let Some(file) = state.blobs.get(&asked.target.path).cloned() else {
        return missing("BLOB_UNKNOWN", "blob unknown to registry", &asked.target.path);
    };
    if let Some(location) = resolve::redirect_answer(state, asked, "") {
        return Reply::redirect(307, &location);
    }
    if state.has_cdn && !asked.request.is_head() {
        let location = resolve::signed(state, asked, "");
        return Reply::redirect(307, &location);
    }
    file::serve(state, asked, &file, &FileHeaders { etag: asked.target.path.clone() })
        .with("Docker-Content-Digest", asked.target.path.clone())
}

fn missing(code: &str, message: &str, detail: &str) -> Reply {
    Reply::json(404, &json!({"errors": [{"code": code, "message": message, "detail": detail}]}))
}
