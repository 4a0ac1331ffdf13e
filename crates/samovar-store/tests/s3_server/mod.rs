//! A real S3 server process: `moto_server`, from `SAMOVAR_TEST_MOTO` or the search path.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The bucket that there is.
pub(crate) const BUCKET: &str = "models";

/// A server of its own for each test, ended with it.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// A server with an empty bucket; `None` where there is no such program, and then the test says so. With
    /// `open_requests` only so many further ones are let through before keys are asked for.
    #[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub(crate) fn start(open_requests: Option<u32>) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut command = Command::new(program());
        command
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(count) = open_requests {
            // The making of the bucket is one.
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", (count + 1).to_string());
        }
        let Ok(child) = command.spawn() else {
            println!("skipped: no S3 server; install moto[server] and set SAMOVAR_TEST_MOTO");
            return None;
        };
        let server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the S3 server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server.request(&format!("/{BUCKET}"), &[]);
        Some(server)
    }

    /// Where it is asked.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Puts an object into the bucket.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.request(&format!("/{BUCKET}/{key}"), bytes);
    }

    fn request(&self, path: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        let (port, length) = (self.port, body.len());
        // The server takes whatever signature there is, but lets no request without one write a second time.
        let who = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {who}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[allow(clippy::disallowed_methods, reason = "where the server lies is known to the user who runs the tests")]
fn program() -> String {
    std::env::var("SAMOVAR_TEST_MOTO").unwrap_or_else(|_| "moto_server".to_owned())
}
