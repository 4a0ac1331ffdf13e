//! The lies that a hub can tell.

use serde::{Deserialize, Serialize};

use crate::count::Route;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadAnswer {
    /// Every byte is another one; etag, size and digest say otherwise.
    WrongBytes,
    /// One bit of one byte is flipped, when that byte is sent.
    FlipBit {
        /// Which byte of the file.
        at: u64,
    },
    /// The connection closes this many bytes before the declared end.
    ShortBody {
        /// How many are missing.
        by: u64,
    },
    /// The length is declared too small, and so many are sent: all looks well to HTTP.
    ShortLength {
        /// How many are missing.
        by: u64,
    },
    /// The length is declared too large, and so many are sent.
    LongLength {
        /// How many there are too many.
        by: u64,
    },
    /// More bytes follow where the body should have ended.
    Trailing {
        /// How many.
        by: u64,
    },
    /// No length is declared; the connection's end is the body's.
    NoLength,
    /// No length is declared; the body comes in chunks.
    Chunked,
    /// A page of HTML under a success, as captive portals give.
    HtmlPage,

    /// The whole file under 200, where a part was asked for.
    IgnoreRange,
    /// `Content-Range` names another place than the bytes are from.
    WrongContentRange {
        /// How many bytes it is off.
        shift: i64,
    },
    /// When a part is asked for, the file has another etag than it had before.
    ChangedEtag,
    /// 416 to a range that is in the file.
    Unsatisfiable,

    /// This stands in `ETag` and in `X-Linked-Etag`.
    Etag(String),
    /// This stands in `X-Repo-Commit`, and is the commit in the repository's description.
    Commit(String),
    /// This stands in `X-Linked-Size`.
    LinkedSize(u64),
    /// A header with this text, written to the wire as it is; replaces one of the same name.
    Header {
        /// Its name.
        name: String,
        /// Its text, which may hold line ends.
        value: String,
    },
    /// A header is left out.
    NoHeader {
        /// Its name.
        name: String,
    },

    /// The listing names these files too.
    Names(Vec<String>),
    /// The listing gives every file this size.
    TreeSize(u64),
    /// The listing gives every file the digest of other bytes.
    TreeDigest,
    /// The listing gives every file this text for a digest.
    TreeOid(String),
    /// The listing never ends: there is always a next page.
    EndlessPages,
    /// The next page is on another host.
    NextPageElsewhere,

    /// The file is said to be on another host (where it is, so that nothing but the redirect is wrong).
    /// Told of a repository's description or listing only when the rule says so.
    RedirectElsewhere,
    /// The file is said to be where it was just looked for.
    RedirectLoop,
    /// The file is said to be at this address.
    RedirectTo(String),
    /// Addresses at the CDN that were given out before this lie was told are no longer good.
    ExpireUrls,

    /// This status, with a short explanation.
    Status {
        /// The status.
        status: u16,
        /// When to come again.
        retry_after: Option<RetryAfter>,
    },
    /// Access is refused.
    Denied(Denial),
    /// A success whose text is this, whatever was asked for.
    Text(String),

    /// Nothing more comes after so many bytes of a body.
    Stall {
        /// How many.
        after: u64,
        /// For so long; forever when absent.
        for_ms: Option<u64>,
    },
    /// The connection closes after so many bytes of a body.
    Cut {
        /// How many.
        after: u64,
    },
    /// The connection is reset after so many bytes of a body; what is under way may be lost with it.
    Reset {
        /// How many.
        after: u64,
    },
    /// Bytes come one after the other.
    Drip {
        /// How fast.
        bytes_per_second: u64,
    },
    /// The connection closes before a word is said.
    HangUp,
    /// The answer's first byte comes late.
    Late {
        /// How late.
        by_ms: u64,
    },
}

/// How a `Retry-After` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// As seconds.
    Seconds(u64),
    /// As a date so many seconds from now.
    Date(u64),
    /// As something that it should not be.
    Nonsense,
}

/// The ways in which the real hub refuses access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// 401 `GatedRepo`: the client was not asked to authenticate yet.
    GatedAnonymous,
    /// 403 `GatedRepo`: you are not on the list.
    GatedStranger,
    /// 401 `RepoNotFound`: missing, or private and the client is anonymous.
    RepoNotFoundAnonymous,
    /// 404 `RepoNotFound`: missing, or private and not yours.
    RepoNotFound,
    /// 404 `RevisionNotFound`.
    RevisionNotFound,
    /// 404 `EntryNotFound`.
    EntryNotFound,
    /// 401 without a code: the token is not one.
    BadToken,
    /// 403 without a code.
    Forbidden,
    /// 403: the hub's operators closed the repository.
    Disabled,
}

/// Where in the making of an answer a lie has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Instead of any answer.
    Refusal,
    /// A redirect.
    Redirect,
    /// An address at the CDN.
    Expiry,
    /// Headers.
    Header,
    /// The listing of files.
    Listing,
    /// The body of a file.
    Body,
}

