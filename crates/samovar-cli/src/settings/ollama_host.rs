//! `OLLAMA_HOST`: the address at which Ollama's programs look for its server, as they write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Environment;

/// Ollama's port.
const PORT: u16 = 11_434;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The address that the variable names; Ollama's usual one where it names none, or a machine by its name.
pub(super) fn read(environment: &Environment) -> SocketAddr {
    let named = environment.text("OLLAMA_HOST").and_then(|text| address(text.trim()));
    named.unwrap_or(SocketAddr::new(LOCALHOST, PORT))
}

fn address(text: &str) -> Option<SocketAddr> {
    let place = text.split_once("://").map_or(text, |(_, place)| place);
    let place = place.split('/').next().unwrap_or_default();
    if let Ok(address) = place.parse() {
        return Some(address);
    }
    if let Ok(ip) = place.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (host, port) =
        place.split_once(':').map_or((place, Some(PORT)), |(host, port)| (host, port.parse().ok()));
    let is_here = host.is_empty() || host.eq_ignore_ascii_case("localhost");
    Some(SocketAddr::new(LOCALHOST, port?)).filter(|_| is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_ollamas_programs_write_it() {
        let read = |text: &str| {
            let pairs = [("OLLAMA_HOST".into(), text.into())];
            read(&Environment::from_pairs(pairs)).to_string()
        };
        for (text, expected) in [
            ("", "127.0.0.1:11434"),
            ("0.0.0.0", "0.0.0.0:11434"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            (":8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            ("http://localhost", "127.0.0.1:11434"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:11434"),
            // Those of clients alone.
            ("https://models.example.org", "127.0.0.1:11434"),
            ("box.lan:8080", "127.0.0.1:11434"),
            (":99999", "127.0.0.1:11434"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
