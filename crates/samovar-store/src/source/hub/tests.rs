//! The client against the test hub: what it resolves, what it takes, whom it tells what.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use samovar_core::model::ArtifactRef;
use samovar_testhub::{
    BadAnswer, Content, Denial, FileSpec, Hub as TestHub, Listener, Repo, RetryAfter, Route, evil_names,
    evil_tags,
};

use crate::artifact::manifest::Role;
use crate::config::{RetryConfig, Secret, SourceConfig};
use crate::error::Error;
use crate::source::{Listing, Promise, RemoteFile, Sources};

const TOKEN: &str = "hf_aVerySecretToken";
const MODEL: &str = "model-Q4_K_M.gguf";

fn config(hub: &TestHub) -> SourceConfig {
    SourceConfig {
        hub_endpoint: Some(hub.endpoint()),
        stall: Duration::from_millis(500),
        retry: RetryConfig {
            tries: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(20),
        },
        ..SourceConfig::default()
    }
}

fn with_token(hub: &TestHub) -> Sources {
    let config = SourceConfig { hub_token: Some(Secret::new(TOKEN)), ..config(hub) };
    Sources::new(&config).unwrap()
}

fn without_token(hub: &TestHub) -> Sources {
    Sources::new(&config(hub)).unwrap()
}

/// A hub with a repository such as publishers of GGUFs make.
async fn hub() -> (TestHub, Repo) {
    let hub = TestHub::start().await;
    let repo = hub.add_repo("org/name");
    repo.put_all([
        (MODEL, FileSpec::new(Content::pattern(300_000, 1))),
        ("model-Q8_0.gguf", FileSpec::new(Content::pattern(500_000, 2))),
        ("README.md", FileSpec::new(Content::bytes("# name"))),
        ("config.json", FileSpec::new(Content::bytes("{}"))),
    ]);
    (hub, repo)
}

async fn resolve(sources: &Sources, text: &str) -> Result<Listing, Error> {
    let reference: ArtifactRef = text.parse().unwrap();
    sources.of(&reference)?.resolve(&reference).await
}

async fn read(sources: &Sources, file: &RemoteFile, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let reference: ArtifactRef = "org/name".parse().unwrap();
    let body = sources.of(&reference)?.fetch(file, range).await?;
    let chunks: Vec<_> = body.stream.try_collect().await?;
    Ok(chunks.concat())
}

/// What an error shows in any way.
fn shown(error: &Error) -> String {
    format!("{error} | {:?} | {error:?}", error.hint())
}

#[tokio::test]
async fn resolves_to_a_commit_with_sizes_and_digests() {
    let (hub, repo) = hub().await;
    let listing = resolve(&without_token(&hub), "org/name").await.unwrap();
    assert_eq!(listing.reference, "hf://org/name:Q4_K_M");
    assert_eq!(listing.revision.as_deref(), Some("main"));
    assert_eq!(listing.key.commit.as_str(), repo.head());
    assert_eq!((listing.key.source.as_str(), listing.key.model.as_str()), ("hub", "org/name"));
    assert_eq!((listing.key.quant.as_str(), listing.key.modality.as_str()), ("Q4_K_M", "text"));
    let [file] = &listing.files[..] else { panic!("{listing:?}") };
    assert_eq!((file.path.as_str(), file.role, file.size), (MODEL, Role::Weights, Some(300_000)));
    assert_eq!(file.promise, Promise::Sha256(repo.digest(MODEL)));
}

#[tokio::test]
async fn fetches_parts_from_the_cdn() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name:q4_k_m").await.unwrap();
    let content = Content::pattern(300_000, 1).to_vec().unwrap();
    let part = read(&sources, &listing.files[0], 1_000..250_000).await.unwrap();
    assert!(part == content[1_000..250_000]);
    assert!(read(&sources, &listing.files[0], 0..300_000).await.unwrap() == content);
    assert!(hub.requests().iter().any(|seen| seen.listener == Listener::Cdn));
    let agents: BTreeSet<_> = hub.requests().into_iter().filter_map(|seen| seen.user_agent).collect();
    assert_eq!(agents, BTreeSet::from([concat!("samovar/", env!("CARGO_PKG_VERSION")).to_owned()]));
}

