//! Keeps web pages of strangers from using this server through its owner's browser.
//!
//! A page can send requests to `127.0.0.1`, or rebind its own name to that address. Three things give it
//! away: the name in `Host`, the `Origin`, and `Sec-Fetch-Site`. Programs that are no browsers send
//! neither of the last two and pass.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::{App, Surface};
use crate::refusal::Refusal;
use crate::routes::{refuse, takes_bytes};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const PRIVATE_NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");
/// Schemes of desktop programs with web views; a web page cannot have them.
const PROGRAM_SCHEMES: [&str; 3] = ["app", "tauri", "vscode-webview"];
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
const REQUEST_HEADERS: [&str; 10] = [
    "accept",
    "authorization",
    "cache-control",
    "content-type",
    "last-event-id",
    "user-agent",
    "x-api-key",
    "x-request-id",
    "x-request-timeout",
    "x-requested-with",
];
const REQUEST_HEADER_FAMILIES: [&str; 3] = ["x-stainless-", "openai-", "anthropic-"];
const RESPONSE_HEADERS: &str = "retry-after, retry-after-ms, server-timing, x-queue-position, \
                                x-ratelimit-limit-requests, x-ratelimit-limit-tokens, \
                                x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
                                x-ratelimit-reset-requests, x-ratelimit-reset-tokens, x-request-id, \
                                x-samovar-cache, x-samovar-tier, x-samovar-version, x-should-retry";

/// Who may call this server, and by which name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Other machines are served, by whatever address they know this one.
    any_address: bool,
}

impl Allowed {
    pub(crate) fn new(hosts: &[String], origins: &[String], listen: Option<SocketAddr>) -> Self {
        let plain = |text: &String| text.trim_end_matches('/').to_ascii_lowercase();
        Self {
            hosts: hosts.iter().map(plain).collect(),
            origins: origins.iter().map(plain).collect(),
            any_address: listen.is_some_and(|address| !address.ip().is_loopback()),
        }
    }

    /// Whether a client may call this server so. An address cannot be rebound, a name can.
    fn host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost"
            || address.is_ok_and(|address| address.is_loopback() || self.any_address)
            || self.hosts.contains(&host)
    }

    fn origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.origins.contains(&origin) {
            return true;
        }
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        if PROGRAM_SCHEMES.contains(&scheme) {
            return true;
        }
        let host = rest.parse::<Authority>().map(|authority| authority.host().to_owned());
        matches!(scheme, "http" | "https")
            && host.is_ok_and(|host| {
                matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]" | "tauri.localhost")
            })
    }
}

pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let head_bytes = head_bytes(&request);
    if head_bytes > app.limits.head_bytes {
        let message = format!("the head has {head_bytes} bytes, {} is the limit", app.limits.head_bytes);
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return refuse(request.uri().path(), Refusal::new(status, "head_too_large", message));
    }
    // No browser speaks to a Unix socket.
    if app.surface == Surface::Local {
        return match check_body(&request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refuse(request.uri().path(), refusal),
        };
    }
    let origin = match inspect(&app.allowed, &request) {
        Ok(origin) => origin,
        Err(refusal) => return refuse(request.uri().path(), refusal),
    };
    if request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return share(preflight(request.headers()), origin.as_ref());
    }
    if let Err(refusal) = check_body(&request) {
        return share(refuse(request.uri().path(), refusal), origin.as_ref());
    }
    share(next.run(request).await, origin.as_ref())
}

/// The parser refuses heads by the buffers that it has read, which lets some pass that are too large.
fn head_bytes(request: &Request) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    fields + request.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

/// The origin of the page that asks, if one does and may.
fn inspect(allowed: &Allowed, request: &Request) -> Result<Option<HeaderValue>, Refusal> {
    let host = host(request)
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "host_missing", "the request names no host"))?;
    if !allowed.host(&host) {
        let message = format!("this server is not called `{}`", printable(&host));
        return Err(Refusal::new(StatusCode::FORBIDDEN, "host_not_allowed", message).with_hint(
            "call it localhost, or add the name to `allowed_hosts` under [server] in samovar.toml",
        ));
    }
    let origin = request.headers().get(header::ORIGIN);
    if let Some(value) = origin
        && !value.to_str().is_ok_and(|origin| allowed.origin(origin) || is_own(origin, request))
    {
        let shown = printable(&String::from_utf8_lossy(value.as_bytes()));
        let message = format!("pages of the origin `{shown}` may not use this server");
        return Err(Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
            .with_hint("add it to `allowed_origins` under [server] in samovar.toml"));
    }
    // Allowed origins are cross-site as well: a page of localhost that asks 127.0.0.1 is one.
    let site = request.headers().get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let is_foreign = matches!(site, Some(b"cross-site" | b"same-site"));
    if origin.is_none() && is_foreign && !opens_the_page(request) {
        let message = "a page of another site may not use this server";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "cross_site", message));
    }
    Ok(origin.cloned())
}

