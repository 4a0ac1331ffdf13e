//! The page for people: `/` for browsers, and its files below `/page/`. It holds no data and needs no key; what it shows it asks the
//! other routes for, with the key that its user gives it.
//!
//! ```text
//!   GET /            accept: text/html          index.html
//!                    accept: application/json   what this server is, and where its APIs are
//!                    anything else              Ollama's text, for its clients
//!   GET /page/NAME                              a file of dashboard/page/, by its digest
//! ```

mod files;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use samovar_core::Digest;
use serde_json::json;

use crate::ollama::root::RUNNING;
use crate::openai;
use crate::refusal::{Refusal, UNKNOWN_ROUTE};
use files::{FILES, INDEX, PageFile};

/// What the page may do: it runs its own scripts alone, makes no markup of text, and asks no other server.
const POLICY: &str = include_str!("../../../../dashboard/policy.txt");
const CROSS_ORIGIN_OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `GET /`, `HEAD /`: the page for browsers; for programs, what they expect at a server's root.
pub(crate) async fn root(headers: HeaderMap) -> Response {
    let accepts = |media: &str| {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accepted
            .flat_map(|value| value.split(','))
            .any(|range| range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media)))
    };
    let vary = [(header::VARY, "accept")];
    if accepts("text/html") {
        return (vary, served(&INDEX, &headers)).into_response();
    }
    if accepts("application/json") {
        let about = json!({
            "name": "samovar",
            "version": env!("CARGO_PKG_VERSION"),
            "openapi": "/openapi.json",
            "models": "/v1/models",
        });
        return (vary, Json(about)).into_response();
    }
    (vary, RUNNING).into_response()
}

/// `GET /page/{id}`: a file of the page.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    FILES.iter().find(|file| file.name == name).map_or_else(
        || {
            openai::refuse(Refusal::new(
                StatusCode::NOT_FOUND,
                UNKNOWN_ROUTE,
                "the page has no file of this name",
            ))
        },
        |file| served(file, &headers),
    )
}

/// The file, or that the browser has it already.
fn served(file: &PageFile, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", Digest::of_bytes(file.bytes));
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.trim_end()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_OPENER, "same-origin"),
        (CROSS_ORIGIN_RESOURCE, "same-origin"),
        // A new version of the daemon has new files under the same names: a browser asks each time, by the digest.
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, tag.as_str()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, file.content_type)], Bytes::from_static(file.bytes)).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Bytes that a browser fetches for any view, at most.
    const WEIGHT_MAX: usize = 150_000;

    fn text(name: &str) -> &'static str {
        let file = FILES.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("{name} is no file"));
        std::str::from_utf8(file.bytes).expect("UTF-8")
    }

    /// The files that a module imports before it runs, itself included.
    fn imported(name: &str, found: &mut BTreeSet<String>) {
        if !found.insert(name.to_owned()) {
            return;
        }
        for part in text(name).split("from '").skip(1) {
            let imported_name = part.split('\'').next().unwrap_or_default();
            if let Some(other) = imported_name.strip_prefix("./") {
                imported(other, found);
            }
        }
    }

    #[test]
    fn every_file_is_served_and_every_served_file_is_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard/page");
        let list = |folder: std::path::PathBuf, before: &str| -> Vec<String> {
            let entries = fs_err::read_dir(folder).expect("is a folder").map(|entry| entry.expect("reads"));
            let files = entries.filter(|entry| entry.path().is_file());
            files.map(|entry| format!("{before}{}", entry.file_name().to_string_lossy())).collect()
        };
        let mut there = list(folder.clone(), "");
        there.extend(list(folder.join("vendor"), "vendor/"));
        let not_served = |name: &String| {
            name == "index.html" || name.starts_with("vendor/LICENSE") || name == "vendor/pinned.txt"
        };
        there.retain(|name| !not_served(name));
        there.sort();
        let mut served: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(served, there);
    }

    #[test]
    fn the_vendored_files_are_those_that_their_authors_published() {
        let pinned = include_str!("../../../../dashboard/page/vendor/pinned.txt");
        let lines = pinned.lines().filter(|line| !line.starts_with('#'));
        let pinned: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once("  ")).collect();
        let vendored: Vec<&PageFile> = FILES.iter().filter(|file| file.name.starts_with("vendor/")).collect();
        assert_eq!(pinned.len(), vendored.len());
        for file in vendored {
            let digest = Digest::of_bytes(file.bytes).to_string();
            let name = file.name.trim_start_matches("vendor/");
            assert!(pinned.contains(&(digest.as_str(), name)), "{name} has the digest {digest}");
        }
    }

    #[test]
    fn the_policy_names_the_import_map_and_lets_nothing_else_in() {
        let index = std::str::from_utf8(INDEX.bytes).expect("UTF-8");
        let map = index.split_once("<script type=\"importmap\">").and_then(|(_, rest)| rest.split_once('<'));
        let (map, _) = map.expect("an import map");
        let digest = STANDARD.encode(Digest::of_bytes(map.as_bytes()).as_bytes());
        assert!(POLICY.contains(&format!("script-src 'self' 'sha256-{digest}';")), "its digest is {digest}");
        for needed in ["default-src 'none'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"] {
            assert!(POLICY.contains(needed), "{needed}");
        }
        assert!(!POLICY.contains("unsafe") && !POLICY.contains("http") && !POLICY.contains('*'), "{POLICY}");
        assert!(!index.contains("style=") && !index.contains("onload="), "{index}");
    }

    #[test]
    fn no_view_weighs_more_than_150_kilobytes() {
        let vendored = FILES.iter().filter(|file| file.name.starts_with("vendor/"));
        let frame = INDEX.bytes.len() + text("app.css").len() + text("icon.svg").len();
        let frame = frame + vendored.map(|file| file.bytes.len()).sum::<usize>();
        for view in ["dashboard.js", "chat.js", "playground.js"] {
            let mut modules = BTreeSet::new();
            imported("app.js", &mut modules);
            imported(view, &mut modules);
            let weight = frame + modules.iter().map(|name| text(name).len()).sum::<usize>();
            assert!(weight <= WEIGHT_MAX, "{view}: {weight} bytes");
        }
    }
}