#[tokio::test]
async fn small_files_have_the_promise_of_git() {
    let hub = TestHub::start().await;
    let repo = hub.add_repo("org/name");
    repo.put("model.safetensors", Content::pattern(1000, 3)).put("config.json", Content::bytes("{\"a\": 1}"));
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    assert_eq!(listing.files[1].path.as_str(), "config.json");
    assert!(matches!(listing.files[1].promise, Promise::GitSha1(_)));
    assert_eq!(read(&sources, &listing.files[1], 0..8).await.unwrap(), b"{\"a\": 1}");
}

#[tokio::test]
async fn branches_tags_pull_requests_and_commits_are_revisions() {
    let (hub, repo) = hub().await;
    let old = repo.head();
    repo.put("model-Q4_K_M.gguf", Content::pattern(111, 9));
    repo.set_branch("v1.0", &old).set_branch("refs/pr/7", &old).set_branch("feature/x", &old);
    let sources = without_token(&hub);
    for revision in ["v1.0", "refs/pr/7", "feature/x"] {
        let listing = resolve(&sources, &format!("hf://org/name@{revision}:Q4_K_M")).await.unwrap();
        assert_eq!((listing.key.commit.as_str(), listing.revision.as_deref()), (&*old, Some(revision)));
        assert_eq!(listing.reference, format!("hf://org/name@{revision}:Q4_K_M"));
        assert_eq!(listing.files[0].size, Some(300_000));
    }
    hub.forget();
    let listing = resolve(&sources, &format!("hf://org/name@{old}")).await.unwrap();
    assert_eq!((listing.key.commit.as_str(), listing.revision), (&*old, None));
    assert_eq!(hub.sent().requests_for(Route::Info), 0, "a commit needs no question what it is");
    assert_eq!(resolve(&sources, "org/name").await.unwrap().files[0].size, Some(111));
}

#[tokio::test]
async fn a_named_file_is_the_artifact() {
    let (hub, _) = hub().await;
    let text = "hf://org/name/model-Q8_0.gguf";
    let listing = resolve(&without_token(&hub), text).await.unwrap();
    assert_eq!((listing.reference.as_str(), listing.key.quant.as_str()), (text, "Q8_0"));
    let error = resolve(&without_token(&hub), "hf://org/name/other.gguf").await.unwrap_err();
    assert!(shown(&error).contains("model-Q8_0.gguf"), "{}", shown(&error));
}

#[tokio::test]
async fn two_models_of_one_repository_never_have_one_key() {
    let (hub, repo) = hub().await;
    let sources = without_token(&hub);
    let key = async |text: &str| resolve(&sources, text).await.unwrap().key;
    let usual = key("hf://org/name:Q8_0").await;
    assert_eq!(key("hf://org/name/model-Q8_0.gguf").await, usual, "the same files are the same artifact");
    let bytes = |seed| FileSpec::new(Content::pattern(1_000, seed));
    repo.put_all([
        ("other-Q8_0.gguf", bytes(5)),
        ("s-Q2_K-00001-of-00002.gguf", bytes(6)),
        ("s-Q2_K-00002-of-00002.gguf", bytes(7)),
        ("t-Q2_K.gguf", bytes(8)),
    ]);
    let (one, other) =
        (key("hf://org/name/model-Q8_0.gguf").await, key("hf://org/name/other-Q8_0.gguf").await);
    assert_ne!(one.digest(), other.digest());
    assert_eq!(other.model.as_str(), "org/name/other-Q8_0.gguf");
    let parts = [
        key("hf://org/name/s-Q2_K-00001-of-00002.gguf").await,
        key("hf://org/name/s-Q2_K-00002-of-00002.gguf").await,
    ];
    assert_eq!(parts[0], parts[1], "any part names the whole");
}

#[tokio::test]
async fn a_listing_of_many_pages_is_read_to_its_end() {
    let (hub, repo) = hub().await;
    let names: Vec<_> = (0..50).map(|at| format!("aside/{at}.txt")).collect();
    repo.put_all(names.iter().map(|name| (name.as_str(), FileSpec::new(Content::bytes("x")))));
    hub.set_page_entries(7);
    let listing = resolve(&without_token(&hub), "org/name:Q8_0").await.unwrap();
    assert_eq!(listing.files[0].path.as_str(), "model-Q8_0.gguf");
    assert!(hub.sent().requests_for(Route::Tree) >= 8);
}

