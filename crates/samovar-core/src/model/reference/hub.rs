//! A repository on a hub, or one file in it.
//!
//! ```text
//!   hf://org/name[@revision][/path/to/file.gguf][:quantization]
//!   hf.co/org/name[:quantization]   https://huggingface.co/org/name[/tree/…|/blob/…|/resolve/…]
//! ```
//!
//! A file is one whose last component ends in `.gguf` or `.safetensors`; naming it needs the `hf://`
//! and leaves no choice to a quantization. Revisions may hold `/`. Where a file follows, the revision
//! is the one component after `@`, or three for `refs/pr/3` and its like; where none follows, it is all
//! that is left. So `@feature/x.gguf` is the file `x.gguf` at `feature`, and a branch with a `/` in
//! its name cannot be named together with a file: its commit can.

use super::part::{self, Part};
use super::{HUB_SCHEME, MAX_LONG_NAME_BYTES, MAX_NAME_BYTES, ParseReferenceError};
use crate::digest::Digest;

/// What the hub is called in a browser's address line.
const HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];
/// Parts of it that look like an organisation and have no models.
const NO_MODELS: [&str; 7] = ["api", "blog", "collections", "datasets", "docs", "papers", "spaces"];
/// Parts of a repository that are of one revision, or of one change, and are no model as a whole.
const OF_A_REVISION: [&str; 10] =
    ["blame", "blob", "commit", "commits", "delete", "edit", "raw", "resolve", "tree", "upload"];
/// What a file must end in to be named.
const FILE_SUFFIXES: [&str; 2] = [".gguf", ".safetensors"];
const DEFAULT_BRANCH: &str = "main";

/// A repository on a hub, or one file in it. Made by parsing only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubRef {
    org: String,
    name: String,
    revision: Option<String>,
    file: Option<String>,
    quant: Option<String>,
}

impl HubRef {
    /// The user or organisation.
    pub fn org(&self) -> &str {
        &self.org
    }

    /// The repository's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit, if one is asked for.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The one file that is asked for, as its path in the repository: plain components, no `..`.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The quantization, if one is asked for, as it was written. Never together with a file.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// Whether it leaves open which of the repository's models is meant.
    pub fn leaves_choice(&self) -> bool {
        self.file.is_none() && self.quant.is_none()
    }

    /// Reads what follows `hf://`; `whole` is what the user wrote.
    pub(super) fn parse(text: &str, whole: &str) -> Result<Self, ParseReferenceError> {
        let (rest, quant) = match text.split_once(':') {
            Some((rest, quant)) => (rest, Some(quant)),
            None => (text, None),
        };
        let shape = || ParseReferenceError::Shape(whole.to_owned());
        let (repository, revision, file) = match rest.split_once('@') {
            Some((repository, rest)) => {
                let (revision, file) = revision_and_file(rest);
                (repository, Some(revision), file)
            }
            None => match rest.match_indices('/').nth(1) {
                Some((end, _)) => (&rest[..end], None, Some(&rest[end + 1..])),
                None => (rest, None, None),
            },
        };
        let (org, name) =
            repository.split_once('/').filter(|(_, name)| !name.contains('/')).ok_or_else(shape)?;
        // Without the scheme a path is meant, and `models/tiny/x.safetensors` is a slip.
        if file.is_some_and(|file| !is_file(file) || !whole.starts_with(HUB_SCHEME)) {
            return Err(shape());
        }
        check(org, name, revision, file, quant)?;
        Ok(Self {
            org: org.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
            quant: quant.map(str::to_owned),
        })
    }

