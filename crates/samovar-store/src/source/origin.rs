//! Asking web servers: which address may be asked, what goes along, and what an answer is worth.
//!
//! ```text
//!   OriginRequest ──► origin ──302──► CDN            the token: to its own origin only
//!                      │ ▲  stall, status, headers   https never becomes http; five hops at most
//!                      ▼ │
//!                    Answer ──► text, bounded        for descriptions
//!                           └─► Body, exact          for files: the right range or an error
//! ```
//!
//! Redirects are followed here, one by one, since a client that follows them by itself decides by itself
//! what it tells whom. Addresses are never shown with their query, which at a CDN is a signature.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use url::{Host, Url};

use crate::config::{Secret, SourceConfig};
use crate::error::Error;
use crate::source::answer::Answer;

/// Redirects that are followed for one request.
const HOPS: usize = 5;
/// The longest that making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("samovar/", env!("CARGO_PKG_VERSION"));

/// The one client for web servers. Makes its connections, and reads the system's certificates, at the
/// first request, so that a start without one costs nothing.
pub(crate) struct Client {
    /// For plain http on this machine: no proxy, no certificates.
    near: OnceLock<reqwest::Client>,
    /// For everything else.
    far: OnceLock<reqwest::Client>,
    stall: Duration,
    allows_plain_http: bool,
}

/// A secret for one origin. It is sent to that scheme, host and port, and nowhere else.
pub(crate) struct Token {
    origin: url::Origin,
    value: HeaderValue,
}

/// A request.
pub(crate) struct OriginRequest<'a> {
    /// What is asked for, in words for an error.
    pub(crate) subject: &'a str,
    /// Usually GET.
    pub(crate) method: Method,
    /// Of whom.
    pub(crate) url: Url,
    /// Headers that go along to wherever the request is sent on.
    pub(crate) headers: HeaderMap,
    /// Headers for the first origin alone.
    pub(crate) first_headers: HeaderMap,
    /// The token, for when its origin is asked.
    pub(crate) token: Option<&'a Token>,
}

impl<'a> OriginRequest<'a> {
    /// A GET without anything special.
    pub(crate) fn get(subject: &'a str, url: Url) -> Self {
        Self {
            subject,
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            first_headers: HeaderMap::new(),
            token: None,
        }
    }

    /// With a header that goes along on redirects.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a token.
    pub(crate) fn with_token(mut self, token: Option<&'a Token>) -> Self {
        self.token = token;
        self
    }
}