#[tokio::test]
async fn a_listing_without_end_or_elsewhere_is_refused() {
    let (hub, _) = hub().await;
    hub.set_page_entries(2);
    let sources = with_token(&hub);
    for lie in [BadAnswer::EndlessPages, BadAnswer::NextPageElsewhere] {
        hub.lie(lie);
        let error = resolve(&sources, "org/name").await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
        hub.stop_lying();
    }
    assert_eq!(hub.requests().iter().filter(|seen| seen.listener == Listener::Elsewhere).count(), 0);
}

#[tokio::test]
async fn refusals_are_told_apart_and_say_what_to_do() {
    let (hub, _) = hub().await;
    for (denial, token, kind, hint) in [
        (Denial::GatedAnonymous, false, "denied", "accept its terms at"),
        (Denial::GatedAnonymous, false, "denied", "set HF_TOKEN"),
        (Denial::GatedStranger, true, "denied", "with the account of the token"),
        (Denial::RepoNotFoundAnonymous, false, "missing", "set HF_TOKEN"),
        (Denial::RepoNotFound, true, "missing", "check the name"),
        (Denial::RevisionNotFound, false, "missing", "lists its branches"),
        (Denial::BadToken, true, "denied", "a token that is valid"),
        (Denial::Forbidden, true, "denied", "see http"),
        (Denial::Disabled, true, "denied", "see http"),
    ] {
        hub.stop_lying();
        hub.forget();
        hub.lie(BadAnswer::Denied(denial).at(Route::Info));
        let sources = if token { with_token(&hub) } else { without_token(&hub) };
        let error = resolve(&sources, "org/name").await.unwrap_err();
        let found = match &error {
            Error::Denied { .. } => "denied",
            Error::Missing { .. } => "missing",
            _ => "another",
        };
        assert_eq!(found, kind, "{denial:?}: {error:?}");
        let text = shown(&error);
        assert!(
            text.contains(hint) && text.contains("org/name") && !text.contains(TOKEN),
            "{denial:?}: {text}"
        );
        assert_eq!(hub.requests().len(), 1, "{denial:?} does not pass");
    }
}

#[tokio::test]
async fn gated_files_are_refused_when_they_are_fetched_and_come_with_the_token() {
    let (hub, repo) = hub().await;
    repo.gated(TOKEN);
    let listing = resolve(&without_token(&hub), "org/name").await.unwrap();
    let error = read(&without_token(&hub), &listing.files[0], 0..10).await.unwrap_err();
    let page = format!("{}/org/name", hub.endpoint());
    assert!(matches!(&error, Error::Denied { .. }) && shown(&error).contains(&page), "{}", shown(&error));
    assert_eq!(read(&with_token(&hub), &listing.files[0], 0..10).await.unwrap().len(), 10);
    assert!(hub.tokens_seen_elsewhere().is_empty());
}

#[tokio::test]
async fn the_token_goes_to_the_hub_alone() {
    let (hub, repo) = hub().await;
    repo.private(TOKEN);
    let sources = with_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    read(&sources, &listing.files[0], 0..300_000).await.unwrap();
    hub.lie(BadAnswer::RedirectElsewhere);
    // One that does not know yet where the file is.
    let sources = with_token(&hub);
    read(&sources, &listing.files[0], 0..300_000).await.unwrap();
    let requests = hub.requests();
    let requests_to = |listener| requests.iter().filter(|seen| seen.listener == listener).count();
    assert!(requests_to(Listener::Cdn) > 0 && requests_to(Listener::Elsewhere) > 0);
    assert!(requests.iter().any(|seen| seen.listener == Listener::Origin && seen.carries(TOKEN)));
    assert!(hub.text_seen_elsewhere(TOKEN).is_empty());
}

