//! The bytes of a file at the hub, or wherever the hub sends on to.

use std::ops::Range;

use reqwest::header::{self, HeaderName};
use url::Url;

use super::redirect_cache::Redirect;
use super::refusal::{self, Context};
use super::{Hub, quoted, range_header};
use crate::error::Error;
use crate::source::answer::{Answer, strong_etag};
use crate::source::origin::{OriginRequest, lie};
use crate::source::{Body, RemoteFile};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// Part of a file that is wanted.
struct Wish<'a> {
    subject: String,
    file: &'a RemoteFile,
    range: Range<u64>,
}

impl Hub {
    /// Bytes of a file: from where the hub sent on to before, else by way of the hub.
    pub(super) async fn body(&self, file: &RemoteFile, range: Range<u64>) -> Result<Body, Error> {
        let wish = Wish { subject: format!("{} at the hub", file.path), file, range };
        if let Some(redirect) = self.redirect_cache.of(&file.locator)
            && let Some(body) = self.shortcut(&wish, redirect).await?
        {
            return Ok(body);
        }
        self.by_the_hub(&wish).await
    }

    /// Bytes from an address that the hub gave before; `None` when it holds no longer.
    async fn shortcut(&self, wish: &Wish<'_>, redirect: Redirect) -> Result<Option<Body>, Error> {
        let answer = match self.client.send(wish.ask(redirect.url)).await {
            Ok(answer) => answer,
            Err(error) => {
                self.redirect_cache.forget(&wish.file.locator);
                return Err(error);
            }
        };
        if !answer.status().is_success() {
            self.redirect_cache.forget(&wish.file.locator);
            let error = answer.refusal(&wish.subject);
            // Who asks to be left alone is not asked at once by way of the hub either.
            return if error.may_pass() { Err(error) } else { Ok(None) };
        }
        let mut body = answer.body(&wish.subject, &wish.range)?;
        body.etag = redirect.etag.or(body.etag);
        Ok(Some(body))
    }

    async fn by_the_hub(&self, wish: &Wish<'_>) -> Result<Body, Error> {
        let url: Url = wish.file.locator.parse().map_err(|_| lie(&wish.subject, "its address is none"))?;
        let mut ask = wish.ask(url).with_token(self.token.as_ref());
        // Behind a redirect the same bytes may have another name, so this is for the hub alone.
        if let Some(value) = wish.file.etag.as_deref().and_then(quoted) {
            ask.first_headers.insert(header::IF_RANGE, value);
        }
        let answer = self.client.send(ask).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(wish, &answer));
        }
        if let (Some(said), Some(size)) = (answer.first_header(&LINKED_SIZE), wish.file.size)
            && said.trim().parse() != Ok(size)
        {
            return Err(lie(&wish.subject, format!("a file of {said:?} bytes, where {size} were announced")));
        }
        let linked = answer.first_header(&LINKED_ETAG).and_then(strong_etag);
        let elsewhere = (answer.url().origin() != self.endpoint.origin()).then(|| answer.url().clone());
        let is_redirected = answer.is_redirected();
        let mut body = answer.body(&wish.subject, &wish.range)?;
        if is_redirected && linked.is_some() {
            body.etag.clone_from(&linked);
        }
        if let Some(url) = elsewhere {
            self.redirect_cache.note(&wish.file.locator, Redirect::new(url, linked));
        }
        Ok(body)
    }

    fn refusal(&self, wish: &Wish<'_>, answer: &Answer) -> Error {
        let page = wish.file.locator.split("/resolve/").next().unwrap_or_default();
        let context = Context { subject: &wish.subject, page, revision: "", has_token: self.token.is_some() };
        refusal::of_file(answer, &context, &self.endpoint)
    }
}

impl Wish<'_> {
    fn ask(&self, url: Url) -> OriginRequest<'_> {
        let ask = OriginRequest::get(&self.subject, url);
        match range_header(&self.range) {
            Some(value) => ask.with(header::RANGE, value),
            None => ask,
        }
    }
}