    /// What a page of the hub shows, by its address as a browser or another program writes it, without `https://`;
    /// `None` when it is no page of the hub.
    pub(super) fn of_page(address: &str) -> Option<Result<Self, ParseReferenceError>> {
        let page = page(address)?;
        let path = page.split(['?', '#']).next().unwrap_or(page).trim_end_matches('/');
        let shown = || format!("{}/{path}", HOSTS[0]);
        // Dropped in silence, it would seem to have been checked.
        if page.split_once('#').is_some_and(|(_, fragment)| is_like_digest(fragment)) {
            return Some(Err(ParseReferenceError::HubDigest(shown())));
        }
        Some(Self::shown_at(path).ok_or_else(|| ParseReferenceError::HubPage(shown())))
    }

    /// What the page at this path shows.
    fn shown_at(path: &str) -> Option<Self> {
        let (org, name, revision, file) = match path.splitn(4, '/').collect::<Vec<_>>()[..] {
            [area, ..] if NO_MODELS.contains(&area) => return None,
            [org, name, "tree", rest] => (org, name, revision_of_page(rest).0, None),
            [org, name, "resolve" | "blob", rest] => {
                let (revision, file) = revision_of_page(rest);
                (org, name, revision, Some(file.filter(|file| is_file(file))?))
            }
            [_, _, area, ..] if OF_A_REVISION.contains(&area) => return None,
            [org, name, ..] => (org, name, DEFAULT_BRANCH.to_owned(), None),
            _ => return None,
        };
        let mut text = format!("{org}/{name}");
        if revision != DEFAULT_BRANCH {
            text.push('@');
            text.push_str(&revision);
        }
        if let Some(file) = file {
            text.push('/');
            text.push_str(file);
        }
        let read = Self::parse(&text, &format!("{HUB_SCHEME}{text}")).ok()?;
        // A branch with a `/` in its name would be read as another one and a folder.
        let is_meant = read.revision().unwrap_or(DEFAULT_BRANCH) == revision && read.file() == file;
        is_meant.then_some(read)
    }

    /// Whether `address` is one of the hub's, without `https://`.
    pub fn is_page(address: &str) -> bool {
        page(address).is_some()
    }
}

/// What follows the host in an address of the hub.
fn page(address: &str) -> Option<&str> {
    let address = address.strip_prefix("www.").unwrap_or(address);
    HOSTS.iter().find_map(|host| address.strip_prefix(host)?.strip_prefix('/'))
}

fn is_file(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    FILE_SUFFIXES.iter().any(|suffix| path.ends_with(suffix))
}

/// Whether a digest is meant by what follows `#`, and no heading of the page.
fn is_like_digest(fragment: &str) -> bool {
    fragment.contains(['=', ':']) || fragment.parse::<Digest>().is_ok()
}

/// The revision at the beginning of what follows `tree/` and its like in an address, and what follows the revision.
fn revision_of_page(text: &str) -> (String, Option<&str>) {
    let components = if text.starts_with("refs/") { 3 } else { 1 };
    let (revision, rest) = match text.match_indices('/').nth(components - 1) {
        Some((end, _)) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    };
    // The hub escapes the `/` in the name of a branch.
    (revision.replace("%2F", "/").replace("%2f", "/"), rest)
}

/// What follows `@`, as the module's documentation says.
fn revision_and_file(text: &str) -> (&str, Option<&str>) {
    let components = if text.starts_with("refs/") { 3 } else { 1 };
    match text.match_indices('/').nth(components - 1) {
        Some((end, _)) if is_file(text) => (&text[..end], Some(&text[end + 1..])),
        _ => (text, None),
    }
}

