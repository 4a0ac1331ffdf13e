//! Lies about where a file is.

use samovar_core::ErrorKind;
use samovar_testhub::{Door, Lie, Route};

use crate::ground::{Ground, SIZES, SMALL, TOKEN};

#[tokio::test]
async fn a_file_at_another_host_comes_without_the_token() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        let sent = ground.tell(Lie::RedirectElsewhere).comes().await;
        assert_eq!((sent.body_bytes, sent.requests_for(Route::Cdn)), (size, 0));
        assert!(sent.requests_for(Route::Elsewhere) > 0);
        ground.recovers().await;
    }
}

#[tokio::test]
async fn wrong_bytes_at_another_host_are_refused() {
    let ground = Ground::of(SMALL).await;
    ground.tell(Lie::RedirectElsewhere).tell(Lie::WrongBytes).refused(ErrorKind::Upstream).await;
    ground.recovers().await;
}

#[tokio::test]
async fn redirects_in_a_circle_are_given_up() {
    let ground = Ground::of(SMALL).await;
    ground.tell(Lie::RedirectLoop).refused(ErrorKind::Upstream).await;
    assert!(ground.hub.sent().requests_for(Route::Resolve) <= 10);
    ground.recovers().await;
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
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::RedirectTo(address.to_owned())).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn what_an_address_holds_does_not_become_a_password() {
    let ground = Ground::of(SMALL).await;
    let elsewhere = ground.hub.address(Door::Elsewhere);
    ground.tell(Lie::RedirectTo(format!("http://user:{TOKEN}@{elsewhere}/nothing")));
    let error = ground.ensure().await.unwrap_err();
    assert!(!format!("{error} {:?}", error.hint()).contains(TOKEN), "{error}");
    assert!(ground.hub.requests().iter().any(|seen| seen.door == Door::Elsewhere));
    ground.recovers().await;
}

#[tokio::test]
async fn an_api_that_moved_gets_no_token() {
    for route in [Route::Info, Route::Tree] {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::RedirectElsewhere.at(route));
        // Whether it may move at all is the store's affair; the token may not.
        let _ = ground.ensure().await;
        ground.is_sound().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn addresses_that_expire_in_the_middle_are_asked_for_anew() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::Cut { after: 100_000 }.once());
        // Those that were given out before the first byte; the store must come back for another.
        ground.hub.hold_after(&ground.repo.key(crate::ground::MODEL), 100_000);
        let expire = async {
            assert!(ground.hub.held(&ground.repo.key(crate::ground::MODEL)).await);
            ground.tell(Lie::ExpireUrls);
            ground.hub.release_all();
        };
        let (outcome, ()) = tokio::join!(ground.ensure(), expire);
        outcome.unwrap();
        assert_eq!(ground.sent(), size);
        ground.is_sound().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_cdn_that_refuses_all_addresses_is_given_up() {
    let ground = Ground::of(SMALL).await;
    let refuse = Lie::Status { status: 403, retry_after: None };
    ground.tell(refuse.at(Route::Cdn)).refused(ErrorKind::Unavailable).await;
    assert!(ground.hub.sent().requests_for(Route::Cdn) <= 16);
    ground.recovers().await;
}