impl Token {
    /// A token for the origin of `url`. `None` when there is nothing in it that a header can carry.
    pub(crate) fn bearer(url: &Url, secret: &Secret) -> Option<Self> {
        // Files that hold a token end in a line end.
        let text = secret.reveal().trim();
        let Some(mut value) =
            HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| !text.is_empty())
        else {
            tracing::warn!("the token for {} is none and is left out", host(url));
            return None;
        };
        value.set_sensitive(true);
        Some(Self { origin: url.origin(), value })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Client {
    pub(crate) fn new(config: &SourceConfig) -> Self {
        Self {
            near: OnceLock::new(),
            far: OnceLock::new(),
            stall: config.stall,
            allows_plain_http: config.allows_plain_http,
        }
    }

    /// Asks, and follows where the answer points. Every status but a redirect is an answer.
    ///
    /// # Errors
    /// An address that may not be asked, no answer in time, redirects that lead nowhere.
    pub(crate) async fn send(&self, ask: OriginRequest<'_>) -> Result<Answer, Error> {
        let mut url = ask.url.clone();
        self.check_first(&url)?;
        let mut passed = Vec::new();
        loop {
            let response = self.hop(&ask, &url).await?;
            let Some(next) = redirect_of(&response, &url) else {
                return Ok(Answer::new(url, passed, response, self.stall));
            };
            if passed.len() == HOPS {
                return Err(lie(ask.subject, format!("more than {HOPS} redirects")));
            }
            let next = next.map_err(|message| lie(ask.subject, message))?;
            self.check_next(&url, &next).map_err(|message| lie(ask.subject, message))?;
            passed.push(response.headers().clone());
            url = next;
        }
    }

    async fn hop(&self, ask: &OriginRequest<'_>, url: &Url) -> Result<reqwest::Response, Error> {
        let mut headers = ask.headers.clone();
        let origin = url.origin();
        if origin == ask.url.origin() {
            headers.extend(ask.first_headers.clone());
        }
        if let Some(token) = ask.token.filter(|token| token.origin == origin) {
            headers.insert(header::AUTHORIZATION, token.value.clone());
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = self.client(url)?.request(ask.method.clone(), url.clone()).headers(headers).send();
        match tokio::time::timeout(self.stall, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(if let Some(fault) = certificate_fault(&error) {
                let own = "certificates of your own are named by SSL_CERT_FILE";
                lie(ask.subject, format!("{}: {fault} ({own})", host(url)))
            } else {
                let (subject, is_silent) = (ask.subject.to_owned(), error.is_connect());
                Error::Unreachable { subject, message: said(error, url), retry_after: None, is_silent }
            }),
            Err(_) => {
                let message = format!("{} did not answer within {} s", host(url), self.stall.as_secs_f32());
                Err(unreachable(ask.subject, &message))
            }
        }
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, Error> {
        let is_near = url.scheme() == "http" && is_loopback(url);
        let cell = if is_near { &self.near } else { &self.far };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = build(is_near, self.stall).map_err(|error| {
            unreachable("the network", &format!("no client for it could be made: {}", root_cause(&error)))
        })?;
        Ok(cell.get_or_init(|| client))
    }

    fn check_first(&self, url: &Url) -> Result<(), Error> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allows_plain_http || is_loopback(url) => Ok(()),
            "http" => Err(Error::Unsupported {
                message: format!("{} would be asked without encryption", host(url)),
                hint: "use its https:// address, or set sources.allow_plain_http".to_owned(),
            }),
            scheme => Err(Error::Unsupported {
                message: format!("{scheme}:// addresses cannot be asked"),
                hint: "use an https:// address".to_owned(),
            }),
        }
    }

    fn check_next(&self, from: &Url, to: &Url) -> Result<(), String> {
        match (from.scheme(), to.scheme()) {
            (_, "https") => Ok(()),
            ("http", "http") if self.allows_plain_http || is_loopback(to) => Ok(()),
            (_, "http") => Err(format!("it sends on to {} without encryption", host(to))),
            (_, scheme) => Err(format!("it sends on to an address of the kind {scheme}:")),
        }
    }
}

fn build(is_near: bool, stall: Duration) -> reqwest::Result<reqwest::Client> {
    // Fails when there is one already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(stall.min(CONNECT))
        .tcp_nodelay(true)
        // Ranges that are fetched side by side need connections of their own.
        .http1_only();
    let builder = if is_near { builder.no_proxy().tls_certs_only([]) } else { builder };
    builder.build()
}

/// Where a redirect leads; `None` for any other answer.
fn redirect_of(response: &reqwest::Response, from: &Url) -> Option<Result<Url, String>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return None;
    }
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    Some(match location.map(|location| from.join(location)) {
        Some(Ok(mut url)) => {
            // What it holds would become a header.
            let is_plain = url.set_username("").is_ok() && url.set_password(None).is_ok();
            url.set_fragment(None);
            if is_plain || matches!(url.scheme(), "file" | "data") {
                Ok(url)
            } else {
                Err("it sends on to an address without a host".to_owned())
            }
        }
        _ => Err("it sends on to no address".to_owned()),
    })
}

/// The header that asks for a range; none for the whole of a file of unknown size.
pub(crate) fn range_header(range: &Range<u64>) -> Option<HeaderValue> {
    let text = match range {
        Range { start: 0, end: u64::MAX } => return None,
        Range { start, end: u64::MAX } => format!("bytes={start}-"),
        Range { start, end } => format!("bytes={start}-{}", end.saturating_sub(1)),
    };
    HeaderValue::from_str(&text).ok()
}

