//! `/api/models`: what a repository is, and which files it has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Asked, denial};
use crate::bad_answer::{BadAnswer, Denial, Topic};
use crate::count::{Listener, Route};
use crate::reply::Reply;
use crate::repo::{Access, Stored, Tree};
use crate::rule::Told;
use crate::state::State;

/// A day that everything happened on.
const A_DAY: &str = "2026-01-01T00:00:00.000Z";
/// The SHA-256 of bytes that no test uses.
const WRONG_DIGEST: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Answers about a repository. The real hub sends on as well, when one was renamed.
pub(super) fn answer(state: &mut State, asked: &Asked<'_>) -> Reply {
    let told = match asked.listener {
        Listener::Origin => state.draw(Topic::Redirect, asked.target.occasion(&asked.request.method)),
        // A client that came here was sent on already.
        Listener::Cdn | Listener::Elsewhere => Vec::new(),
    };
    if let Some(told) = told.last() {
        let here = &asked.request.target;
        return Reply::redirect(
            307,
            &match &told.lie {
                BadAnswer::RedirectLoop => here.clone(),
                BadAnswer::RedirectTo(address) => address.clone(),
                _ => format!("http://{}{here}", asked.addresses.elsewhere),
            },
        );
    }
    match asked.target.route {
        Route::Tree => tree(state, asked),
        _ => info(state, asked),
    }
}

/// `GET /api/models/{repo}[/revision/{revision}]`.
fn info(state: &mut State, asked: &Asked<'_>) -> Reply {
    let (commit, files, access) = match commit(state, asked) {
        Ok(found) => found,
        Err(denial) => return denial::reply(denial),
    };
    let told = state.draw(Topic::Listing, asked.target.occasion(&asked.request.method));
    let mut untrue = asked.headers.iter().filter_map(|told| match &told.lie {
        BadAnswer::Commit(text) => Some(text.clone()),
        _ => None,
    });
    let sha = untrue.next_back().unwrap_or(commit);
    let blobs = asked.request.query("blobs").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let sibling = |(path, file): (&String, &std::sync::Arc<Stored>)| {
        if !blobs {
            return json!({"rfilename": path});
        }
        let mut entry = json!({
            "rfilename": path, "size": file.content.size_bytes(), "blobId": file.git_oid,
        });
        if let (Some(digest), Some(pointer)) = (file.lfs, file.pointer_bytes()) {
            entry["lfs"] = json!({
                "sha256": digest, "size": file.content.size_bytes(), "pointerSize": pointer,
            });
        }
        entry
    };
    let mut siblings: Vec<Value> = files.iter().map(sibling).collect();
    for told in &told {
        if let BadAnswer::Names(names) = &told.lie {
            siblings.extend(names.iter().map(|name| json!({"rfilename": name})));
        }
    }
    let repo = &asked.target.repo;
    let (private, gated) = match access {
        Access::Open => (false, json!(false)),
        Access::Gated(_) => (false, json!("manual")),
        Access::Private(_) => (true, json!(false)),
    };
    Reply::json(
        200,
        &json!({
            "_id": "0123456789abcdef01234567", "id": repo, "modelId": repo,
            "author": repo.split('/').next(), "sha": sha, "lastModified": A_DAY, "createdAt": A_DAY,
            "private": private, "gated": gated, "disabled": false, "tags": [], "downloads": 0, "likes": 0,
            "siblings": siblings,
        }),
    )
}

/// `GET /api/models/{repo}/tree/{revision}[/{path}]`.
fn tree(state: &mut State, asked: &Asked<'_>) -> Reply {
    let (commit, files, _) = match commit(state, asked) {
        Ok(found) => found,
        Err(denial) => return denial::reply(denial),
    };
    let told = state.draw(Topic::Listing, asked.target.occasion(&asked.request.method));
    let asks = |name| asked.request.query(name).is_some_and(|text| matches!(text.as_str(), "true" | "True"));
    let number = |name| asked.request.query(name).and_then(|text| text.parse::<usize>().ok());
    let page_entries = number("limit").unwrap_or(state.page_entries).clamp(1, state.page_entries);
    let first = number("cursor").unwrap_or(0);
    let is_endless = told.iter().any(|told| told.lie == BadAnswer::EndlessPages);

    let entries = if is_endless && first > 0 {
        (first..first + page_entries).map(|number| invented(&format!("endless/{number:09}.txt"))).collect()
    } else {
        let mut entries = entries(&files, &asked.target.path, asks("recursive"), asks("expand"));
        if entries.is_empty() && !asked.target.path.is_empty() {
            return denial::reply(Denial::EntryNotFound);
        }
        for told in &told {
            distort(&mut entries, told);
        }
        entries
    };
    let total = entries.len();
    let page: Vec<Value> = if is_endless && first > 0 {
        entries
    } else {
        entries.into_iter().skip(first).take(page_entries).collect()
    };
    let mut reply = Reply::json(200, &Value::Array(page)).with("X-Repo-Commit", commit);
    if is_endless || first + page_entries < total {
        let host = if told.iter().any(|told| told.lie == BadAnswer::NextPageElsewhere) {
            asked.addresses.elsewhere
        } else {
            asked.addresses.of(asked.listener)
        };
        reply.set("Link", next_page(asked, host, first + page_entries, page_entries));
    }
    reply
}

