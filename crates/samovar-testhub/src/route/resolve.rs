//! Files: `/{repo}/resolve/…`, where that redirects to, and the plain area.

use std::sync::Arc;

use super::file::{self, FileHeaders};
use super::target::{Collection, Target, encode};
use super::{Asked, denial};
use crate::bad_answer::{BadAnswer, Denial, Topic};
use crate::reply::{Body, Reply};
use crate::repo::Stored;
use crate::state::State;

/// The content of files that only a lie says there are.
pub(super) const INVENTED: &str = "this file is not part of the model\n";

/// What is asked for, and found.
struct Found {
    commit: String,
    file: Arc<Stored>,
}

/// `/{repo}/resolve/{revision}/{path}`: small files are a redirect away on this host, large ones at the CDN.
pub(super) fn resolve(state: &mut State, asked: &Asked<'_>) -> Reply {
    let found = match find_in_repo(state, asked, true) {
        Ok(found) => found,
        Err(denial) => return denial::reply(denial),
    };
    let location = match redirect_answer(state, asked, &found.commit) {
        Some(location) => Some((302, location)),
        None if found.file.lfs.is_some() && state.has_cdn => Some((302, signed(state, asked, &found.commit))),
        None if found.file.lfs.is_some() => None,
        None => Some((307, cache_address(asked.target, &found))),
    };
    let size = found.file.content.size_bytes();
    let reply = match location {
        Some((status, location)) => Reply::redirect(status, &location),
        None => file::serve(state, asked, &found.file, &facts(&found.file)),
    };
    reply
        .with("X-Repo-Commit", found.commit)
        .with("X-Linked-Size", size.to_string())
        .with("X-Linked-Etag", quoted(&found.file.etag()))
        .with("ETag", quoted(&found.file.etag()))
        .with("Accept-Ranges", "bytes")
}

/// `/api/resolve-cache/models/{repo}/{commit}/{path}`.
pub(super) fn cached(state: &mut State, asked: &Asked<'_>) -> Reply {
    match find_in_repo(state, asked, true) {
        Ok(found) => file::serve(state, asked, &found.file, &facts(&found.file))
            .with("X-Repo-Commit", found.commit)
            .with("Cache-Control", "public, max-age=31536000"),
        Err(denial) => denial::reply(denial),
    }
}

/// A large file at the CDN: a client with a signed address may have it, a token or not.
pub(super) fn cdn(state: &mut State, asked: &Asked<'_>) -> Reply {
    let serial = asked.request.query("Signature").and_then(|text| text.parse::<u64>().ok());
    let expired = state.draw(Topic::Expiry, asked.target.occasion(&asked.request.method));
    let is_good = serial.is_some_and(|serial| {
        (1..=state.addresses_given).contains(&serial) && expired.iter().all(|lie| serial > lie.addresses)
    });
    if !is_good {
        let text = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired\
                    </Message></Error>";
        return Reply::text(403, "application/xml", text);
    }
    serve_away(state, asked)
}

/// A file at another host.
pub(super) fn elsewhere(state: &mut State, asked: &Asked<'_>) -> Reply {
    serve_away(state, asked)
}

/// `/plain/{path}`: a web server that knows nothing of models.
pub(super) fn plain(state: &mut State, asked: &Asked<'_>) -> Reply {
    let Some(file) = state.plain.get(&asked.target.path).cloned() else {
        return Reply::text(404, "text/plain", "Not Found");
    };
    if let Some(location) = redirect_answer(state, asked, "") {
        return Reply::redirect(302, &location);
    }
    file::serve(state, asked, &file, &facts(&file))
}

fn serve_away(state: &mut State, asked: &Asked<'_>) -> Reply {
    let found = match asked.target.collection {
        Collection::Hub => find_in_repo(state, asked, false).ok().map(|found| found.file),
        Collection::Plain => state.plain.get(&asked.target.path).cloned(),
        Collection::Ollama => state.blobs.get(&asked.target.path).cloned(),
    };
    let Some(file) = found else {
        return Reply::text(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>");
    };
    // A store of objects has etags of its own, which are no digests.
    let etag = format!("{}-2", &file.git_oid[..32]);
    file::serve(state, asked, &file, &FileHeaders { etag })
}

fn find_in_repo(state: &State, asked: &Asked<'_>, checks_access: bool) -> Result<Found, Denial> {
    let Target { repo, revision, path, .. } = asked.target;
    let repository = state.repos.get(repo);
    if checks_access && let Some(denial) = denial::decide(repository, asked.request, true) {
        return Err(denial);
    }
    let repository = repository.ok_or(Denial::RepoNotFound)?;
    let commit = repository.resolve(revision).ok_or(Denial::RevisionNotFound)?;
    let file = repository.tree(commit).and_then(|tree| tree.get(path)).cloned();
    let invented = || {
        let is_invented = state.rules.invented(repo, path);
        is_invented.then(|| Stored::new(path, INVENTED.into()).ok()).flatten().map(Arc::new)
    };
    let file = file.or_else(invented).ok_or(Denial::EntryNotFound)?;
    Ok(Found { commit: commit.to_owned(), file })
}

/// Where a lie says that the file is.
pub(super) fn redirect_answer(state: &mut State, asked: &Asked<'_>, commit: &str) -> Option<String> {
    let told = state.draw(Topic::Redirect, asked.target.occasion(&asked.request.method));
    told.into_iter().last().map(|told| match told.lie {
        BadAnswer::RedirectLoop => {
            format!("http://{}{}", asked.addresses.of(asked.listener), asked.request.target)
        }
        BadAnswer::RedirectTo(address) => address,
        _ => format!("http://{}{}", asked.addresses.elsewhere, asked.target.path_away(commit)),
    })
}

/// An address at the CDN that looks signed, and is: with a serial number.
pub(super) fn signed(state: &mut State, asked: &Asked<'_>, commit: &str) -> String {
    state.addresses_given += 1;
    let (cdn, path) = (asked.addresses.cdn, asked.target.path_away(commit));
    let name = encode(&asked.target.path);
    format!(
        "http://{cdn}{path}?response-content-disposition=attachment%3B%20filename%3D{name}&Expires=4102444800\
         &Policy=eyJTdGF0ZW1lbnQiOltdfQ__&Signature={}&Key-Pair-Id=K0TEST",
        state.addresses_given
    )
}

fn cache_address(target: &Target, found: &Found) -> String {
    let path = target.path.split('/').map(encode).collect::<Vec<_>>().join("/");
    format!(
        "/api/resolve-cache/models/{}/{}/{path}?etag={}",
        target.repo,
        found.commit,
        encode(&quoted(&found.file.etag()))
    )
}

fn facts(file: &Stored) -> FileHeaders {
    FileHeaders { etag: file.etag() }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// What a HEAD is told of a file.
pub(super) fn length_only(reply: &mut Reply, size: u64) {
    reply.body = Body::Length(size);
}