/// A machine's own address, which no other machine can reach.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The part of an address that may be shown.
pub(crate) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.scheme().to_owned(),
    }
}

/// What the client says of a failure, without the address it says it of.
pub(crate) fn said(error: reqwest::Error, url: &Url) -> String {
    let what = if error.is_connect() {
        "could not be reached"
    } else if error.is_timeout() {
        "was too slow"
    } else {
        "broke off"
    };
    format!("{} {what}: {}", host(url), root_cause(&error.without_url()))
}

/// What is wrong with a server's certificate, if that is what a failure is about. It will not pass.
fn certificate_fault(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |&cause| {
        // What an io::Error wraps is not its source, but the source of that.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or_else(|| cause.source())
    });
    causes.find_map(|cause| match cause.downcast_ref() {
        Some(fault @ rustls::Error::InvalidCertificate(_)) => Some(fault.to_string()),
        _ => None,
    })
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

pub(crate) fn unreachable(subject: &str, message: &str) -> Error {
    let (subject, message) = (subject.to_owned(), message.to_owned());
    Error::Unreachable { subject, message, retry_after: None, is_silent: false }
}

pub(crate) fn lie(subject: &str, message: impl Into<String>) -> Error {
    Error::BadAnswer { subject: subject.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for text in [
            "http://127.0.0.1:1/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://localhost/",
            "http://a.localhost/",
        ] {
            assert!(is_loopback(&url(text)), "{text}");
        }
        for text in [
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://xlocalhost/",
            "http://[::2]/",
            "http://0.0.0.0/",
        ] {
            assert!(!is_loopback(&url(text)), "{text}");
        }
    }

    #[test]
    fn encryption_is_never_given_up() {
        let client = Client::new(&SourceConfig::default());
        let lax = Client::new(&SourceConfig { allows_plain_http: true, ..SourceConfig::default() });
        let (secure, plain, here) = (url("https://h/"), url("http://h/"), url("http://127.0.0.1/"));
        for client in [&client, &lax] {
            assert!(client.check_next(&secure, &plain).is_err());
            assert!(client.check_next(&secure, &here).is_err());
            assert!(client.check_next(&here, &here).is_ok());
            assert!(client.check_next(&plain, &secure).is_ok());
            assert!(client.check_next(&here, &url("ftp://h/")).is_err());
        }
        assert!(client.check_next(&here, &plain).is_err() && lax.check_next(&here, &plain).is_ok());
        assert!(client.check_first(&plain).is_err() && lax.check_first(&plain).is_ok());
    }

    #[test]
    fn a_token_is_for_a_scheme_a_host_and_a_port() {
        let token = Token::bearer(&url("https://h:8443/a"), &Secret::new("secret")).unwrap();
        assert_eq!(token.origin, url("https://h:8443/b?c").origin());
        for other in ["http://h:8443/", "https://h/", "https://h.h:8443/", "https://x:8443/"] {
            assert_ne!(token.origin, url(other).origin(), "{other}");
        }
        assert!(!format!("{token:?} {:?}", token.value).contains("secret"));
        for none in ["a\r\nb", "", " \n"] {
            assert!(Token::bearer(&url("https://h"), &Secret::new(none)).is_none());
        }
        let trimmed = Token::bearer(&url("https://h"), &Secret::new("secret\n")).unwrap();
        assert_eq!(trimmed.value, token.value);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_found_wherever_it_is_said() {
        let fault = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, fault));
        assert!(certificate_fault(&wrapped).is_some_and(|text| text.contains("UnknownIssuer")));
        assert_eq!(certificate_fault(&io::Error::other("refused")), None);
    }

    #[test]
    fn a_start_without_a_request_makes_no_client() {
        let client = Client::new(&SourceConfig::default());
        assert!(client.near.get().is_none() && client.far.get().is_none());
    }
}