fn check(
    org: &str,
    name: &str,
    revision: Option<&str>,
    file: Option<&str>,
    quant: Option<&str>,
) -> Result<(), ParseReferenceError> {
    Part { what: "an organisation", text: org, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    Part { what: "a repository name", text: name, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    if let Some(revision) = revision {
        Part { what: "a revision", text: revision, max_bytes: MAX_LONG_NAME_BYTES, also: "._-/" }.check()?;
    }
    if let Some(file) = file {
        part::check_path("a file of a repository", file)?;
    }
    if let Some(quant) = quant {
        Part { what: "a quantization", text: quant, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
        part::refuse_if("a choice", quant, file.map(|_| "the file is named already"))?;
    }
    Ok(())
}

impl std::fmt::Display for HubRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // In full, so that a repository called `x.gguf` does not read back as a file.
        write!(f, "{HUB_SCHEME}{}/{}", self.org, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if let Some(quant) = &self.quant {
            write!(f, ":{quant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ModelRef, tests::read};
    use super::*;

    type Parts = (String, String, Option<String>, Option<String>, Option<String>);

    fn hub(text: &str) -> Parts {
        match read(text) {
            Ok(ModelRef::Hub(hub)) => (hub.org, hub.name, hub.revision, hub.file, hub.quant),
            other => panic!("{text:?} read as {other:?}"),
        }
    }

    fn parts(org: &str, name: &str, revision: &str, file: &str, quant: &str) -> Parts {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (org.to_owned(), name.to_owned(), some(revision), some(file), some(quant))
    }

    #[test]
    fn revision_and_quantization_are_optional() {
        assert_eq!(hub("org/name"), parts("org", "name", "", "", ""));
        assert_eq!(hub("org/name:Q4_K_M"), parts("org", "name", "", "", "Q4_K_M"));
        assert_eq!(hub("hf://org/name.gguf"), parts("org", "name.gguf", "", "", ""));
        assert_eq!(hub("hf://o/n@refs/pr/3:Q8_0"), parts("o", "n", "refs/pr/3", "", "Q8_0"));
        assert_eq!(hub("hf://o/n@feature/x"), parts("o", "n", "feature/x", "", ""));
    }

    #[test]
    fn one_file_may_be_named_with_and_without_a_revision() {
        assert_eq!(hub("hf://o/n/x.gguf"), parts("o", "n", "", "x.gguf", ""));
        assert_eq!(hub("hf://o/n/a/b/x-Q4.GGUF"), parts("o", "n", "", "a/b/x-Q4.GGUF", ""));
        assert_eq!(hub("hf://o/n@main/a/x.safetensors"), parts("o", "n", "main", "a/x.safetensors", ""));
        assert_eq!(hub("hf://o/n@refs/pr/3/x.gguf"), parts("o", "n", "refs/pr/3", "x.gguf", ""));
        assert_eq!(hub("hf://o/n@refs/pr/3.gguf"), parts("o", "n", "refs/pr/3.gguf", "", ""));
        assert_eq!(hub("hf://o/n@v1.gguf"), parts("o", "n", "v1.gguf", "", ""));
        assert_eq!(hub("hf://o/n@feature/x.gguf"), parts("o", "n", "feature", "x.gguf", ""));
    }

    #[test]
    fn a_path_without_the_scheme_is_no_file_of_a_hub() {
        assert_eq!(read("org/name/x.gguf"), Ok(ModelRef::file("org/name/x.gguf")));
        assert!(matches!(read("org/name/x.safetensors"), Err(ParseReferenceError::Shape(_))));
        assert!(matches!(read("org/name@main/x.safetensors"), Err(ParseReferenceError::Shape(_))));
    }

    #[test]
    fn refuses_files_that_are_none_or_lead_elsewhere() {
        let long = format!("hf://o/n/{}.gguf", "x".repeat(300));
        for text in [
            "hf://o/n/readme.md",
            "hf://o/n/model.bin",
            "hf://o/n/",
            "hf://o/n//x.gguf",
            "hf://o/n/../x.gguf",
            "hf://o/n/a/../../x.gguf",
            "hf://o/n/./x.gguf",
            "hf://o/n/.hidden.gguf",
            "hf://o/n/.gguf",
            "hf://o/n/a\\x.gguf",
            "hf://o/n/C:/x.gguf",
            "hf://o/n/x.gguf:Q4_K_M",
            "hf://o/n/x y.gguf",
            "hf://o/n/x%2e%2e.gguf",
            "hf://o/n/\u{2024}\u{2024}/x.gguf",
            "hf://o/n@/x.gguf",
            "hf://o/n@../x.gguf",
            "hf://o/n@main/../x.gguf",
            "hf://o@main/n/x.gguf",
            &long,
        ] {
            assert!(read(text).is_err(), "{text:?} read as {:?}", read(text));
        }
    }

    #[test]
    fn pages_of_the_hub_are_what_they_show() {
        for (page, reference) in [
            ("https://huggingface.co/org/name", "hf://org/name"),
            ("https://www.huggingface.co/org/name/", "hf://org/name"),
            ("hf.co/org/name", "hf://org/name"),
            ("hf.co/org/name:Q4_K_M", "hf://org/name:Q4_K_M"),
            ("huggingface.co/org/name/blob/main/x.gguf", "hf://org/name/x.gguf"),
            ("https://hf.co/org/name/tree/main", "hf://org/name"),
            ("https://huggingface.co/org/name/tree/v2", "hf://org/name@v2"),
            ("https://huggingface.co/org/name/blob/main/x.gguf", "hf://org/name/x.gguf"),
            ("http://huggingface.co/o/n/resolve/v2/a/x.gguf?download=true", "hf://o/n@v2/a/x.gguf"),
            ("https://huggingface.co/org/name/discussions/3", "hf://org/name"),
            ("https://huggingface.co/org/name#how-to-use", "hf://org/name"),
            ("https://huggingface.co/o/n/tree/main/folder", "hf://o/n"),
            ("https://huggingface.co/o/n/tree/v2/folder/inner", "hf://o/n@v2"),
            ("https://huggingface.co/o/n/tree/refs/pr/3", "hf://o/n@refs/pr/3"),
            ("https://huggingface.co/o/n/tree/refs%2Fpr%2F3/folder", "hf://o/n@refs/pr/3"),
            ("https://huggingface.co/o/n/blob/refs%2Fpr%2F3/x.gguf", "hf://o/n@refs/pr/3/x.gguf"),
            ("https://huggingface.co/o/n/tree/feature%2Fx", "hf://o/n@feature/x"),
        ] {
            assert_eq!(read(page).map(|read| read.to_string()), Ok(reference.to_owned()), "{page}");
        }
        for page in [
            "https://huggingface.co/models",
            "hf.co/org",
            "https://huggingface.co/datasets/org/name",
            "https://huggingface.co/o/n/blob/main/readme.md",
            "https://huggingface.co/o/n/blob/v2/readme.md",
            "https://huggingface.co/o/n/resolve/main",
            "https://huggingface.co/o/n/raw/v2/x.gguf",
            "https://huggingface.co/o/n/commit/0123abc",
            "https://huggingface.co/o/n/commits/v2",
            "https://huggingface.co/o/n/blame/v2/x.gguf",
            // Of the branch `feature/a`, which cannot be named together with a file.
            "https://huggingface.co/o/n/blob/feature%2Fa/x.gguf",
        ] {
            let error = read(page).unwrap_err();
            assert!(matches!(error, ParseReferenceError::HubPage(_)), "{page}: {error:?}");
            assert!(error.hint().contains("hf://organisation/name"), "{page}");
        }
    }

    #[test]
    fn a_digest_behind_a_page_of_the_hub_is_never_dropped() {
        let digest = Digest::of_bytes(b"abc");
        for page in [
            format!("https://huggingface.co/o/n/resolve/main/x.gguf#sha256={digest}"),
            format!("hf.co/o/n/resolve/main/x.gguf?download=true#sha256:{digest}"),
            format!("https://huggingface.co/o/n#{digest}"),
            "https://huggingface.co/o/n/resolve/main/x.gguf#md5=abc".to_owned(),
        ] {
            let error = read(&page).unwrap_err();
            assert!(matches!(error, ParseReferenceError::HubDigest(_)), "{page}: {error:?}");
            assert!(error.hint().contains("@commit"), "{page}");
        }
    }
}
