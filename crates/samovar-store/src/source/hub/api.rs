//! What the hub's API says, in its own words.

use samovar_core::Digest;
use serde::Deserialize;

use crate::artifact::name::{FilePath, NameError};
use crate::source::Promise;

/// A file of a repository, as the hub lists it.
pub(crate) struct Entry {
    /// Its name as it was said.
    pub(crate) name: String,
    /// The same, if a file may have it.
    pub(crate) path: Result<FilePath, NameError>,
    /// Bytes.
    pub(crate) size: u64,
    /// What its content is said to be.
    pub(crate) promise: Promise,
}

#[derive(Deserialize)]
struct Described {
    sha: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Linked>,
}

#[derive(Deserialize)]
struct Linked {
    oid: String,
    size: u64,
}

/// The commit of a repository's description.
pub(crate) fn commit(text: &str) -> Result<String, String> {
    let described: Described =
        serde_json::from_str(text).map_err(|error| format!("its description: {error}"))?;
    Ok(described.sha)
}

/// The files of one page of a listing. A digest that is none is no promise, so that such a file may be
/// listed and cannot be verified.
pub(crate) fn entries(text: &str) -> Result<impl Iterator<Item = Entry>, String> {
    let listed: Vec<Listed> = serde_json::from_str(text).map_err(|error| format!("its listing: {error}"))?;
    Ok(listed.into_iter().filter(|listed| listed.kind == "file").map(|listed| {
        let (size, promise) = match &listed.lfs {
            Some(linked) => (linked.size, sha256(&linked.oid)),
            None => (listed.size, git_sha1(&listed.oid)),
        };
        Entry { path: listed.path.parse(), name: listed.path, size, promise }
    }))
}

fn sha256(text: &str) -> Promise {
    text.parse::<Digest>().map_or(Promise::Unknown, Promise::Sha256)
}

fn git_sha1(text: &str) -> Promise {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let bytes: Option<Vec<u8>> = digits.map(|digits| {
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
    });
    match bytes.and_then(|bytes| bytes.try_into().ok()).filter(|_| text.len() == 40) {
        Some(hash) => Promise::GitSha1(hash),
        None => Promise::Unknown,
    }
}

/// The address behind `rel="next"` of a `Link` header: `<address>; rel="next", <address>; rel="last"`.
pub(crate) fn next_page(link: &str) -> Option<String> {
    let mut rest = link;
    while let Some((_, after)) = rest.split_once('<') {
        let (address, after) = after.split_once('>')?;
        let parameters = after.split_once('<').map_or(after, |(parameters, _)| parameters);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=\"next\"" | "rel=next")
        });
        if is_next {
            return Some(address.to_owned());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn reads_a_listing() {
        let text = format!(
            r#"[{{"type":"directory","oid":"x","size":0,"path":"Q4"}},
                {{"type":"file","oid":"{}","size":5,"path":"config.json"}},
                {{"type":"file","oid":"x","size":135,"path":"m.gguf",
                  "lfs":{{"oid":"{SHA256}","size":1000,"pointerSize":135}},"xetHash":"…"}},
                {{"type":"file","oid":"","size":1,"path":"../up"}},
                {{"type":"file","oid":"x","size":1,"path":"md5.gguf","lfs":{{"oid":"md5:abc","size":1}}}}]"#,
            "0a".repeat(20)
        );
        let entries: Vec<_> = entries(&text).unwrap().collect();
        let facts: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.size)).collect();
        assert_eq!(facts, [("config.json", 5), ("m.gguf", 1000), ("../up", 1), ("md5.gguf", 1)]);
        assert_eq!(entries[0].promise, Promise::GitSha1([10; 20]));
        assert_eq!(entries[1].promise, Promise::Sha256(SHA256.parse().unwrap()));
        assert!(entries[2].path.is_err());
        assert_eq!(entries[3].promise, Promise::Unknown);
    }

    #[test]
    fn an_answer_that_is_no_listing_is_none() {
        for text in ["", "{}", "null", "[1]", r#"[{"type":"file","path":"x","size":-1}]"#, "<html>"] {
            assert!(entries(text).is_err(), "{text}");
        }
        assert!(commit("{}").is_err());
        assert_eq!(commit(r#"{"sha":"abc","siblings":[]}"#).as_deref(), Ok("abc"));
    }

    #[test]
    fn finds_the_next_page() {
        let next = |text: &str| next_page(text);
        assert_eq!(next(r#"<https://h/a?cursor=b>; rel="next""#).as_deref(), Some("https://h/a?cursor=b"));
        assert_eq!(next(r#"<a,b>; rel="prev", </c>; rel="next""#).as_deref(), Some("/c"));
        for text in ["", "<a", "<a>", r#"<a>; rel="last""#, r#"a; rel="next""#] {
            assert_eq!(next(text), None, "{text}");
        }
    }
}
