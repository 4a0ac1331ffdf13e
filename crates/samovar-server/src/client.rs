//! Who asks: the names under which the pool is fair between clients, and between those who share a client's turns.
//!
//! ```text
//!   the request was sent with a key of the owner's ──────────────► the key's name
//!   the owner's setting names a header, and the request has it ──► its value
//!   the same setting, and the body has `user` ───────────────────► that
//!   else ────────────────────────────────────────────────────────► address (TCP), user id (Unix socket)
//!
//!   within that: the key that was sent, or else the program (`user-agent`); within that: the connection
//!   within a key of the owner's: what would be the client otherwise, if header or body name it, or else the program
//! ```
//!
//! What a client says of itself never makes it another client unless the owner said so: else one that calls itself by a
//! new name each time would be served ahead of all. It only divides what its own address has.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, USER_AGENT, VIA};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use samovar::{Common, Origin};
use samovar_core::Digest;

use crate::app::App;
use crate::keys::Account;

/// A client's name is cut to so many bytes.
const NAME_BYTES: usize = 128;
/// Headers in which clients send their keys.
const KEYS: [HeaderName; 3] =
    [AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// Headers with which a program in front of this server says that it asks for another machine.
const FORWARDED: [HeaderName; 6] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    VIA,
];

/// Who is at the other end of a connection, as the system says.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    name: Arc<str>,
    /// A program of this machine.
    is_local: bool,
    /// Unlike that of any other connection.
    connection: u64,
}

impl Peer {
    fn new(name: String, is_local: bool) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Self { name: name.into(), is_local, connection }
    }

    pub(crate) fn of_address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let name = match address {
            IpAddr::V4(address) => address.to_string(),
            // One household has so many addresses.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        };
        Self::new(name, address.is_loopback())
    }

    pub(crate) fn of_user(uid: u32) -> Self {
        Self::new(format!("uid {uid}"), true)
    }

    /// The address or the user.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }
}

/// Whose conversations a request sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConversationOwner {
    /// The machine's owner.
    Machine,
    /// A key, or a user of it whom a trusted header names.
    Key { name: String, user: Option<String> },
    /// A user whom a trusted header names.
    User(String),
    /// Another machine.
    Address(String),
}

/// The client of a request, and the listener that it came through.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) origin: Origin,
    peer: Arc<str>,
    /// The peer is a program of this machine, and does not ask for another machine.
    is_local: bool,
    /// What the trusted header says.
    named: Option<String>,
    /// Whether `user` in a body counts.
    is_trusted: bool,
    within: Vec<String>,
    /// The key that the request was sent with.
    account: Option<Arc<Account>>,
}

impl Asker {
    #[cfg(test)]
    pub(crate) fn stranger() -> Self {
        let (peer, within) = ("".into(), Vec::new());
        Self {
            origin: Origin::Network,
            peer,
            is_local: false,
            named: None,
            is_trusted: false,
            within,
            account: None,
        }
    }

    /// Writes into a request who asks, where the body says that `user` does.
    pub(crate) fn sign(&self, common: &mut Common, user: Option<String>) {
        common.origin = self.origin;
        common.within = self.within();
        let Some(account) = &self.account else {
            common.client = self.client(user);
            return;
        };
        account.name().clone_into(&mut common.client);
        common.weight = account.weight();
        if let Some(user) = self.user(user) {
            // Two users of one program have secrets from each other, although it has one key.
            common.person = Some(format!("{} {user}", account.name()));
            common.within.insert(0, user);
        }
    }

    /// Whom a trusted header or body names.
    fn user(&self, user: Option<String>) -> Option<String> {
        let user = user.filter(|user| self.is_trusted && !user.is_empty());
        self.named.clone().or(user).map(cut)
    }

    /// The client of a connection that is not HTTP.
    pub(crate) fn of_peer(peer: &Peer, origin: Origin) -> Self {
        let within = vec![String::new(), format!("connection {}", peer.connection)];
        Self {
            origin,
            peer: Arc::clone(&peer.name),
            is_local: peer.is_local,
            named: None,
            is_trusted: false,
            within,
            account: None,
        }
    }

    /// Whose conversations the request sees. A `user` in a body counts for fairness, and opens no conversations.
    pub(crate) fn conversation_owner(&self) -> ConversationOwner {
        if self.origin == Origin::Owner {
            return ConversationOwner::Machine;
        }
        // Whole: two names that begin alike are two people.
        match (&self.account, self.named.clone()) {
            (Some(account), user) => ConversationOwner::Key { name: account.name().to_owned(), user },
            (None, Some(user)) => ConversationOwner::User(user),
            (None, None) if self.is_local => ConversationOwner::Machine,
            (None, None) => ConversationOwner::Address(self.peer.to_string()),
        }
    }

    /// The client's name, where the body says that `user` asks. Where no name is trusted, it is the address, or the user id
    /// at the Unix socket. Requests of one client may continue from the state of each other's prompts.
    pub(crate) fn client(&self, user: Option<String>) -> String {
        if let Some(account) = &self.account {
            return account.name().to_owned();
        }
        self.user(user).unwrap_or_else(|| cut(self.peer.to_string()))
    }

