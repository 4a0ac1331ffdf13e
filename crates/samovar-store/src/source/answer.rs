//! What a web server said: taken as text up to a limit, or as exactly the asked bytes of a file.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap, HeaderName};
use url::Url;

use crate::error::Error;
use crate::source::Body;
use crate::source::origin::{host, lie, said, unreachable};

/// Characters of a server's own words that are repeated.
const MESSAGE_CHARS: usize = 200;
/// What is left of a limit on requests, and until when.
/// *Source:* draft-ietf-httpapi-ratelimit-headers, as the hub sends it.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Bytes of an etag that is worth remembering.
const ETAG_BYTES: usize = 256;

/// What a web server said, after redirects.
pub(crate) struct Answer {
    url: Url,
    /// The headers of the redirects on the way, first to last.
    passed: Vec<HeaderMap>,
    response: reqwest::Response,
    stall: Duration,
}

impl Answer {
    pub(crate) fn new(
        url: Url,
        passed: Vec<HeaderMap>,
        response: reqwest::Response,
        stall: Duration,
    ) -> Self {
        Self { url, passed, response, stall }
    }

    /// Who said it, in the end.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether a server other than the asked one said it, or the same at another address.
    pub(crate) fn is_redirected(&self) -> bool {
        !self.passed.is_empty()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header of the answer itself.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        text_of(self.response.headers(), name)
    }

    /// A header of the first server on the way that has it.
    pub(crate) fn first_header(&self, name: &HeaderName) -> Option<&str> {
        self.passed.iter().chain([self.response.headers()]).find_map(|headers| text_of(headers, name))
    }

    /// The strong etag of what was answered.
    pub(crate) fn etag(&self) -> Option<String> {
        self.header(&header::ETAG).and_then(strong_etag)
    }

    /// The whole answer as text.
    ///
    /// # Errors
    /// When it is longer than `limit_bytes`, breaks off, stalls, or is not UTF-8.
    pub(crate) async fn text(self, subject: &str, limit_bytes: usize) -> Result<String, Error> {
        let mut text = Vec::new();
        let mut stream = chunks(self.response, self.url, self.stall, subject.to_owned());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if text.len() + chunk.len() > limit_bytes {
                return Err(lie(subject, format!("an answer of more than {limit_bytes} bytes")));
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map_err(|_| lie(subject, "an answer that is no text"))
    }

    /// The bytes of a file from `range.start` on, or from 0 when the server gives the whole of it. The
    /// stream holds as many bytes as were declared, or ends with an error.
    ///
    /// # Errors
    /// Whatever is not a file's bytes: a refusal, a page, other bytes than were asked for.
    pub(crate) fn body(self, subject: &str, range: &Range<u64>) -> Result<Body, Error> {
        if let Some(encoding) = self.header(&header::CONTENT_ENCODING).filter(|&name| name != "identity") {
            return Err(lie(
                subject,
                format!("bytes encoded as {:?}, which were not requested", cut(encoding)),
            ));
        }
        let is_page = self.header(&header::CONTENT_TYPE).is_some_and(is_page);
        let length = self.response.content_length();
        let (start, declared, size) = match self.status() {
            StatusCode::PARTIAL_CONTENT => {
                let part = self.part(subject, range, length)?;
                (range.start, Some(part.bytes), part.total)
            }
            StatusCode::OK if is_page => return Err(lie(subject, "a web page instead of the file")),
            StatusCode::OK => (0, length, length),
            _ => return Err(self.refusal(subject)),
        };
        let is_whole = self.status() == StatusCode::OK;
        let etag = self.etag();
        let stream = chunks(self.response, self.url, self.stall, subject.to_owned());
        let stream = match declared {
            Some(bytes) => exactly(stream, bytes, subject.to_owned()),
            None => stream,
        };
        Ok(Body { stream, start, size, etag, is_whole })
    }

    fn part(&self, subject: &str, range: &Range<u64>, length: Option<u64>) -> Result<Part, Error> {
        let text = self.header(&header::CONTENT_RANGE).unwrap_or_default();
        let wrong = || lie(subject, format!("the part {:?} was sent for {range:?}", cut(text)));
        let (first, last, total) = content_range(text).ok_or_else(wrong)?;
        let bytes = last.checked_sub(first).ok_or_else(wrong)? + 1;
        let fits = first == range.start
            && last < range.end
            && total.is_none_or(|total| last < total)
            && length.is_none_or(|length| length == bytes);
        if fits { Ok(Part { bytes, total }) } else { Err(wrong()) }
    }

    /// What an answer that is no success means, as far as HTTP alone tells.
    pub(crate) fn refusal(&self, subject: &str) -> Error {
        let status = self.status();
        let who = host(&self.url);
        let subject = subject.to_owned();
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => Error::Unreachable {
                subject,
                message: format!("{who} said {status}"),
                retry_after: self.retry_after(),
                is_silent: false,
            },
            401 | 403 => Error::Denied {
                subject,
                message: format!("{who} said {status}"),
                hint: "it wants other credentials".to_owned(),
            },
            404 | 410 => {
                Error::Missing { subject, where_: " at its source", hint: "check the name".to_owned() }
            }
            416 => lie(&subject, "the source says that the file is shorter than it said before"),
            _ => lie(&subject, format!("{who} said {status}")),
        }
    }

