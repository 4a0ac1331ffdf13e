//! Lies about where a file is.

use samovar_core::ErrorKind;
use samovar_testhub::{BadAnswer, Listener, Route};

use super::fixture::{Fixture, SIZES, SMALL, TOKEN};

#[tokio::test]
async fn a_file_at_another_host_comes_without_the_token() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        let sent = fixture.tell(BadAnswer::RedirectElsewhere).comes().await;
        assert_eq!((sent.body_bytes, sent.requests_for(Route::Cdn)), (size, 0));
        assert!(sent.requests_for(Route::Elsewhere) > 0);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn wrong_bytes_at_another_host_are_refused() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(BadAnswer::RedirectElsewhere).tell(BadAnswer::WrongBytes).refused(ErrorKind::Upstream).await;
    fixture.recovers().await;
}

#[tokio::test]
async fn redirects_in_a_circle_are_given_up() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(BadAnswer::RedirectLoop).refused(ErrorKind::Upstream).await;
    assert!(fixture.hub.sent().requests_for(Route::Resolve) <= 10);
    fixture.recovers().await;
}

#[tokio::test]
async fn redirects_to_what_is_no_public_web_server_are_refused() {
    for address in [
        "file:///etc/hostname",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "data:text/plain,GGUF",
        "unix:///run/x.sock",
        "http://169.254.169.254/latest/meta-data/",
        "http://192.0.2.1/x",
        "http://",
        "//",
        "",
    ] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::RedirectTo(address.to_owned())).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn what_an_address_holds_does_not_become_a_password() {
    let fixture = Fixture::of(SMALL).await;
    let elsewhere = fixture.hub.address(Listener::Elsewhere);
    fixture.tell(BadAnswer::RedirectTo(format!("http://user:{TOKEN}@{elsewhere}/nothing")));
    let error = fixture.ensure().await.unwrap_err();
    assert!(!format!("{error} {:?}", error.hint()).contains(TOKEN), "{error}");
    assert!(fixture.hub.requests().iter().any(|seen| seen.listener == Listener::Elsewhere));
    fixture.recovers().await;
}

#[tokio::test]
async fn an_api_that_moved_gets_no_token() {
    for route in [Route::Info, Route::Tree] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::RedirectElsewhere.at(route));
        // Whether it may move at all is the store's affair; the token may not.
        let _ = fixture.ensure().await;
        fixture.is_sound().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn addresses_that_expire_in_the_middle_are_asked_for_anew() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::Cut { after: 100_000 }.once());
        // Those that were given out before the first byte; the store must come back for another.
        fixture.hub.hold_after(&fixture.repo.key(super::fixture::MODEL), 100_000);
        let expire = async {
            assert!(fixture.hub.held(&fixture.repo.key(super::fixture::MODEL)).await);
            fixture.tell(BadAnswer::ExpireUrls);
            fixture.hub.release_all();
        };
        let (outcome, ()) = tokio::join!(fixture.ensure(), expire);
        outcome.unwrap();
        assert_eq!(fixture.sent(), size);
        fixture.is_sound().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_cdn_that_refuses_all_addresses_is_given_up() {
    let fixture = Fixture::of(SMALL).await;
    let refuse = BadAnswer::Status { status: 403, retry_after: None };
    fixture.tell(refuse.at(Route::Cdn)).refused(ErrorKind::Unavailable).await;
    assert!(fixture.hub.sent().requests_for(Route::Cdn) <= 16);
    fixture.recovers().await;
}
