//! Against a real S3 server process.

#[path = "../../../tests/s3_server/mod.rs"]
mod s3_server;

use std::time::Duration;

pub(in crate::source) use s3_server::Server;

use super::*;
use crate::config::{RetryConfig, Secret};

const BYTES: usize = 300_000;

pub(in crate::source) fn config(server: &Server, key: &str) -> SourceConfig {
    let option = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
    SourceConfig {
        object_options: vec![
            option("aws_endpoint", &server.endpoint()),
            option("AWS_ACCESS_KEY_ID", key),
            option("aws_secret_access_key", "secret"),
            option("aws_region", "us-east-1"),
        ],
        retry: RetryConfig {
            tries: 2,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
        },
        ..SourceConfig::default()
    }
}

fn source(server: &Server) -> Object {
    Object::new(&config(server, "test"))
}

fn bytes(seed: u8) -> Vec<u8> {
    (0..BYTES).map(|place| (place as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn reference(text: &str) -> ArtifactRef {
    text.parse().unwrap()
}

async fn all(source: &Object, file: &RemoteFile, range: Range<u64>) -> Vec<u8> {
    let body = source.fetch(file, range.clone()).await.unwrap();
    assert_eq!((body.start, body.size), (range.start, Some(BYTES as u64)));
    let chunks: Vec<_> = body.stream.try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn one_object_is_listed_and_read_in_ranges() {
    let Some(server) = Server::start(None) else { return };
    server.put("a/x-Q4_K_M.gguf", &bytes(1));
    let source = source(&server);
    let listing = source.resolve(&reference("s3://models/a/x-Q4_K_M.gguf")).await.unwrap();
    assert_eq!(listing.reference, "s3://models/a/x-Q4_K_M.gguf");
    assert_eq!((listing.key.source.as_str(), listing.key.quant.as_str()), ("object", "Q4_K_M"));
    let [file] = &listing.files[..] else { panic!("{:?}", listing.files) };
    assert_eq!((file.path.as_str(), file.size), ("x-Q4_K_M.gguf", Some(BYTES as u64)));
    assert_eq!(all(&source, file, 0..BYTES as u64).await, bytes(1));
    assert_eq!(all(&source, file, 1000..1100).await, &bytes(1)[1000..1100]);
    assert_eq!(all(&source, file, 200_000..u64::MAX).await, &bytes(1)[200_000..]);
}

#[tokio::test]
async fn new_bytes_under_a_key_are_another_commit_and_show_in_the_etag() {
    let Some(server) = Server::start(None) else { return };
    server.put("x.gguf", &bytes(1));
    let source = source(&server);
    let first = source.resolve(&reference("s3://models/x.gguf")).await.unwrap();
    let again = source.resolve(&reference("s3://models/x.gguf")).await.unwrap();
    assert_eq!(first.key, again.key);
    server.put("x.gguf", &bytes(2));
    let second = source.resolve(&reference("s3://models/x.gguf")).await.unwrap();
    assert_ne!(first.key.commit, second.key.commit);
    // A download of the first that goes on now is told by the etag that it is another file.
    let body = source.fetch(&first.files[0], 10..20).await.unwrap();
    assert_ne!(body.etag, first.files[0].etag);
    assert_eq!(body.etag, second.files[0].etag);
}

#[tokio::test]
async fn a_prefix_means_the_preferred_model_below_it() {
    let Some(server) = Server::start(None) else { return };
    for name in ["m/x-Q8_0.gguf", "m/x-Q4_K_M.gguf", "m/pytorch_model.bin", "m/run.py", "mm/y.gguf"] {
        server.put(name, &bytes(3));
    }
    let source = source(&server);
    let listing = source.resolve(&reference("s3://models/m")).await.unwrap();
    let names: Vec<_> = listing.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["x-Q4_K_M.gguf"]);
    assert_eq!(all(&source, &listing.files[0], 5..9).await, &bytes(3)[5..9]);
}

#[tokio::test]
async fn a_part_brings_the_others() {
    let Some(server) = Server::start(None) else { return };
    for name in ["s/x-00002-of-00002.gguf", "s/x-00001-of-00002.gguf", "s/other.gguf"] {
        server.put(name, &bytes(4));
    }
    let source = source(&server);
    let listing = source.resolve(&reference("s3://models/s/x-00001-of-00002.gguf")).await.unwrap();
    let names: Vec<_> = listing.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"]);
}

#[tokio::test]
async fn what_went_wrong_is_told_apart() {
    let Some(server) = Server::start(None) else { return };
    let source = source(&server);
    let error = source.resolve(&reference("s3://models/no.gguf")).await.unwrap_err();
    assert!(matches!(&error, Error::Missing { subject, .. } if subject == "s3://models/no.gguf"), "{error}");
    let error = source.resolve(&reference("s3://nobucket/no.gguf")).await.unwrap_err();
    assert!(matches!(&error, Error::Missing { subject, .. } if subject.contains("the bucket of")), "{error}");
    let gone = SourceConfig {
        object_options: vec![
            ("aws_endpoint".to_owned(), Secret::new("http://127.0.0.1:1")),
            ("aws_skip_signature".to_owned(), Secret::new("true")),
        ],
        ..config(&server, "test")
    };
    let error = Object::new(&gone).resolve(&reference("s3://models/no.gguf")).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
}

#[tokio::test]
async fn unknown_keys_are_denied_and_not_repeated() {
    // The object is made before keys are asked for.
    let Some(server) = Server::start(Some(1)) else { return };
    server.put("x.gguf", &bytes(1));
    let source = Object::new(&config(&server, "AKIAHUNTER2"));
    let error = source.resolve(&reference("s3://models/x.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("HUNTER2"), "{error:?}");
}