/// Whether a page of this server asks: it was fetched by the name and port by which it calls the server now. The name itself has been
/// checked before.
fn is_own(origin: &str, request: &Request) -> bool {
    let Some(("http" | "https", place)) = origin.split_once("://") else { return false };
    authority(request).is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(place))
}

/// Whether a link on another site opens our page in a tab: that tells the other site nothing, and the page is the same for all.
fn opens_the_page(request: &Request) -> bool {
    let says = |name: HeaderName, value: &str| request.headers().get(name).is_some_and(|said| said == value);
    request.method() == Method::GET
        && request.uri().path() == "/"
        && says(SEC_FETCH_MODE, "navigate")
        && says(SEC_FETCH_DEST, "document")
}

/// The name by which the client calls this server, without the port.
fn host(request: &Request) -> Option<String> {
    authority(request).map(|authority| authority.host().to_owned())
}

/// The name and port by which the client calls this server.
fn authority(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next()?, hosts.next());
    if second.is_some() {
        return None;
    }
    first.to_str().ok()?.parse().ok()
}

/// Bytes that a route takes as they are may be of any type: such a route is its owner's, whom it knows by more than that.
fn check_body(request: &Request) -> Result<(), Refusal> {
    if takes_bytes(request.uri().path()) {
        return Ok(());
    }
    content_type(request.method(), request.headers())
}

/// A browser sends other types without asking first, so JSON alone is proof of a preflight.
fn content_type(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let has_no_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
        || !(headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING));
    let declared = headers.get(header::CONTENT_TYPE);
    if method != Method::POST || (has_no_body && declared.is_none()) {
        return Ok(());
    }
    let declared = declared.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(encoding) = encoding(headers) {
        let message = format!("bodies in the encoding `{}` are not understood", printable(&encoding));
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message)
            .with_hint("send the body as it is, without the header content-encoding"));
    }
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let message = match essence.as_str() {
        "" => "the body has no content type".to_owned(),
        other => format!("bodies of the type `{}` are not understood", printable(other)),
    };
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message)
        .with_hint("send the header `content-type: application/json`"))
}

/// What the body is packed in, if it is.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let said = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut said = said.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase());
    said.find(|encoding| !encoding.is_empty() && encoding != "identity")
}

fn preflight(asked: &HeaderMap) -> Response {
    let names = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|names| names.to_str().ok());
    let granted: Vec<&str> =
        names.unwrap_or_default().split(',').map(str::trim).filter(|name| is_granted(name)).collect();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Ok(granted) = HeaderValue::from_str(&granted.join(", ")) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, granted);
    }
    if asked.contains_key(PRIVATE_NETWORK_ASKED) {
        headers.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
    }
    response
}

fn is_granted(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    REQUEST_HEADERS.contains(&name.as_str())
        || REQUEST_HEADER_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Lets the page that asked read the answer.
fn share(mut response: Response, origin: Option<&HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    }
    response
}