    /// How long the server asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let asked = self.header(&header::RETRY_AFTER).and_then(wait_of);
        asked.or_else(|| self.header(&RATE_LIMIT).and_then(reset_of))
    }

    /// The server's own words in a header, cut and without what a terminal might act on.
    pub(crate) fn words(&self, name: &HeaderName) -> Option<String> {
        self.header(name).map(cut).filter(|text| !text.is_empty())
    }
}

/// A `Retry-After`, in either of its forms.
fn wait_of(text: &str) -> Option<Duration> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => http_date(text)?.duration_since(SystemTime::now()).ok(),
    }
}

/// When a limit that is used up begins anew: `"resolvers";r=0;t=42`.
fn reset_of(text: &str) -> Option<Duration> {
    let number = |name: &str| {
        let value = |part: &str| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok();
        text.split([';', ',']).find_map(value)
    };
    (number("r") == Some(0)).then(|| number("t").map(Duration::from_secs)).flatten()
}

struct Part {
    bytes: u64,
    total: Option<u64>,
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect()
}

fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// What stands between the quotes of a strong etag; a weak one promises nothing about bytes.
pub(crate) fn strong_etag(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let is_plain = inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    (is_plain && !inner.is_empty() && inner.len() <= ETAG_BYTES).then(|| inner.to_owned())
}

/// `bytes 0-99/1000`, the total `*` when it is not known.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (part, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

/// The form of a date that HTTP prefers: `Sun, 06 Nov 1994 08:49:37 GMT`. The older ones are not taken.
/// *Source:* RFC 9110, section 5.6.7.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let [day, month, year, time] = rest.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>().try_into().ok()?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let month = MONTHS.iter().position(|&name| name == month)? as u64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    if !(1970..10_000).contains(&year) || !(1..32).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Days from the first of January 1970 to a day of the Gregorian calendar. Years begin in March here, so
/// that the day that only some of them have is their last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    // 719_468 days lie between the first of March of year 0 and 1970.
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

type Chunks = BoxStream<'static, Result<Bytes, Error>>;

/// The bytes of an answer as they come; a silence longer than `stall` ends them.
fn chunks(response: reqwest::Response, url: Url, stall: Duration, subject: String) -> Chunks {
    let state = Some((response, url, subject));
    stream::unfold(state, move |state| async move {
        let (mut response, url, subject) = state?;
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(Some(chunk))) => Some((Ok(chunk), Some((response, url, subject)))),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some((Err(unreachable(&subject, &said(error, &url))), None)),
            Err(_) => {
                let message = format!("{} sent nothing for {} s", host(&url), stall.as_secs_f32());
                Some((Err(unreachable(&subject, &message)), None))
            }
        }
    })
    .boxed()
}

/// The same bytes if they are as many as declared; else an error where that shows.
fn exactly(stream: Chunks, bytes: u64, subject: String) -> Chunks {
    let state = Some((stream, bytes, subject));
    stream::unfold(state, move |state| async move {
        let (mut stream, left, subject) = state?;
        match stream.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 > left => {
                Some((Err(lie(&subject, "more bytes than were declared")), None))
            }
            Some(Ok(chunk)) => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((stream, left, subject))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if left > 0 => {
                let message = format!("the connection ended {left} bytes before its declared end");
                Some((Err(unreachable(&subject, &message)), None))
            }
            None => None,
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_of_http() {
        let seconds = |text: &str| {
            http_date(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        for text in ["", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "-5"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_how_long_to_wait() {
        let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
        assert_eq!(seconds(wait_of(" 17 ")), Some(17));
        for text in ["", "-5", "soon", "1e9", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(seconds(wait_of(text)), None, "{text:?}");
        }
        assert_eq!(seconds(reset_of("\"resolvers\";r=0;t=42")), Some(42));
        for text in ["\"api\";r=3;t=42", "\"api\";r=0", "t=42", "", "r=0;t=x"] {
            assert_eq!(seconds(reset_of(text)), None, "{text:?}");
        }
    }

    #[test]
    fn reads_content_ranges_and_nothing_like_them() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((0, 99, Some(1000))));
        assert_eq!(content_range("bytes 5-5/*"), Some((5, 5, None)));
        for text in ["", "bytes */1000", "bytes 0-99", "items 0-9/10", "bytes -5/10", "bytes 1-x/10"] {
            assert_eq!(content_range(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_strong_plain_etags_count() {
        assert_eq!(strong_etag("\"abc-1\""), Some("abc-1".to_owned()));
        for text in ["", "\"\"", "abc", "W/\"abc\"", "\"unclosed", "\"a\"b\"", "\"a b\""] {
            assert_eq!(strong_etag(text), None, "{text:?}");
        }
        assert_eq!(strong_etag(&format!("\"{}\"", "a".repeat(300))), None);
    }
}
