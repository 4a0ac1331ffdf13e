//! Who asks: the name under which the pool is fair between clients.
//!
//! ```text
//!   the owner's setting names a header, and the request has it ──► its value
//!   the same setting, and the body has `user` ───────────────────► that
//!   else ────────────────────────────────────────────────────────► address (TCP), user id (Unix socket)
//! ```
//!
//! What a client says of itself is never believed unless the owner said so: else one that calls itself by a new name
//! each time would be served ahead of all.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use samovar::Origin;
use samovar_core::Digest;

use crate::app::App;

/// A client's name is cut to so many bytes.
const NAME_BYTES: usize = 128;

/// Who is at the other end of a connection, as the system says.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<str>);

impl Peer {
    pub(crate) fn of_address(address: IpAddr) -> Self {
        let name = match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            // One household has so many addresses.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        };
        Self(name.into())
    }

    pub(crate) fn of_user(uid: u32) -> Self {
        Self(format!("uid {uid}").into())
    }
}

/// Who asks, and through which door.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) origin: Origin,
    peer: Arc<str>,
    /// What the trusted header says.
    named: Option<String>,
    /// Whether `user` in a body counts.
    is_trusted: bool,
}

impl Asker {
    #[cfg(test)]
    pub(crate) fn stranger() -> Self {
        Self { origin: Origin::Network, peer: "".into(), named: None, is_trusted: false }
    }

    /// The client's name, where the body says that `user` asks.
    pub(crate) fn client(&self, user: Option<String>) -> String {
        let user = user.filter(|user| self.is_trusted && !user.is_empty());
        let mut name = self.named.clone().or(user).unwrap_or_else(|| self.peer.to_string());
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>().map_or_else(|| "".into(), |peer| Arc::clone(&peer.0));
        let header = app.client_header.as_ref();
        let named = header.and_then(|name| parts.headers.get(name).map(|value| (name, value.as_bytes())));
        let named = named.filter(|(_, value)| !value.is_empty()).map(|(name, value)| said(name, value));
        Ok(Self { origin: app.surface.origin(), peer, named, is_trusted: header.is_some() })
    }
}

/// A key is a secret: it is told from others, and never shown.
fn said(header: &HeaderName, value: &[u8]) -> String {
    if *header != AUTHORIZATION && !header.as_str().contains("key") {
        return String::from_utf8_lossy(value).into_owned();
    }
    let digest = Digest::of_bytes(value);
    digest.as_bytes().iter().take(8).fold("key ".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(named: Option<&str>, is_trusted: bool) -> Asker {
        Asker { named: named.map(str::to_owned), is_trusted, peer: "10.0.0.7".into(), ..Asker::stranger() }
    }

    #[test]
    fn what_a_client_says_of_itself_counts_only_when_the_owner_said_so() {
        assert_eq!(asker(None, false).client(Some("alice".into())), "10.0.0.7");
        assert_eq!(asker(None, true).client(Some("alice".into())), "alice");
        assert_eq!(asker(Some("bob"), true).client(Some("alice".into())), "bob");
        assert_eq!(asker(None, true).client(Some(String::new())), "10.0.0.7");
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(asker(Some(&"ä".repeat(100)), true).client(None).len(), 128);
        assert_eq!(asker(Some(&("é".to_owned() + &"x".repeat(200))), true).client(None).len(), 128);
    }

    #[test]
    fn a_key_is_not_shown() {
        let name = said(&AUTHORIZATION, b"Bearer sk-secret");
        assert!(name.starts_with("key ") && !name.contains("secret"), "{name}");
        assert_ne!(name, said(&AUTHORIZATION, b"Bearer sk-other"));
        assert_eq!(said(&HeaderName::from_static("x-openwebui-user-id"), b"u1"), "u1");
    }

    #[test]
    fn a_network_of_version_six_is_one_client() {
        let of = |text: &str| Peer::of_address(text.parse().expect("address")).0;
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(&*of("::ffff:10.0.0.7"), "10.0.0.7");
    }
}