fn next_page(asked: &Asked<'_>, host: std::net::SocketAddr, cursor: usize, limit: usize) -> String {
    let kept = asked.request.target.split_once('?').map_or("", |(_, query)| query);
    let kept = kept.split('&').filter(|pair| !pair.is_empty());
    let kept = kept.filter(|pair| !pair.starts_with("cursor=") && !pair.starts_with("limit="));
    let query: Vec<String> =
        kept.map(str::to_owned).chain([format!("limit={limit}"), format!("cursor={cursor}")]).collect();
    format!("<http://{host}{}?{}>; rel=\"next\"", asked.request.path(), query.join("&"))
}

/// Finds the commit that is asked about, if this request may know of it.
fn commit(state: &State, asked: &Asked<'_>) -> Result<(String, Tree, Access), Denial> {
    let repository = state.repos.get(&asked.target.repo);
    if let Some(denial) = denial::decide(repository, asked.request, false) {
        return Err(denial);
    }
    let repository = repository.ok_or(Denial::RepoNotFound)?;
    let commit = repository.resolve(&asked.target.revision).ok_or(Denial::RevisionNotFound)?;
    let tree = repository.tree(commit).ok_or(Denial::RevisionNotFound)?;
    Ok((commit.to_owned(), tree.clone(), repository.access.clone()))
}

/// Files and folders below `folder`.
fn entries(files: &Tree, folder: &str, is_recursive: bool, is_expanded: bool) -> Vec<Value> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut folders = BTreeSet::new();
    let mut entries = Vec::new();
    for (path, file) in files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        for (at, _) in below.match_indices('/') {
            let parent = format!("{prefix}{}", &below[..at]);
            let is_shown = is_recursive || !below[..at].contains('/');
            if is_shown && folders.insert(parent.clone()) {
                let oid = crate::Content::from(parent.as_str()).git_oid().unwrap_or_default();
                entries.push(json!({"type": "directory", "oid": oid, "size": 0, "path": parent}));
            }
        }
        if is_recursive || !below.contains('/') {
            entries.push(entry(path, file));
        }
    }
    if is_expanded {
        for entry in &mut entries {
            entry["lastCommit"] = json!({"id": "0".repeat(40), "title": "a commit", "date": A_DAY});
        }
    }
    entries
}

fn entry(path: &str, file: &Stored) -> Value {
    let size = file.content.size_bytes();
    let mut entry = json!({"type": "file", "oid": file.git_oid, "size": size, "path": path});
    if let (Some(digest), Some(pointer)) = (file.lfs, file.pointer_bytes()) {
        entry["lfs"] = json!({"oid": digest, "size": size, "pointerSize": pointer});
    }
    entry
}

/// A file that there is none of, looking like a large one.
fn invented(path: &str) -> Value {
    let file = Stored::new(path, super::resolve::INVENTED.into());
    file.map_or(Value::Null, |file| entry(path, &file))
}

fn distort(entries: &mut Vec<Value>, told: &Told) {
    if let BadAnswer::Names(names) = &told.lie {
        entries.extend(names.iter().map(|name| invented(name)));
    }
    let is_meant = |entry: &&mut Value| {
        entry["type"] == "file" && told.path.as_deref().is_none_or(|path| entry["path"] == path)
    };
    for entry in entries.iter_mut().filter(is_meant) {
        let is_large = entry.get("lfs").is_some();
        match &told.lie {
            BadAnswer::TreeSize(size) => {
                entry["size"] = json!(size);
                if is_large {
                    entry["lfs"]["size"] = json!(size);
                }
            }
            BadAnswer::TreeDigest if is_large => entry["lfs"]["oid"] = json!(WRONG_DIGEST),
            BadAnswer::TreeDigest => entry["oid"] = json!(&WRONG_DIGEST[..40]),
            BadAnswer::TreeOid(text) if is_large => entry["lfs"]["oid"] = json!(text),
            BadAnswer::TreeOid(text) => entry["oid"] = json!(text),
            _ => (),
        }
    }
}