impl BadAnswer {
    pub(crate) fn topic(&self) -> Topic {
        match self {
            Self::WrongBytes
            | Self::FlipBit { .. }
            | Self::ShortBody { .. }
            | Self::ShortLength { .. }
            | Self::LongLength { .. }
            | Self::Trailing { .. }
            | Self::NoLength
            | Self::Chunked
            | Self::HtmlPage
            | Self::IgnoreRange
            | Self::WrongContentRange { .. }
            | Self::ChangedEtag
            | Self::Unsatisfiable
            | Self::Stall { .. }
            | Self::Cut { .. }
            | Self::Reset { .. }
            | Self::Drip { .. } => Topic::Body,
            Self::Etag(_)
            | Self::Commit(_)
            | Self::LinkedSize(_)
            | Self::Header { .. }
            | Self::NoHeader { .. } => Topic::Header,
            Self::Names(_)
            | Self::TreeSize(_)
            | Self::TreeDigest
            | Self::TreeOid(_)
            | Self::EndlessPages
            | Self::NextPageElsewhere => Topic::Listing,
            Self::RedirectElsewhere | Self::RedirectLoop | Self::RedirectTo(_) => Topic::Redirect,
            Self::ExpireUrls => Topic::Expiry,
            Self::Status { .. } | Self::Denied(_) | Self::Text(_) | Self::HangUp | Self::Late { .. } => {
                Topic::Refusal
            }
        }
    }

    /// Whether it has a meaning on this route when the test does not say on which.
    pub(crate) fn suits(&self, route: Route) -> bool {
        match self {
            Self::Etag(_) => matches!(
                route,
                Route::Resolve | Route::ResolveCache | Route::Cdn | Route::Elsewhere | Route::Plain
            ),
            Self::Commit(_) => matches!(route, Route::Resolve | Route::ResolveCache | Route::Info),
            Self::LinkedSize(_) => route == Route::Resolve,
            Self::RedirectElsewhere | Self::RedirectLoop | Self::RedirectTo(_) => {
                matches!(route, Route::Resolve | Route::Plain | Route::OllamaBlob)
            }
            Self::ExpireUrls => route == Route::Cdn,
            // The test that drives the hub is told the truth.
            _ => route != Route::Control,
        }
    }
}

/// Names of files that must never become a path: they climb out, are absolute, end early, mean a device, are
/// too long, or look like dots.
pub fn evil_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "../escaped.gguf",
        "../../../../../../../../tmp/samovar-escaped.gguf",
        "sub/../../escaped.gguf",
        "./dot.gguf",
        "..",
        ".",
        "",
        "/samovar-escaped.gguf",
        "//host/share/escaped.gguf",
        "nul\0.gguf",
        "C:\\escaped.gguf",
        "C:escaped.gguf",
        "\\\\host\\share\\escaped.gguf",
        "..\\escaped.gguf",
        "sub\\..\\..\\escaped.gguf",
        "CON.gguf",
        "aux",
        "trailing.gguf.",
        "trailing.gguf ",
        "stream.gguf:hidden",
        "line\nend.gguf",
        "escape\u{1b}[2J.gguf",
        "\u{2025}/escaped.gguf",
        "\u{ff0e}\u{ff0e}/escaped.gguf",
        "\u{2024}\u{2024}/escaped.gguf",
        "\u{2216}..\u{2216}escaped.gguf",
        "right\u{202e}fugg.to.left",
        "sub//double.gguf",
        "sub/",
    ]
    .map(str::to_owned)
    .into();
    names.push(format!("{}.gguf", "n".repeat(300)));
    names.push(format!("{}escaped.gguf", "deep/".repeat(900)));
    names
}

/// Names of files that are odd and do no harm below a folder, unless they are decoded or expanded.
pub fn odd_names() -> Vec<String> {
    [
        "~/home.gguf",
        "%2e%2e/percent.gguf",
        "..%2fpercent.gguf",
        "$HOME.gguf",
        "-rf.gguf",
        "a b.gguf",
        "é.gguf",
    ]
    .map(str::to_owned)
    .into()
}

/// Etags and commits that must never become a path, nor fill a memory.
pub fn evil_tags() -> Vec<String> {
    let mut tags: Vec<String> = [
        "../../escaped",
        "\"../../escaped\"",
        "/tmp/samovar-escaped",
        "",
        "\"\"",
        "W/\"weak\"",
        "\"unclosed",
        "..",
        "split\r\nX-Injected: yes",
        "split\nX-Injected: yes",
        "zero\0byte",
        "\"0000000000000000000000000000000000000000000000000000000000000000\"",
        "\"md5:d41d8cd98f00b204e9800998ecf8427e\"",
        "\u{ff0e}\u{ff0e}/escaped",
    ]
    .map(str::to_owned)
    .into();
    tags.push("a".repeat(10 * 1024));
    tags
}
