//! Others on the machine: what they could change is refused, and nothing is said to who listens in our place.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::home::Home;

/// A socket on which another user listens: the kernel notes who called `listen`.
fn listen_as(socket: &Path, uid: u32) -> OwnedFd {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("socket");
    rustix::net::bind(&fd, &SocketAddrUnix::new(socket).expect("address")).expect("binds");
    std::thread::spawn(move || {
        let uid = rustix::process::Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("becomes another user");
        rustix::net::listen(&fd, 4).expect("listens");
        fd
    })
    .join()
    .expect("thread")
}

#[test]
fn a_prompt_is_never_sent_to_another_users_socket() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can listen as another user");
        return;
    }
    let home = Home::new();
    fs_err::create_dir(home.path().join("run")).expect("directory");
    let listener = listen_as(&home.socket(), 65_534);
    for line in [&["run", "secret"][..], &["chat"], &["stats"], &["serve", "--listen", "127.0.0.1:0"]] {
        let done = home.run_with_input(line, b"secret\n");
        assert_ne!(done.code, 0, "{line:?}: {done:?}");
        assert!(done.stderr.contains("65534") || line[0] == "serve", "{line:?}: {done:?}");
        assert!(done.stderr.contains("hint: "), "{line:?}: {done:?}");
    }
    rustix::fs::fcntl_setfl(&listener, rustix::fs::OFlags::NONBLOCK).expect("mode");
    while let Ok(connection) = rustix::net::accept(&listener) {
        let mut buffer = [0; 64];
        let (bytes, _) =
            rustix::net::recv(&connection, &mut buffer[..], rustix::net::RecvFlags::empty()).expect("end");
        assert_eq!(bytes, 0, "not a byte was said");
    }
}

#[test]
fn a_home_that_others_may_write_is_refused_and_only_said_by_who_looks() {
    let home = Home::new();
    let with_mode = |path: &Path, mode| {
        fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    };
    fs_err::create_dir(home.path().join("run")).expect("directory");
    with_mode(&home.path().join("run"), 0o700);
    fs_err::create_dir(home.path().join("cache")).expect("directory");
    with_mode(&home.path().join("cache"), 0o700);
    for place in [home.path().to_owned(), home.path().join("run"), home.path().join("cache")] {
        with_mode(&place, 0o777);
        for line in [&["run", "-n", "2", "hi"][..], &["serve", "--listen", "127.0.0.1:0"], &["pull", "demo"]]
        {
            let done = home.run(line);
            assert_ne!(done.code, 0, "{line:?}: {done:?}");
            assert!(done.stderr.contains("other users may write into"), "{line:?}: {done:?}");
            assert!(done.stderr.contains("chmod go-w"), "{line:?}: {done:?}");
        }
        let looked = home.run(&["list"]);
        assert_eq!(looked.code, 0, "{looked:?}");
        assert!(looked.stderr.starts_with("note: other users may write into"), "{looked:?}");
        let doctor = home.run(&["doctor", "--quick"]);
        assert!(doctor.stdout.contains("other users may write into"), "{doctor:?}");
        with_mode(&place, 0o700);
    }
    assert!(home.daemon_pid().is_none(), "no daemon was started");
    assert_eq!(home.run(&["list"]).stderr, "");
    let named = home.path().join("named.toml");
    fs_err::write(&named, "").expect("file");
    with_mode(&named, 0o666);
    let done = home.run(&["--config", named.to_str().expect("path"), "run", "-n", "2", "hi"]);
    assert_eq!(done.code, 77, "{done:?}");
    assert!(done.stderr.contains("other users may write the file"), "{done:?}");
}

/// Tokens that the answer says were cached, for a client of this name.
fn cached(home: &Home, client: &str, text: &str) -> u64 {
    use std::io::{Read, Write};
    let body = serde_json::json!({ "model": "demo", "max_tokens": 1, "temperature": 0,
        "messages": [{ "role": "user", "content": text }] })
    .to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).expect("connects");
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-client: {client}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a figure")
}

#[test]
fn nobody_learns_another_clients_prompt_from_figures() {
    const SECRET: &str = "The password of my bank account is tango seven lantern";
    const GUESS: &str = "The password of my bank account is tango";
    for sharing in [None, Some("all"), Some("client")] {
        let mut home = Home::new().with_config("[server]\nclient_header = 'x-client'\n");
        if let Some(sharing) = sharing {
            home = home.with_variable("SAMOVAR_POOL_SHARE_PREFIXES", sharing);
        }
        assert_eq!(home.run(&["warm", "demo"]).code, 0);
        assert_eq!(cached(&home, "victim", SECRET), 0);
        assert_eq!(cached(&home, "attacker", GUESS), 0, "{sharing:?}");
        assert!(cached(&home, "victim", SECRET) > 8, "{sharing:?}");
        assert!(cached(&home, "attacker", GUESS) > 4, "{sharing:?}: its own it is told");
    }
}