    /// Who of the client asks: the key or the program, and the connection.
    pub(crate) fn within(&self) -> Vec<String> {
        self.within.clone()
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>();
        let connection = peer.map_or_else(String::new, |peer| format!("connection {}", peer.connection));
        let is_forwarded = FORWARDED.into_iter().any(|name| parts.headers.contains_key(name));
        let is_local = peer.is_some_and(Peer::is_local) && !is_forwarded;
        let peer = peer.map_or_else(|| "".into(), |peer| Arc::clone(&peer.name));
        let header = app.client_header.as_ref();
        let named = header.and_then(|name| parts.headers.get(name).map(|value| (name, value.as_bytes())));
        let named = named.filter(|(_, value)| !value.is_empty()).map(|(name, value)| said(name, value));
        let within = vec![program(&parts.headers, app.account.is_some()), connection];
        let (origin, account) = (app.surface.origin(), app.account.clone());
        Ok(Self { origin, peer, is_local, named, is_trusted: header.is_some(), within, account })
    }
}

/// The key that was sent, unless it is the client already, or else the program's name for itself.
fn program(headers: &HeaderMap, is_client_a_key: bool) -> String {
    let of = |name: HeaderName| {
        let value = headers.get(&name)?.as_bytes();
        (!value.is_empty()).then(|| cut(said(&name, value)))
    };
    let keys = KEYS.into_iter().filter(|_| !is_client_a_key);
    keys.chain([USER_AGENT]).find_map(of).unwrap_or_default()
}

/// A name that is not too long.
fn cut(mut name: String) -> String {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// A key is a secret: it is told from others, and never shown.
fn said(header: &HeaderName, value: &[u8]) -> String {
    if *header != AUTHORIZATION && !header.as_str().contains("key") {
        // What is no UTF-8 is Latin-1: a letter that is left out would make two names one.
        let text = std::str::from_utf8(value).map(str::to_owned);
        return text.unwrap_or_else(|_| value.iter().copied().map(char::from).collect());
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
    fn the_name_of_a_key_is_the_client_and_its_users_divide_what_it_has() {
        let of_key = |is_trusted| Asker {
            account: Some(Arc::new(Account::for_tests("ci", Some(3)))),
            within: vec!["curl".into(), "connection 1".into()],
            ..asker(None, is_trusted)
        };
        let signed = |asker: Asker| {
            let mut common = Common::new("demo");
            asker.sign(&mut common, Some("alice".into()));
            (common.client, common.weight, common.person, common.within)
        };
        let (client, weight, person, within) = signed(of_key(false));
        assert_eq!((client.as_str(), weight, person), ("ci", Some(3), None));
        assert_eq!(within, ["curl", "connection 1"]);
        let (client, _, person, within) = signed(of_key(true));
        assert_eq!((client.as_str(), person.as_deref()), ("ci", Some("ci alice")));
        assert_eq!(within, ["alice", "curl", "connection 1"]);
        let (client, weight, ..) = signed(asker(None, true));
        assert_eq!((client.as_str(), weight), ("alice", None));
    }

    #[test]
    fn conversations_are_a_keys_or_a_users_and_the_machines_only_from_this_machine() {
        let machine = Asker { is_local: true, ..asker(None, true) };
        assert_eq!(machine.conversation_owner(), ConversationOwner::Machine);
        let user = Asker { is_local: true, ..asker(Some("bob"), true) };
        assert_eq!(user.conversation_owner(), ConversationOwner::User("bob".into()));
        let far = asker(None, true);
        assert_eq!(far.conversation_owner(), ConversationOwner::Address("10.0.0.7".into()));
        let account = Some(Arc::new(Account::for_tests("ci", None)));
        let key = Asker { account: account.clone(), ..machine };
        let expected = ConversationOwner::Key { name: "ci".into(), user: None };
        assert_eq!(key.conversation_owner(), expected);
        let of_key = Asker { account, ..user };
        let expected = ConversationOwner::Key { name: "ci".into(), user: Some("bob".into()) };
        assert_eq!(of_key.conversation_owner(), expected);
        let long = |end: &str| asker(Some(&("x".repeat(NAME_BYTES) + end)), true).conversation_owner();
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn names_in_latin_1_are_told_apart() {
        let of = |value: &[u8]| said(&HeaderName::from_static("x-user"), value);
        assert_eq!((of(b"Ren\xe9"), of("René".as_bytes())), ("René".to_owned(), "René".to_owned()));
        assert_ne!(of(b"Ren\xe9"), of(b"Ren\xe8"));
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
        let of = |text: &str| Peer::of_address(text.parse().expect("address")).name;
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(&*of("::ffff:10.0.0.7"), "10.0.0.7");
    }

    #[test]
    fn within_an_address_keys_come_before_programs() {
        let headers = |pairs: &[(HeaderName, &str)]| {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("value"))).collect()
        };
        let agent = (USER_AGENT, "OpenAI/Python 1.0");
        let key = (AUTHORIZATION, "Bearer sk-1");
        assert_eq!(program(&headers(&[]), false), "");
        assert_eq!(program(&headers(std::slice::from_ref(&agent)), false), "OpenAI/Python 1.0");
        let both = headers(&[agent, key.clone()]);
        let named = program(&both, false);
        assert!(named.starts_with("key ") && !named.contains("sk-1"), "{named}");
        assert_eq!(named, program(&headers(&[key]), false));
        assert_eq!(program(&both, true), "OpenAI/Python 1.0", "the key is the client");
        assert!(program(&headers(&[(USER_AGENT, &"x".repeat(5_000))]), false).len() <= NAME_BYTES);
    }

    #[test]
    fn connections_of_one_address_differ() {
        let one = Peer::of_user(7);
        let other = Peer::of_user(7);
        assert_eq!(one.name, other.name);
        assert_ne!(one.connection, other.connection);
    }
}
