//! Where the hub sent on to for a file, so that each further part of it is one request and not two.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

/// Files that are remembered at once.
const MOST: usize = 64;
/// How long an address is used without asking the hub again. Signed addresses live longer, and one that
/// does not is given up at its first refusal.
const LIFE: Duration = Duration::from_secs(300);

/// The addresses behind redirects, by the address at the hub. They are as good as a key to the file: never shown.
#[derive(Default)]
pub(crate) struct RedirectCache(Mutex<HashMap<String, Redirect>>);

/// Where a file is.
#[derive(Clone)]
pub(crate) struct Redirect {
    /// Its address.
    pub(crate) url: Url,
    /// What the hub calls its content.
    pub(crate) etag: Option<String>,
    since: Instant,
}

impl Redirect {
    pub(crate) fn new(url: Url, etag: Option<String>) -> Self {
        Self { url, etag, since: Instant::now() }
    }
}

impl RedirectCache {
    /// Where the hub sent on to not long ago.
    pub(crate) fn of(&self, locator: &str) -> Option<Redirect> {
        self.redirect_cache().get(locator).filter(|redirect| redirect.since.elapsed() < LIFE).cloned()
    }

    /// Remembers an address.
    pub(crate) fn note(&self, locator: &str, redirect: Redirect) {
        let mut redirect_cache = self.redirect_cache();
        if redirect_cache.len() >= MOST {
            redirect_cache.retain(|_, redirect| redirect.since.elapsed() < LIFE);
        }
        if redirect_cache.len() < MOST {
            redirect_cache.insert(locator.to_owned(), redirect);
        }
    }

    /// An address did not hold.
    pub(crate) fn forget(&self, locator: &str) {
        self.redirect_cache().remove(locator);
    }

    fn redirect_cache(&self) -> MutexGuard<'_, HashMap<String, Redirect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(text: &str) -> Redirect {
        Redirect::new(text.parse().unwrap(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_used_for_a_while_and_until_they_fail() {
        let redirect_cache = RedirectCache::default();
        redirect_cache.note("a", redirect("https://cdn/a?sig=1"));
        assert_eq!(redirect_cache.of("a").unwrap().url.as_str(), "https://cdn/a?sig=1");
        redirect_cache.forget("a");
        assert!(redirect_cache.of("a").is_none());
        redirect_cache.note("a", redirect("https://cdn/a?sig=2"));
        tokio::time::advance(LIFE).await;
        assert!(redirect_cache.of("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_there_is_place_for() {
        let redirect_cache = RedirectCache::default();
        for at in 0..2 * MOST {
            redirect_cache.note(&at.to_string(), redirect("https://cdn/"));
        }
        assert_eq!(redirect_cache.redirect_cache().len(), MOST);
        tokio::time::advance(LIFE).await;
        redirect_cache.note("new", redirect("https://cdn/"));
        assert_eq!(redirect_cache.redirect_cache().len(), 1);
    }
}
