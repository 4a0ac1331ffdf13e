//! What holds for every route of the table: which names, pages and sites are kept out, what a wrong method is told, and that the
//! owner's routes are not on the port.

use samovar_server::ROUTES;

use crate::fixture::Fixture;
use crate::raw::{exchange, request, tcp, unix};

/// A path that comes to this route.
fn path_of(route: &samovar_server::Route) -> String {
    route.path.replace("{id}", "demo")
}

#[tokio::test]
async fn every_route_keeps_out_foreign_names_pages_and_sites() {
    let fixture = Fixture::new().await;
    let foreign = [
        ("host", "evil.example"),
        ("host", "localhost.evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ];
    for route in ROUTES {
        for (name, value) in foreign {
            let text = request(route.method, &path_of(route), &[(name, value)], "");
            let answer = exchange(tcp(&fixture).await, text).await;
            assert_eq!(
                answer.status, 403,
                "{} {} {name}: {value}: {}",
                route.method, route.path, answer.body
            );
            assert_eq!(answer.header("access-control-allow-origin"), None, "{}", route.path);
        }
        if route.method == "POST" {
            let text = request("POST", &path_of(route), &[("content-type", "text/plain")], "{}");
            let answer = exchange(tcp(&fixture).await, text).await;
            // Blobs are bytes of any type, and a stranger may send none.
            let expected = if route.path.starts_with("/api/blobs/") { 403 } else { 415 };
            assert_eq!(answer.status, expected, "{}: {}", route.path, answer.body);
        }
    }
    assert!(!fixture.handle.is_draining());
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let fixture = Fixture::new().await;
    for route in ROUTES {
        let same_path = ROUTES.iter().filter(|other| other.path == route.path);
        let methods: Vec<&str> = same_path.map(|other| other.method).collect();
        for wrong in ["PUT", "PATCH"].into_iter().filter(|wrong| !methods.contains(wrong)) {
            let answer =
                exchange(unix(&fixture.socket).await, request(wrong, &path_of(route), &[], "")).await;
            assert_eq!(answer.status, 405, "{wrong} {}: {}", route.path, answer.body);
            let allow = answer.header("allow").expect("the methods");
            for method in &methods {
                assert!(allow.split(',').any(|allowed| allowed.trim() == *method), "{}: {allow}", route.path);
            }
        }
    }
}

#[tokio::test]
async fn the_owners_routes_are_not_on_the_port_without_a_key() {
    let fixture = Fixture::new().await;
    let owners = || ROUTES.iter().filter(|route| route.is_owners);
    assert!(owners().count() > 15);
    for route in owners() {
        for method in [route.method, "PUT"] {
            let answer = exchange(tcp(&fixture).await, request(method, &path_of(route), &[], "{}")).await;
            assert!([401, 403, 404].contains(&answer.status), "{method} {}: {}", route.path, answer.status);
        }
    }
    assert!(!fixture.handle.is_draining());
}
