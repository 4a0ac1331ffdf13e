//! Each lie is really told: a test of the store that passes must not pass because the hub was honest.

#![allow(clippy::unwrap_used, reason = "what is missing fails the test")]

use crate::client;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use client::{Answer, ask, get};
use samovar_testhub::{
    BadAnswer, Content, Denial, Hub, Listener, RetryAfter, Route, Rule, evil_names, evil_tags,
};

const SIZE: usize = 10_000;

struct Told {
    hub: Hub,
    origin: SocketAddr,
    bytes: Vec<u8>,
}

/// A hub that tells this lie and no other.
fn told(rule: impl Into<Rule>) -> Told {
    let hub = Hub::start_blocking();
    let content = Content::pattern(SIZE as u64, 5);
    hub.add_plain("x.bin", content.clone());
    hub.add_repo("acme/tiny").put("x.gguf", content.clone()).put("small.txt", "small");
    hub.lie(rule);
    Told { origin: hub.address(Listener::Origin), hub, bytes: content.to_vec().unwrap() }
}

impl Told {
    fn whole(&self) -> Answer {
        get(self.origin, "/plain/x.bin")
    }

    fn part(&self, range: &str) -> Answer {
        ask(self.origin, "GET", "/plain/x.bin", &[("Range", range)])
    }

    fn resolve(&self) -> Answer {
        get(self.origin, "/acme/tiny/resolve/main/x.gguf")
    }

    fn tree(&self) -> Answer {
        get(self.origin, "/api/models/acme/tiny/tree/main?recursive=true")
    }

    fn honest_etag(&self) -> String {
        let head = ask(self.origin, "HEAD", "/plain/x.bin", &[]);
        head.header("etag").unwrap().to_owned()
    }
}

#[test]
fn wrong_bytes_come_under_the_right_etag_and_length() {
    let told = told(BadAnswer::WrongBytes);
    let answer = told.whole();
    assert_eq!(answer.body.len(), SIZE);
    assert!(answer.body.iter().zip(&told.bytes).all(|(sent, true_one)| sent != true_one));
    assert_eq!(answer.header("etag"), Some(told.honest_etag().as_str()));
}

#[test]
fn one_bit_is_flipped_also_in_a_part() {
    let told = told(BadAnswer::FlipBit { at: 5000 });
    let differing = |sent: &[u8], true_ones: &[u8]| {
        let pairs = sent.iter().zip(true_ones);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
    };
    assert_eq!(differing(&told.whole().body, &told.bytes), 1);
    assert_eq!(differing(&told.part("bytes=4990-5009").body, &told.bytes[4990..5010]), 1);
    assert_eq!(differing(&told.part("bytes=0-4999").body, &told.bytes[..5000]), 0);
}

#[test]
fn bodies_end_before_or_after_their_declared_length() {
    let length = |lie: BadAnswer| {
        let answer = told(lie).whole();
        (answer.header("content-length").map(|text| text.parse().unwrap()), answer.body.len())
    };
    assert_eq!(length(BadAnswer::ShortBody { by: 10 }), (Some(SIZE), SIZE - 10));
    assert_eq!(length(BadAnswer::ShortLength { by: 10 }), (Some(SIZE - 10), SIZE - 10));
    assert_eq!(length(BadAnswer::LongLength { by: 10 }), (Some(SIZE + 10), SIZE + 10));
    assert_eq!(length(BadAnswer::Trailing { by: 10 }), (Some(SIZE), SIZE + 10));
    assert_eq!(length(BadAnswer::NoLength), (None, SIZE));
    assert_eq!(length(BadAnswer::Cut { after: 77 }), (Some(SIZE), 77));
}

