//! Names, pages and sites that may not use the server, at every route.

use crate::fixture::Fixture;
use crate::raw::{exchange, request, tcp};

const CHAT: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
const TEXT: &str = r#"{"model":"demo","prompt":"a","max_tokens":1}"#;
const OLLAMA: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"prompt":"hi","options":{"num_predict":1}}"#;
const INPUT: &str = r#"{"model":"demo","input":"a"}"#;
const ROUTES: [(&str, &str, &str); 30] = [
    ("GET", "/v1/models", ""),
    ("GET", "/v1/models/demo", ""),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/completions", TEXT),
    ("POST", "/v1/responses", INPUT),
    ("POST", "/v1/responses/input_tokens", INPUT),
    ("POST", "/v1/messages", CHAT),
    ("POST", "/v1/messages/count_tokens", CHAT),
    ("POST", "/v1/embeddings", INPUT),
    ("POST", "/v1/rerank", INPUT),
    ("POST", "/embed", INPUT),
    ("POST", "/tokenize", INPUT),
    ("GET", "/info", ""),
    ("GET", "/", ""),
    ("GET", "/api/tags", ""),
    ("POST", "/api/chat", OLLAMA),
    ("POST", "/api/generate", OLLAMA),
    ("POST", "/api/show", OLLAMA),
    ("POST", "/completion", TEXT),
    ("POST", "/infill", TEXT),
    ("POST", "/apply-template", CHAT),
    ("GET", "/props", ""),
    ("GET", "/slots", ""),
    ("GET", "/health", ""),
    ("GET", "/healthz", ""),
    ("GET", "/readyz", ""),
    ("GET", "/metrics", ""),
    ("GET", "/nope", ""),
    ("OPTIONS", "/v1/models", ""),
    ("HEAD", "/v1/models", ""),
];
const FOREIGN_HOSTS: [&str; 20] = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "evil.example:7301",
    "192.168.1.5",
    "0.0.0.0",
    "[::]",
    "xn--lcalhost-n1a",
    "127.1",
    "2130706433",
    "0x7f000001",
    "localhost.",
    "localhost evil",
    "",
    "localhost#@evil.example",
    "evil.example@localhost.evil.example",
    "localhost/evil",
    "[::1",
    "localhost,evil.example",
    "user:pass@evil.example",
];
const OWN_HOSTS: [&str; 6] =
    ["LOCALHOST", "[::1]", "127.0.0.1", "127.0.0.1:1", "localhost:7301", "127.0.0.2"];
const FOREIGN_ORIGINS: [&str; 12] = [
    "null",
    "https://evil.example",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "file://",
    "http://127.0.0.1.evil.example",
    "http://localhost:1,http://evil",
    "chrome-extension://x",
    "moz-extension://x",
    "http://127.1",
    "http://0.0.0.0:3000",
    "https://localhost.",
];
const FOREIGN_TYPES: [&str; 4] =
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""];

#[tokio::test]
async fn foreign_names_pages_and_sites_get_nothing_from_any_route() {
    let fixture = Fixture::new().await;
    let mut cases = 0;
    for (method, path, body) in ROUTES {
        let mut refused = Vec::new();
        refused.extend(FOREIGN_HOSTS.map(|host| ("host", host)));
        refused.extend(FOREIGN_ORIGINS.map(|origin| ("origin", origin)));
        refused.extend(["cross-site", "same-site"].map(|site| ("sec-fetch-site", site)));
        for (name, value) in refused {
            let text = request(method, path, &[(name, value)], body);
            let answer = exchange(tcp(&fixture).await, text).await;
            let is_refused = answer.status == 403 || name == "host" && answer.status == 400;
            assert!(is_refused, "{method} {path} {name}: {value}: {} {}", answer.status, answer.body);
            assert_eq!(answer.header("access-control-allow-origin"), None, "{path} {value}");
            cases += 1;
        }
        for host in OWN_HOSTS {
            let answer = exchange(tcp(&fixture).await, request(method, path, &[("host", host)], body)).await;
            assert!(answer.status != 403, "{method} {path} {host}: {}", answer.body);
            cases += 1;
        }
        for content_type in FOREIGN_TYPES.into_iter().filter(|_| method == "POST") {
            let text = request(method, path, &[("content-type", content_type)], body);
            assert_eq!(exchange(tcp(&fixture).await, text).await.status, 415, "{path} {content_type}");
            cases += 1;
        }
    }
    assert!(cases >= 378, "{cases}");
}