#[tokio::test]
async fn redirects_that_lead_nowhere_good_are_refused() {
    let (hub, _) = hub().await;
    let sources = with_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    hub.lie(BadAnswer::RedirectLoop);
    let error = read(&sources, &listing.files[0], 0..10).await.unwrap_err();
    assert!(shown(&error).contains("more than 5 redirects"), "{}", shown(&error));
    for address in [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://example.com/x?sig=secret",
        "ftp://127.0.0.1/x",
        "data:text/plain,x",
        "http://",
        "",
    ] {
        hub.stop_lying();
        hub.lie(BadAnswer::RedirectTo(address.to_owned()));
        let error = read(&sources, &listing.files[0], 0..10).await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. } | Error::Unreachable { .. }), "{address}: {error:?}");
        assert!(!shown(&error).contains("secret"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let status = |status, retry_after| BadAnswer::Status { status, retry_after };
    for lie in [
        status(429, Some(RetryAfter::Seconds(3600))),
        status(429, Some(RetryAfter::Date(3600))),
        status(503, Some(RetryAfter::Nonsense)),
        status(503, None),
        status(500, None),
        status(502, None),
        status(504, None),
        BadAnswer::HangUp,
        BadAnswer::Late { by_ms: 60_000 },
    ] {
        hub.stop_lying();
        hub.lie(lie.clone().at(Route::Info).times(2));
        resolve(&sources, "org/name").await.unwrap_or_else(|error| panic!("{lie:?}: {error:?}"));
        assert_eq!(hub.told(), [2], "{lie:?}");
    }
    hub.stop_lying();
    hub.lie(status(429, Some(RetryAfter::Seconds(77))).at(Route::Info));
    let error = resolve(&sources, "org/name").await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { retry_after: Some(wait), .. } if wait.as_secs() == 77),
        "{error:?}"
    );
    assert_eq!(hub.told(), [3]);
}

#[tokio::test]
async fn an_answer_that_is_not_the_part_is_no_body() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    for lie in [
        BadAnswer::HtmlPage,
        BadAnswer::WrongContentRange { shift: 1 },
        BadAnswer::WrongContentRange { shift: -1 },
        BadAnswer::Unsatisfiable,
        BadAnswer::LinkedSize(5),
        BadAnswer::Status { status: 404, retry_after: None },
        BadAnswer::Status { status: 418, retry_after: None },
        BadAnswer::Header { name: "Content-Encoding".to_owned(), value: "gzip".to_owned() },
    ] {
        hub.stop_lying();
        hub.lie(lie.clone().on(MODEL));
        let result = read(&sources, &listing.files[0], 1_000..2_000).await;
        assert!(result.is_err(), "{lie:?} gave {} bytes", result.unwrap().len());
        assert!(hub.told()[0] > 0, "{lie:?} was not told");
    }
}

#[tokio::test]
async fn bodies_that_end_early_or_stall_are_errors_that_may_pass() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    for lie in [
        BadAnswer::ShortBody { by: 10 },
        BadAnswer::Cut { after: 500 },
        BadAnswer::Reset { after: 500 },
        BadAnswer::Stall { after: 500, for_ms: None },
    ] {
        hub.stop_lying();
        hub.lie(lie.clone().on(MODEL));
        let error = read(&sources, &listing.files[0], 1_000..2_000).await.unwrap_err();
        assert!(error.may_pass(), "{lie:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_the_range_says_where_its_body_begins() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    hub.lie(BadAnswer::IgnoreRange);
    let reference: ArtifactRef = "org/name".parse().unwrap();
    let body = sources.of(&reference).unwrap().fetch(&listing.files[0], 1_000..2_000).await.unwrap();
    assert_eq!((body.start, body.size), (0, Some(300_000)));
}

#[tokio::test]
async fn an_address_at_the_cdn_that_has_ended_may_pass() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    hub.lie(BadAnswer::Status { status: 403, retry_after: None }.at(Route::Cdn).once());
    let error = read(&sources, &listing.files[0], 0..10).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
    assert!(!shown(&error).contains('?'), "a signed address is not shown: {}", shown(&error));
}

#[tokio::test]
async fn the_hub_is_asked_once_where_a_file_is() {
    let (hub, _) = hub().await;
    let sources = with_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    let file = &listing.files[0];
    let content = Content::pattern(300_000, 1).to_vec().unwrap();
    for at in 0..10 {
        assert!(read(&sources, file, at * 1_000..at * 1_000 + 500).await.unwrap().len() == 500);
    }
    assert_eq!(hub.sent().requests_for(Route::Resolve), 1);
    // The address ends: a new one is had, unnoticed.
    hub.lie(BadAnswer::ExpireUrls);
    assert!(read(&sources, file, 5_000..9_000).await.unwrap() == content[5_000..9_000]);
    assert_eq!(hub.sent().requests_for(Route::Resolve), 2);
    assert!(hub.text_seen_elsewhere(TOKEN).is_empty());
}

