//! The files of the page, as the binary carries them: a table, with nothing else.

/// A file of the page.
#[derive(Debug)]
pub(super) struct PageFile {
    /// Below `/page/`.
    pub(super) name: &'static str,
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! page_file {
    ($name:literal, $content_type:expr) => {
        PageFile {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../../../dashboard/page/", $name)),
        }
    };
}

/// The page itself, which is served at `/`.
pub(super) const INDEX: PageFile = page_file!("index.html", HTML);

/// What it fetches.
pub(super) const FILES: &[PageFile] = &[
    page_file!("actions.js", SCRIPT),
    page_file!("answer.js", SCRIPT),
    page_file!("api.js", SCRIPT),
    page_file!("app.css", STYLE),
    page_file!("app.js", SCRIPT),
    page_file!("chat.js", SCRIPT),
    page_file!("dashboard.js", SCRIPT),
    page_file!("dom.js", SCRIPT),
    page_file!("format.js", SCRIPT),
    page_file!("gate.js", SCRIPT),
    page_file!("icon.svg", IMAGE),
    page_file!("live.js", SCRIPT),
    page_file!("markdown.js", SCRIPT),
    page_file!("message.js", SCRIPT),
    page_file!("parts.js", SCRIPT),
    page_file!("playground.js", SCRIPT),
    page_file!("settings.js", SCRIPT),
    page_file!("snippets.js", SCRIPT),
    page_file!("store.js", SCRIPT),
    page_file!("vendor/htm.mjs", SCRIPT),
    page_file!("vendor/preact-hooks.mjs", SCRIPT),
    page_file!("vendor/preact.mjs", SCRIPT),
    page_file!("vendor/signals-core.mjs", SCRIPT),
    page_file!("vendor/signals.mjs", SCRIPT),
];
