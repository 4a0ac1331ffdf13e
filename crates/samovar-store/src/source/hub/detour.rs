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
pub(crate) struct Detours(Mutex<HashMap<String, Detour>>);

/// Where a file is.
#[derive(Clone)]
pub(crate) struct Detour {
    /// Its address.
    pub(crate) url: Url,
    /// What the hub calls its content.
    pub(crate) etag: Option<String>,
    since: Instant,
}

impl Detour {
    pub(crate) fn new(url: Url, etag: Option<String>) -> Self {
        Self { url, etag, since: Instant::now() }
    }
}

impl Detours {
    /// Where the hub sent on to not long ago.
    pub(crate) fn of(&self, locator: &str) -> Option<Detour> {
        self.detours().get(locator).filter(|detour| detour.since.elapsed() < LIFE).cloned()
    }

    /// Remembers an address.
    pub(crate) fn note(&self, locator: &str, detour: Detour) {
        let mut detours = self.detours();
        if detours.len() >= MOST {
            detours.retain(|_, detour| detour.since.elapsed() < LIFE);
        }
        if detours.len() < MOST {
            detours.insert(locator.to_owned(), detour);
        }
    }

    /// An address did not hold.
    pub(crate) fn forget(&self, locator: &str) {
        self.detours().remove(locator);
    }

    fn detours(&self) -> MutexGuard<'_, HashMap<String, Detour>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detour(text: &str) -> Detour {
        Detour::new(text.parse().unwrap(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_used_for_a_while_and_until_they_fail() {
        let detours = Detours::default();
        detours.note("a", detour("https://cdn/a?sig=1"));
        assert_eq!(detours.of("a").unwrap().url.as_str(), "https://cdn/a?sig=1");
        detours.forget("a");
        assert!(detours.of("a").is_none());
        detours.note("a", detour("https://cdn/a?sig=2"));
        tokio::time::advance(LIFE).await;
        assert!(detours.of("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_there_is_place_for() {
        let detours = Detours::default();
        for at in 0..2 * MOST {
            detours.note(&at.to_string(), detour("https://cdn/"));
        }
        assert_eq!(detours.detours().len(), MOST);
        tokio::time::advance(LIFE).await;
        detours.note("new", detour("https://cdn/"));
        assert_eq!(detours.detours().len(), 1);
    }
}
