//! A model at another place than the hub: a web server, an object store, a folder, Ollama's registry.
//!
//! ```text
//!   https://host/path/model.gguf#sha256=…   http:// too; a query is kept, unless it carries a secret
//!   s3://bucket/key.gguf                    gs://bucket/key  az://container/key
//!   file:///models/x.gguf  file:///models   copied into the store, where a plain path is used in place
//!   ollama://name:tag                       ollama://namespace/name:tag
//! ```
//!
//! What is read is kept in one spelling: scheme and host in lower case, no `/` at the end of a key or a
//! path, Ollama's names without what is said anyway (`library/`, `:latest`).

mod file;
mod object;
mod ollama;
mod secrets;
mod web;

use std::path::PathBuf;

use super::{MAX_NAME_BYTES, ParseReferenceError, part, percent};
use crate::digest::Digest;

pub use ollama::OllamaName;

/// How a place is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A web server, unprotected.
    Http,
    /// A web server.
    Https,
    /// An S3 bucket.
    S3,
    /// A Google Cloud Storage bucket.
    Gs,
    /// An Azure Blob container.
    Az,
    /// A file or folder of this machine that is copied into the store.
    File,
    /// Ollama's registry.
    Ollama,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 7] =
        [Self::Http, Self::Https, Self::S3, Self::Gs, Self::Az, Self::File, Self::Ollama];

    /// What stands before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::File => "file",
            Self::Ollama => "ollama",
        }
    }

    /// The scheme of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A model at another place than the hub. Made by parsing only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteRef {
    scheme: Scheme,
    location: String,
    digest: Option<Digest>,
}

impl RemoteRef {
    /// A file or folder of this machine by its absolute path.
    ///
    /// # Errors
    /// When the path is not absolute, or no reference can hold it.
    pub fn of_path(path: &str) -> Result<Self, ParseReferenceError> {
        Self::parse(Scheme::File, &percent::encoded(path))
    }

    /// How the place is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The place, by scheme:
    /// `host[:port]/path[?query]` with its escapes as they were written (http, https);
    /// `bucket/key` (s3, gs, az); the absolute path without escapes (file); `[namespace/]name[:tag]` (ollama).
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The digest that the bytes must have, if the user named one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The whole URL without the digest: what a web client is given (http, https).
    pub fn url(&self) -> String {
        let location = match self.scheme {
            Scheme::File => &percent::encoded(&self.location),
            _ => &self.location,
        };
        format!("{}://{location}", self.scheme)
    }

    /// Bucket or container and the key in it (s3, gs, az).
    pub fn bucket_and_key(&self) -> Option<(&str, &str)> {
        match self.scheme {
            Scheme::S3 | Scheme::Gs | Scheme::Az => self.location.split_once('/'),
            _ => None,
        }
    }

    /// The absolute path (file).
    pub fn path(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::File).then(|| PathBuf::from(&self.location))
    }

    /// The name in Ollama's registry (ollama).
    pub fn ollama(&self) -> Option<OllamaName<'_>> {
        (self.scheme == Scheme::Ollama).then(|| OllamaName::of(&self.location))
    }

    /// The last component without escapes: a plain name, never empty, without separators, no `..`;
    /// what a file is called that comes from there.
    pub fn file_name(&self) -> String {
        let path = match self.scheme {
            Scheme::Http | Scheme::Https => before(&self.location, '?'),
            Scheme::Ollama => OllamaName::of(&self.location).name,
            _ => &self.location,
        };
        let last = path.rsplit('/').next().unwrap_or(path);
        match self.scheme {
            Scheme::Http | Scheme::Https => percent::decoded(last).unwrap_or_else(|| last.to_owned()),
            _ => last.to_owned(),
        }
    }

    /// Reads what follows `scheme://`.
    pub(super) fn parse(scheme: Scheme, text: &str) -> Result<Self, ParseReferenceError> {
        let (place, fragment) = match text.split_once('#') {
            Some((place, fragment)) => (place, Some(fragment)),
            None => (text, None),
        };
        // First, so that no other complaint repeats it.
        secrets::check(scheme, place)?;
        let printable = place.chars().all(|c| c.is_ascii_graphic());
        part::refuse_if("a URL", place, (!printable).then_some("it may hold printable ASCII only"))?;
        let digest = match fragment {
            None => None,
            Some(_) if scheme == Scheme::Ollama => {
                return Err(ParseReferenceError::Part {
                    what: "a model of Ollama's registry",
                    text: text.to_owned(),
                    reason: "its registry says the digest, so none is written here",
                });
            }
            Some(fragment) => Some(digest(fragment)?),
        };
        let location = match scheme {
            Scheme::Http | Scheme::Https => web::parse(place)?,
            Scheme::S3 | Scheme::Gs | Scheme::Az => object::parse(place)?,
            Scheme::File => file::parse(place)?,
            Scheme::Ollama => ollama::parse(place)?,
        };
        Ok(Self { scheme, location, digest })
    }
}

fn before(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or(text)
}