#[test]
fn chunks_have_no_length_and_are_well_formed() {
    let told = told(BadAnswer::Chunked);
    let answer = told.whole();
    assert_eq!(
        (answer.header("content-length"), answer.header("transfer-encoding")),
        (None, Some("chunked"))
    );
    let expected = [format!("{SIZE:x}\r\n").as_bytes(), &told.bytes, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(answer.body, expected);
    assert_eq!(told.hub.sent().of("plain/x.bin"), SIZE as u64, "framing is not a file's bytes");
}

#[test]
fn a_portal_shows_its_page() {
    let told = told(BadAnswer::HtmlPage);
    assert_eq!(told.whole().header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(told.hub.sent().body_bytes, 0);
}

#[test]
fn ranges_are_ignored_shifted_or_refused() {
    let told_ignore = told(BadAnswer::IgnoreRange);
    let answer = told_ignore.part("bytes=100-199");
    assert_eq!((answer.status, answer.body.len()), (200, SIZE));
    let told_wrong = told(BadAnswer::WrongContentRange { shift: 50 });
    let answer = told_wrong.part("bytes=100-199");
    assert_eq!((answer.status, answer.header("content-range")), (206, Some("bytes 150-249/10000")));
    assert_eq!(answer.body, told_wrong.bytes[100..200]);
    assert_eq!(told(BadAnswer::Unsatisfiable).part("bytes=100-199").status, 416);
}

#[test]
fn the_etag_changes_when_a_download_resumes() {
    let told = told(BadAnswer::ChangedEtag);
    let etag = told.whole().header("etag").unwrap().to_owned();
    let part = told.part("bytes=100-199");
    assert_eq!(part.status, 206);
    assert_ne!(part.header("etag"), Some(etag.as_str()));
    let headers = [("Range", "bytes=100-199"), ("If-Range", etag.as_str())];
    let resumed = ask(told.origin, "GET", "/plain/x.bin", &headers);
    assert_eq!((resumed.status, resumed.body.len()), (200, SIZE));
}

#[test]
fn etags_and_commits_are_written_as_they_are() {
    for tag in evil_tags() {
        let first_line = tag.split("\r\n").next().unwrap().split('\n').next().unwrap();
        let answer = told(BadAnswer::Etag(tag.clone())).resolve();
        assert_eq!(answer.header("x-linked-etag"), Some(first_line));
        let told = told(BadAnswer::Commit(tag.clone()));
        assert_eq!(told.resolve().header("x-repo-commit"), Some(first_line));
        let info = get(told.origin, "/api/models/acme/tiny");
        assert_eq!((info.json()["sha"].as_str(), info.header("x-repo-commit")), (Some(tag.as_str()), None));
    }
    let injected = told(BadAnswer::Etag("split\r\nX-Injected: yes".to_owned())).resolve();
    assert_eq!(injected.header("x-injected"), Some("yes"));
    assert_eq!(told(BadAnswer::LinkedSize(3)).resolve().header("x-linked-size"), Some("3"));
    let lie = BadAnswer::NoHeader { name: "X-Repo-Commit".to_owned() };
    assert_eq!(told(lie).resolve().header("x-repo-commit"), None);
    let lie = BadAnswer::Header { name: "Set-Cookie".to_owned(), value: "a=b".to_owned() };
    assert_eq!(told(lie).resolve().header("set-cookie"), Some("a=b"));
}

#[test]
fn evil_names_are_listed_and_can_be_had() {
    let told = told(BadAnswer::Names(evil_names()));
    let tree = told.tree().json();
    let paths: Vec<_> =
        tree.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    for name in evil_names() {
        assert!(paths.contains(&name.as_str()), "{name:?}");
    }
    let answer = get(told.origin, "/acme/tiny/resolve/main/..%2Fescaped.gguf");
    assert_eq!(answer.status, 302);
    let (_, target) = answer.location();
    assert_eq!(get(told.hub.address(Listener::Cdn), &target).status, 200);
}

#[test]
fn the_listing_is_wrong_about_one_file_alone() {
    let about = |lie: BadAnswer, path: &str| {
        let tree = told(lie.on("x.gguf")).tree().json();
        tree.as_array().unwrap().iter().find(|entry| entry["path"] == path).unwrap().clone()
    };
    let honest = about(BadAnswer::WrongBytes, "x.gguf");
    let small = about(BadAnswer::WrongBytes, "small.txt");
    let wrong = about(BadAnswer::TreeSize(3), "x.gguf");
    assert_eq!((wrong["size"].as_u64(), wrong["lfs"]["size"].as_u64()), (Some(3), Some(3)));
    assert_ne!(about(BadAnswer::TreeDigest, "x.gguf")["lfs"]["oid"], honest["lfs"]["oid"]);
    assert_eq!(about(BadAnswer::TreeOid("../x".to_owned()), "x.gguf")["lfs"]["oid"], "../x");
    for lie in [BadAnswer::TreeSize(3), BadAnswer::TreeDigest, BadAnswer::TreeOid("../x".to_owned())] {
        assert_eq!(about(lie, "small.txt"), small);
    }
}

#[test]
fn pages_have_no_end_or_go_on_elsewhere() {
    let endless = told(BadAnswer::EndlessPages);
    endless.hub.set_page_entries(3);
    for cursor in [0, 3, 3_000_000] {
        let target = format!("/api/models/acme/tiny/tree/main?recursive=true&cursor={cursor}");
        let page = get(endless.origin, &target);
        assert!(page.header("link").unwrap().contains(&format!("cursor={}", cursor + 3)));
        assert!(!page.json().as_array().unwrap().is_empty());
    }
    let elsewhere = told(BadAnswer::NextPageElsewhere);
    elsewhere.hub.set_page_entries(1);
    let link = elsewhere.tree().header("link").unwrap().to_owned();
    assert!(link.contains(&elsewhere.hub.address(Listener::Elsewhere).to_string()));
}

#[test]
fn redirects_lead_elsewhere_or_nowhere() {
    let elsewhere = told(BadAnswer::RedirectElsewhere);
    let (host, target) = elsewhere.resolve().location();
    assert_eq!(host, elsewhere.hub.address(Listener::Elsewhere).to_string());
    assert_eq!(get(elsewhere.hub.address(Listener::Elsewhere), &target).body, elsewhere.bytes);
    let (host, target) = elsewhere.whole().location();
    assert_eq!(host, elsewhere.hub.address(Listener::Elsewhere).to_string());
    assert_eq!(get(elsewhere.hub.address(Listener::Elsewhere), &target).body, elsewhere.bytes);

    let looping = told(BadAnswer::RedirectLoop);
    let (host, target) = looping.resolve().location();
    assert_eq!((host, target.as_str()), (looping.origin.to_string(), "/acme/tiny/resolve/main/x.gguf"));
    let answer = told(BadAnswer::RedirectTo("file:///etc/hostname".to_owned())).resolve();
    assert_eq!(answer.header("location"), Some("file:///etc/hostname"));
}

#[test]
fn descriptions_and_listings_are_sent_on_or_garbled_when_told_so() {
    let told = told(BadAnswer::RedirectElsewhere.at(Route::Tree));
    let (host, target) = told.tree().location();
    assert_eq!(host, told.hub.address(Listener::Elsewhere).to_string());
    assert_eq!(get(told.hub.address(Listener::Elsewhere), &target).json()[0]["path"], "small.txt");
    assert_eq!(get(told.origin, "/api/models/acme/tiny").status, 200);
    told.hub.lie(BadAnswer::Text("[{".to_owned()).at(Route::Info));
    assert_eq!(get(told.origin, "/api/models/acme/tiny").body, b"[{");
}

#[test]
fn addresses_at_the_cdn_expire_once() {
    let hub = Hub::start_blocking();
    hub.add_repo("acme/tiny").put("x.gguf", "gguf");
    let locate = || get(hub.address(Listener::Origin), "/acme/tiny/resolve/main/x.gguf").location().1;
    let early = locate();
    assert_eq!(get(hub.address(Listener::Cdn), &early).status, 200);
    hub.lie(BadAnswer::ExpireUrls);
    assert_eq!(get(hub.address(Listener::Cdn), &early).status, 403);
    assert_eq!(get(hub.address(Listener::Cdn), &locate()).status, 200);
}

#[test]
fn the_hub_is_unwell_as_often_as_it_was_told_to_be() {
    let status = |status, retry_after| BadAnswer::Status { status, retry_after };
    let told_twice = told(status(503, Some(RetryAfter::Seconds(7))).times(2));
    let answer = told_twice.whole();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!((told_twice.whole().status, told_twice.whole().status), (503, 200));
    assert_eq!(told_twice.hub.told(), [2]);

    let dated = told(status(429, Some(RetryAfter::Date(60)))).whole();
    let date = httpdate::parse_http_date(dated.header("retry-after").unwrap()).unwrap();
    let wait = date.duration_since(SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");

    let later = told(status(500, None).at(Route::Plain).once().after_occasions(1));
    assert_eq!([200, 500, 200], [(); 3].map(|()| later.whole().status));
    let on_head = told(Rule::from(status(500, None)).to("HEAD"));
    assert_eq!(on_head.whole().status, 200);
    assert_eq!(ask(on_head.origin, "HEAD", "/plain/x.bin", &[]).status, 500);
}

#[test]
fn every_way_of_refusing_is_told() {
    let cases = [
        (Denial::GatedAnonymous, 401, Some("GatedRepo")),
        (Denial::GatedStranger, 403, Some("GatedRepo")),
        (Denial::RepoNotFoundAnonymous, 401, Some("RepoNotFound")),
        (Denial::RepoNotFound, 404, Some("RepoNotFound")),
        (Denial::RevisionNotFound, 404, Some("RevisionNotFound")),
        (Denial::EntryNotFound, 404, Some("EntryNotFound")),
        (Denial::BadToken, 401, None),
        (Denial::Forbidden, 403, None),
        (Denial::Disabled, 403, None),
    ];
    for (denial, status, code) in cases {
        let answer = told(BadAnswer::Denied(denial)).resolve();
        assert_eq!((answer.status, answer.header("x-error-code")), (status, code), "{denial:?}");
        assert!(answer.header("x-error-message").is_some());
    }
}

#[test]
fn connections_stall_reset_hang_up_and_dawdle() {
    let stalled = told(BadAnswer::Stall { after: 500, for_ms: None }).whole();
    assert_eq!((stalled.body.len(), stalled.broke), (500, true));
    let paused = told(BadAnswer::Stall { after: 500, for_ms: Some(100) });
    let begin = Instant::now();
    assert_eq!(paused.whole().body, paused.bytes);
    assert!(begin.elapsed() >= Duration::from_millis(100));

    let reset = told(BadAnswer::Reset { after: 500 }).whole();
    assert!(reset.broke && reset.body.len() <= 500);
    assert_eq!(told(BadAnswer::HangUp).whole().status, 0);

    let begin = Instant::now();
    let dripping = told(BadAnswer::Drip { bytes_per_second: 50_000 });
    assert_eq!(dripping.whole().body, dripping.bytes);
    assert!(begin.elapsed() >= Duration::from_millis(190));
    let begin = Instant::now();
    assert_eq!(told(BadAnswer::Late { by_ms: 100 }).whole().status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn lies_keep_to_their_file_and_repository() {
    let told = told(BadAnswer::WrongBytes.within("acme/other"));
    assert_eq!(told.whole().body, told.bytes);
    told.hub.lie(BadAnswer::WrongBytes.on("y.bin"));
    assert_eq!(told.whole().body, told.bytes);
    told.hub.lie(BadAnswer::WrongBytes.within("plain").on("x.bin").once());
    assert_ne!(told.whole().body, told.bytes);
    assert_eq!(told.whole().body, told.bytes);
    told.hub.lie(BadAnswer::WrongBytes);
    assert_ne!(told.whole().body, told.bytes);
    told.hub.stop_lying();
    assert_eq!(told.whole().body, told.bytes);
}

#[test]
fn lies_combine() {
    let told = told(BadAnswer::IgnoreRange);
    told.hub.lie(BadAnswer::WrongBytes).lie(BadAnswer::Cut { after: 300 }).lie(BadAnswer::Chunked);
    let answer = told.part("bytes=100-199");
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")));
    assert!(answer.body.len() < 320 && !answer.body.windows(20).any(|window| window == &told.bytes[..20]));
    assert_eq!(told.hub.sent().of("plain/x.bin"), 300);
}