#[tokio::test]
async fn names_that_no_file_may_have_are_left_where_they_are() {
    let (hub, _) = hub().await;
    hub.lie(BadAnswer::Names(evil_names()));
    let listing = resolve(&without_token(&hub), "org/name:Q4_K_M").await.unwrap();
    assert_eq!(listing.files.len(), 1);
    assert_eq!(listing.files[0].path.as_str(), MODEL);
}

#[tokio::test]
async fn a_name_that_is_refused_is_said_when_nothing_else_fits() {
    for name in ["../model-Q4_K_M.gguf", "/model-Q4_K_M.gguf", "a\\model-Q4_K_M.gguf"] {
        let hub = TestHub::start().await;
        hub.add_repo("org/name").put("README.md", Content::bytes("x"));
        hub.lie(BadAnswer::Names(vec![name.to_owned()]));
        let error = resolve(&without_token(&hub), "org/name:Q4_K_M").await.unwrap_err();
        assert!(matches!(error, Error::Name(_)), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn commits_and_etags_are_taken_as_what_they_should_be_or_not_at_all() {
    let (hub, _) = hub().await;
    let sources = without_token(&hub);
    let listing = resolve(&sources, "org/name").await.unwrap();
    for tag in evil_tags() {
        hub.stop_lying();
        hub.lie(BadAnswer::Commit(tag.clone()));
        if let Ok(listing) = resolve(&sources, "org/name").await {
            assert!(listing.key.commit.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()), "{tag:?}");
        }
        hub.stop_lying();
        hub.lie(BadAnswer::Etag(tag.clone()).on(MODEL));
        let reference: ArtifactRef = "org/name".parse().unwrap();
        if let Ok(body) = sources.of(&reference).unwrap().fetch(&listing.files[0], 0..10).await {
            assert!(
                body.etag.is_none_or(|etag| etag.len() <= 256 && !etag.contains(['\r', '\n', '\0', '"']))
            );
        }
    }
}

#[tokio::test]
async fn a_file_whose_digest_is_none_is_refused() {
    let (hub, _) = hub().await;
    for oid in ["md5:d41d8cd98f00b204e9800998ecf8427e", "../../x", ""] {
        hub.stop_lying();
        hub.lie(BadAnswer::TreeOid(oid.to_owned()));
        let error = resolve(&without_token(&hub), "org/name").await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }), "{oid:?}: {error:?}");
    }
}

#[tokio::test]
async fn offline_nothing_is_asked() {
    let (hub, _) = hub().await;
    let sources = Sources::new(&SourceConfig { is_offline: true, ..config(&hub) }).unwrap();
    let error = resolve(&sources, "org/name").await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }));
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_said_to_be_so() {
    let (hub, _) = hub().await;
    let config = SourceConfig { hub_endpoint: Some("http://127.0.0.1:1".to_owned()), ..config(&hub) };
    let error = resolve(&Sources::new(&config).unwrap(), "org/name").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1 could not be reached") && text.contains("refused"), "{text}");
}

#[test]
fn addresses_that_cannot_be_a_hub_are_refused_before_anything_is_asked() {
    for address in ["", "huggingface.co", "ftp://h", "https://", "file:///x", "https://user:hunter2@h"] {
        let config = SourceConfig { hub_endpoint: Some(address.to_owned()), ..SourceConfig::default() };
        let error = Sources::new(&config).err().unwrap();
        assert!(
            matches!(error, Error::Unsupported { .. }) && !shown(&error).contains("hunter2"),
            "{address:?}"
        );
    }
}

#[tokio::test]
async fn plain_http_is_for_this_machine() {
    let config =
        SourceConfig { hub_endpoint: Some("http://192.0.2.1".to_owned()), ..SourceConfig::default() };
    let error = resolve(&Sources::new(&config).unwrap(), "org/name").await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && shown(&error).contains("https://"), "{error:?}");
}

#[tokio::test]
async fn a_hub_below_a_path_works() {
    let (hub, _) = hub().await;
    let config = SourceConfig { hub_endpoint: Some(format!("{}/", hub.endpoint())), ..config(&hub) };
    resolve(&Sources::new(&config).unwrap(), "org/name").await.unwrap();
}

#[test]
fn secrets_do_not_show() {
    let config = SourceConfig { hub_token: Some(Secret::new(TOKEN)), ..SourceConfig::default() };
    let client = Arc::new(crate::source::origin::Client::new(&config));
    let hub = super::Hub::new(client, &config).unwrap();
    assert!(!format!("{:?} {config:?}", hub.token).contains(TOKEN));
}