fn digest(fragment: &str) -> Result<Digest, ParseReferenceError> {
    match fragment.split_once(['=', ':']) {
        Some((algorithm, digits)) if algorithm.eq_ignore_ascii_case("sha256") && !digits.contains(':') => {
            digits.parse().map_err(ParseReferenceError::Digest)
        }
        Some((algorithm, _)) if !algorithm.is_empty() && algorithm.len() <= MAX_NAME_BYTES => {
            Err(ParseReferenceError::Algorithm(algorithm.to_owned()))
        }
        _ => Err(ParseReferenceError::Fragment(fragment.chars().take(MAX_NAME_BYTES).collect())),
    }
}

fn refused(what: &'static str, text: &str, reason: &'static str) -> ParseReferenceError {
    ParseReferenceError::Part { what, text: text.to_owned(), reason }
}

impl std::fmt::Display for RemoteRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url())?;
        match self.digest {
            Some(digest) => write!(f, "#sha256={digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ModelRef, tests::read};
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn remote(text: &str) -> RemoteRef {
        match read(text) {
            Ok(ModelRef::Remote(remote)) => remote,
            other => panic!("{text:?} read as {other:?}"),
        }
    }

    #[test]
    fn every_scheme_has_its_place() {
        for (text, scheme, location) in [
            ("https://example.com/a/x.gguf", Scheme::Https, "example.com/a/x.gguf"),
            ("http://127.0.0.1:8080/x.gguf", Scheme::Http, "127.0.0.1:8080/x.gguf"),
            ("http://[::1]:80/x.gguf", Scheme::Http, "[::1]:80/x.gguf"),
            ("http://[::1]/x.gguf", Scheme::Http, "[::1]/x.gguf"),
            ("https://h/x.gguf?download=true", Scheme::Https, "h/x.gguf?download=true"),
            ("https://h/a%20b@c.gguf", Scheme::Https, "h/a%20b@c.gguf"),
            ("s3://bucket/key.gguf", Scheme::S3, "bucket/key.gguf"),
            ("s3://bucket/folder/", Scheme::S3, "bucket/folder"),
            ("gs://bucket/a/b.gguf", Scheme::Gs, "bucket/a/b.gguf"),
            ("az://container/a+b.gguf", Scheme::Az, "container/a+b.gguf"),
            ("file:///models/x.gguf", Scheme::File, "/models/x.gguf"),
            ("file:///mnt/My%20Models/", Scheme::File, "/mnt/My Models"),
            ("file:///home/me/.cache/andr%C3%A9/50%25", Scheme::File, "/home/me/.cache/andré/50%"),
            ("ollama://llama3.2:1b", Scheme::Ollama, "llama3.2:1b"),
            ("ollama://me/model", Scheme::Ollama, "me/model"),
        ] {
            let remote = remote(text);
            assert_eq!((remote.scheme(), remote.location(), remote.digest()), (scheme, location, None));
        }
    }

    #[test]
    fn one_place_has_one_spelling() {
        for (text, shown) in [
            ("HTTPS://Example.COM/X.gguf", "https://example.com/X.gguf"),
            ("s3://b/k/", "s3://b/k"),
            ("file:///a/%41/", "file:///a/A"),
            ("file:///a/b%20c%23d", "file:///a/b%20c%23d"),
            ("ollama://library/x:latest", "ollama://x"),
            ("ollama://me/x:latest", "ollama://me/x"),
        ] {
            assert_eq!(remote(text).to_string(), shown);
            assert_eq!(remote(shown), remote(text));
        }
        let digest = Digest::of_bytes(b"abc");
        let upper = remote(&format!("https://h/x.gguf#SHA256={}", ABC.to_uppercase()));
        assert_eq!(upper.digest(), Some(digest));
        assert_eq!(upper.to_string(), format!("https://h/x.gguf#sha256={ABC}"));
        assert_eq!(upper.url(), "https://h/x.gguf");
        assert_eq!(remote(&format!("s3://b/x#sha256:{ABC}")).digest(), Some(digest));
    }

    #[test]
    fn a_place_is_taken_apart_by_its_scheme() {
        let name = |text: &str| remote(text).file_name();
        assert_eq!(name("https://h/a/x%20y.gguf?v=1/2"), "x y.gguf");
        assert_eq!(name("s3://b/a/x.gguf"), "x.gguf");
        assert_eq!(name("file:///a/b%20c"), "b c");
        assert_eq!(name("ollama://me/x:1b"), "x");
        assert_eq!(remote("s3://b/a/x").bucket_and_key(), Some(("b", "a/x")));
        assert_eq!(remote("https://b/a/x").bucket_and_key(), None);
        assert_eq!(remote("file:///a%20b").path(), Some(PathBuf::from("/a b")));
        let full = OllamaName { namespace: "library", name: "x", tag: "latest" };
        assert_eq!(remote("ollama://x").ollama(), Some(full));
        let full = OllamaName { namespace: "me", name: "x", tag: "1b" };
        assert_eq!(remote("ollama://me/x:1b").ollama(), Some(full));
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "https://user:hunter2@h/x.gguf",
            "https://hunter2@h/x.gguf",
            "https://hunter2@h",
            "s3://id:hunter2@bucket/x.gguf",
            "file://hunter2@h/x",
            "https://h/x.gguf?a=1&token=hunter2",
            "https://h/x.gguf?%74oken=hunter2",
            "https://h/x.gguf?X-Amz-Signature=hunter2",
            "https://h/x y?sig=hunter2",
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, ParseReferenceError::Secret { .. }), "{text}: {error:?}");
            assert!(!format!("{error} {} {error:?}", error.hint()).contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn other_digests_than_sha256_are_refused_by_name() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(error("https://h/x#md5=abc"), ParseReferenceError::Algorithm("md5".to_owned()));
        assert_eq!(error("s3://b/x#blake3:abc"), ParseReferenceError::Algorithm("blake3".to_owned()));
        assert!(matches!(error("https://h/x#sha256=abc"), ParseReferenceError::Digest(_)));
        assert!(matches!(error(&format!("https://h/x#{ABC}")), ParseReferenceError::Fragment(_)));
        assert!(matches!(error("https://h/x#"), ParseReferenceError::Fragment(_)));
        assert!(error(&format!("https://h/x#sha256=sha256:{ABC}")).hint().contains("#sha256="));
        assert!(error(&format!("ollama://x#sha256={ABC}")).to_string().contains("registry"));
    }

    #[test]
    fn refuses_places_that_are_none_or_lead_elsewhere() {
        let long = format!("https://h/{}.gguf", "x".repeat(300));
        let long_key = format!("s3://b/{}", "x".repeat(300));
        let long_file = format!("file:///{}", "x".repeat(300));
        for text in [
            "https://",
            "https://h",
            "https://h/",
            "https:///x.gguf",
            "https://h/a/",
            "https://h//x.gguf",
            "https://h/../x.gguf",
            "https://h/%2e%2e/x.gguf",
            "https://h/..%2fx.gguf",
            "https://h/a%2Fb.gguf",
            "https://h/a%5cb.gguf",
            "https://h/a%00b.gguf",
            "https://h/a%0ab.gguf",
            "https://h/a%zzb.gguf",
            "https://h/a%2",
            "https://h/a\\b.gguf",
            "https://h/a b.gguf",
            "https://h/é.gguf",
            "https://h:99999/x.gguf",
            "https://h:/x.gguf",
            "https://h:+1/x.gguf",
            "https://[::zz]/x.gguf",
            "https://-h/x.gguf",
            "https://h..h/x.gguf",
            "https://h\u{2024}com/x.gguf",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://bucket//key",
            "s3://bucket/../key",
            "s3://bucket/a/./b",
            "s3://bucket/a?versionId=3",
            "s3://bucket/a%2e",
            "gs://buc ket/a",
            "az://container/a\\b",
            "az://container/C:/x",
            "file://",
            "file:///",
            "file://models/x.gguf",
            "file://host/share/x.gguf",
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file:///a/./b",
            "file:///a//b",
            "file:///C:/models/x.gguf",
            "file:///c|/models/x.gguf",
            "file:///a%5Cb",
            "file:///a%00b",
            "file:///a%2",
            "file:///%FF",
            "file:///a/%E2%80%A4%E2%80%A4/b",
            "ollama://",
            "ollama://x:",
            "ollama://:x",
            "ollama://a/b/c",
            "ollama://../x",
            "ollama://a/..",
            "ollama://a b",
            "ollama://x:a:b",
            &long,
            &long_key,
            &long_file,
        ] {
            assert!(read(text).is_err(), "{text:?} read as {:?}", read(text));
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_shown_and_read_again_as_the_same(
            text in "(https?|s3|gs|az|file|ollama)://[a-zA-Z0-9./%@:_~-]{1,16}(/[a-zA-Z0-9.%2eF?&=_-]{1,12}){0,2}(#sha256=[0-9a-fA-F]{64})?"
        ) {
            if let Ok(reference) = read(&text) {
                prop_assert_eq!(read(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn a_path_of_any_text_survives_as_a_file_url(path in "(/[\\PC&&[^/]]{1,8}){1,3}") {
            if let Ok(ModelRef::Remote(remote)) = read(&format!("file://{}", percent::encoded(&path))) {
                prop_assert_eq!(remote.path(), Some(PathBuf::from(&path)));
                prop_assert_eq!(read(&remote.to_string()), Ok(ModelRef::Remote(remote)));
            }
        }

        #[test]
        fn names_of_files_are_plain(text in "(https|s3|file)://[a-z]{1,3}?(/[a-zA-Z0-9.%25cCeEfF+-]{1,12}){1,2}") {
            if let Ok(ModelRef::Remote(remote)) = read(&text) {
                let name = remote.file_name();
                prop_assert!(!name.is_empty() && name != "." && name != "..", "{name:?}");
                prop_assert!(!name.contains(['/', '\\', '\0']), "{name:?}");
            }
        }
    }
}