/// What a stranger wrote, fit to be shown.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '`').take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn allowed() -> Allowed {
        Allowed::new(&["Box.lan".into()], &["https://chat.example/".into()], None)
    }

    fn verdict(headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut request = axum::http::Request::get("/v1/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("builds");
        inspect(&allowed(), &request).map(drop).map_err(|refusal| refusal.code)
    }

    #[test]
    fn hosts() {
        for host in
            ["localhost", "localhost:7711", "LOCALHOST", "127.0.0.1:1", "[::1]:80", "[::1]", "box.lan:9"]
        {
            assert_eq!(verdict(&[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "192.168.1.2", "evil.example:7711", "127.0.0.1.nip.io"]
        {
            assert_eq!(verdict(&[("host", host)]), Err("host_not_allowed"), "{host}");
        }
        for headers in
            [&[][..], &[("host", "")], &[("host", "a b")], &[("host", "localhost"), ("host", "evil")]]
        {
            assert_eq!(verdict(headers), Err("host_missing"), "{headers:?}");
        }
    }

    #[test]
    fn other_machines_call_an_exposed_server_by_its_address() {
        let exposed = Allowed::new(&[], &[], Some("0.0.0.0:80".parse().expect("address")));
        assert!(exposed.host("192.168.1.2"));
        assert!(!exposed.host("evil.example"));
    }

    #[test]
    fn origins() {
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://127.0.0.1:8443",
            "http://[::1]:5173",
            "app://obsidian.md",
            "tauri://localhost",
            "https://tauri.localhost",
            "vscode-webview://1abc",
            "https://chat.example",
        ] {
            assert_eq!(verdict(&[("host", "localhost"), ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://evil.example#localhost",
            "https://chat.example.evil.example",
            "http://chat.example",
            "chrome-extension://abc",
            "file://",
        ] {
            let verdict = verdict(&[("host", "localhost"), ("origin", origin)]);
            assert_eq!(verdict, Err("origin_not_allowed"), "{origin}");
        }
    }

    #[test]
    fn a_page_of_this_server_may_ask_it_by_whatever_allowed_name_it_was_fetched() {
        let asked = |host, origin| verdict(&[("host", host), ("origin", origin)]);
        assert_eq!(asked("box.lan:7711", "http://box.lan:7711"), Ok(()));
        assert_eq!(asked("box.lan", "https://Box.lan"), Ok(()));
        for (host, origin) in [
            ("box.lan:7711", "http://box.lan:7712"),
            ("box.lan:7711", "http://box.lan"),
            ("box.lan", "ftp://box.lan"),
            ("box.lan", "http://evil.example@box.lan"),
        ] {
            assert_eq!(asked(host, origin), Err("origin_not_allowed"), "{origin}");
        }
        assert_eq!(asked("evil.example", "http://evil.example"), Err("host_not_allowed"));
    }

    #[test]
    fn sites() {
        let asked = |site, origin: Option<&str>| {
            let mut headers = vec![("host", "localhost"), ("sec-fetch-site", site)];
            headers.extend(origin.map(|origin| ("origin", origin)));
            verdict(&headers)
        };
        assert_eq!(asked("none", None), Ok(()));
        assert_eq!(asked("same-origin", None), Ok(()));
        assert_eq!(asked("cross-site", None), Err("cross_site"));
        assert_eq!(asked("same-site", None), Err("cross_site"));
        assert_eq!(asked("cross-site", Some("http://localhost:3000")), Ok(()));
        assert_eq!(asked("cross-site", Some("https://evil.example")), Err("origin_not_allowed"));
    }

    #[test]
    fn a_link_on_another_site_opens_the_page_and_nothing_else() {
        let may = |path: &str, mode: &str, destination: &str| {
            let request = axum::http::Request::get(path)
                .header("host", "localhost")
                .header("sec-fetch-site", "cross-site")
                .header("sec-fetch-mode", mode)
                .header("sec-fetch-dest", destination)
                .body(Body::empty())
                .expect("builds");
            inspect(&allowed(), &request).is_ok()
        };
        assert!(may("/", "navigate", "document"));
        assert!(
            !may("/", "navigate", "iframe") && !may("/", "no-cors", "empty") && !may("/", "cors", "document")
        );
        assert!(!may("/v1/models", "navigate", "document") && !may("/page/app.js", "no-cors", "script"));
    }

    #[test]
    fn content_types() {
        let check = |method: Method, pairs: &[(HeaderName, &str)]| {
            let headers =
                pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("value"))).collect();
            content_type(&method, &headers).is_ok()
        };
        let length = (header::CONTENT_LENGTH, "2");
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(check(Method::POST, &[length.clone(), (header::CONTENT_TYPE, good)]), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "text/json+x"]
        {
            assert!(!check(Method::POST, &[length.clone(), (header::CONTENT_TYPE, bad)]), "{bad}");
        }
        assert!(!check(Method::POST, std::slice::from_ref(&length)));
        let packed = |encoding| {
            let json = (header::CONTENT_TYPE, "application/json");
            check(Method::POST, &[length.clone(), json, (header::CONTENT_ENCODING, encoding)])
        };
        assert!(packed("identity") && packed("Identity") && packed(""));
        assert!(!packed("gzip") && !packed("br") && !packed("identity, gzip") && !packed("zstd"));
        assert!(!check(Method::POST, &[(header::TRANSFER_ENCODING, "chunked")]));
        assert!(check(Method::POST, &[]));
        assert!(check(Method::GET, &[]));
    }

    #[test]
    fn pages_may_send_and_read_the_headers_of_the_reference() {
        use crate::field::{ANSWER_HEADERS, names};
        assert_eq!(RESPONSE_HEADERS.split(", ").collect::<Vec<_>>(), names(ANSWER_HEADERS));
        for name in names(crate::field::REQUEST_HEADERS) {
            assert!(REQUEST_HEADERS.contains(&name), "{name}");
        }
    }

    #[test]
    fn pages_may_send_the_method_of_each_route() {
        for route in crate::ROUTES {
            assert!(
                METHODS.split(", ").any(|method| method == route.method),
                "{} {}",
                route.method,
                route.path
            );
        }
    }

    #[test]
    fn preflight_grants_known_headers_only() {
        let mut asked = HeaderMap::new();
        asked.insert(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("Authorization, X-Stainless-Lang, x-evil,content-type"),
        );
        asked.insert(PRIVATE_NETWORK_ASKED, HeaderValue::from_static("true"));
        let response = preflight(&asked);
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(
            response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS],
            "Authorization, X-Stainless-Lang, content-type"
        );
        assert_eq!(response.headers()[PRIVATE_NETWORK_ALLOWED], "true");
    }
}
