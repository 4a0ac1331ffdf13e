//! `samovar top` on a terminal and in a pipe.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};

use crate::home::{Home, Running, await_some};

/// The program on a terminal of its own, as a shell would start it.
struct Terminal {
    top: Running,
    keyboard: OwnedFd,
    /// The program's side.
    user: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(home: &Home, columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let user = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
        set_size(&user, columns, rows);
        let stdio = || user.try_clone().expect("a descriptor");
        let mut command = home.command(&["top"]);
        command.stdin(stdio()).stdout(stdio()).env("TERM", "xterm").env_remove("NO_COLOR").process_group(0);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (screen, sink) = (ours.try_clone().expect("a descriptor"), Arc::clone(&shown));
        // Ends when no process has the program's side.
        std::thread::spawn(move || {
            let mut bytes = [0_u8; 4096];
            while let Ok(length @ 1..) = rustix::io::read(&screen, &mut bytes) {
                sink.lock().expect("no panic").extend_from_slice(&bytes[..length]);
            }
        });
        Self { top: Running { child: command.spawn().expect("starts") }, keyboard: ours, user, shown }
    }

    /// Waits until this is written.
    #[track_caller]
    fn await_text(&self, text: &str) {
        self.await_texts(&[text]);
    }

    /// Waits until all of these are written, in any order, and forgets what was written until then.
    #[track_caller]
    fn await_texts(&self, texts: &[&str]) {
        await_some(|| {
            let mut shown = self.shown.lock().expect("no panic");
            let end = |text: &&str| {
                let found = shown.windows(text.len()).position(|window| window == text.as_bytes());
                found.map(|at| at + text.len())
            };
            let ends: Vec<usize> = texts.iter().map(end).collect::<Option<_>>()?;
            shown.drain(..ends.into_iter().max()?);
            Some(())
        });
    }

    fn types(&self, keys: &[u8]) {
        assert_eq!(rustix::io::write(&self.keyboard, keys).expect("types"), keys.len());
    }

    fn modes(&self) -> (InputModes, OutputModes, LocalModes) {
        let modes = tcgetattr(&self.user).expect("modes");
        (modes.input_modes, modes.output_modes, modes.local_modes)
    }

    fn is_raw(&self) -> bool {
        !self.modes().2.contains(LocalModes::ICANON)
    }

    /// The letter that the kernel has for the process's state.
    fn state(&self) -> Option<char> {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", self.top.child.id())).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    fn code(&mut self) -> Option<i32> {
        self.top.child.wait().expect("ends").code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        kill_process(Pid::from_child(&self.top.child), Signal::KILL).ok();
        self.top.child.wait().ok();
    }
}

fn set_size(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}

#[test]
fn a_terminal_shows_the_daemon_obeys_keys_and_is_given_back() {
    let home = Home::new();
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let mut terminal = Terminal::open(&home, 80, 24);
    terminal.await_text("\x1b[24;1H");
    terminal.await_text("demo");
    assert!(terminal.is_raw());
    terminal.types(b"y");
    terminal.await_text("WHY demo");
    terminal.await_text("began to load");
    terminal.types(b"\x1b");
    terminal.await_text("MODEL");
    terminal.types(b"p");
    // The remark, and the model's row.
    terminal.await_texts(&["demo is pinned", "  pinned"]);
    terminal.types(b"u");
    terminal.await_text("it is pinned; ");
    terminal.types(b"y");
    terminal.await_text("1 instance to unload");
    set_size(&terminal.user, 40, 12);
    terminal.top.signal(Signal::WINCH);
    terminal.await_text("\x1b[12;1H");
    terminal.types(b"q");
    assert_eq!(terminal.code(), Some(0));
    assert!(!terminal.is_raw());
    terminal.await_text("\x1b[?1049l");
}

#[test]
fn signals_and_a_suspension_give_the_terminal_back() {
    let home = Home::new();
    let mut terminal = Terminal::open(&home, 80, 24);
    let before = {
        terminal.await_text("no daemon is running");
        terminal.types(b"\x1a");
        await_some(|| (terminal.state() == Some('T')).then_some(()));
        terminal.modes()
    };
    assert!(!terminal.is_raw());
    terminal.await_text("\x1b[?1049l");
    terminal.top.signal(Signal::CONT);
    terminal.await_text("\x1b[?1049h");
    terminal.await_text("no daemon is running");
    assert!(terminal.is_raw());
    // Ctrl-C is a key there; the others are signals.
    terminal.top.signal(Signal::TERM);
    assert_eq!(terminal.code(), Some(130));
    assert_eq!(terminal.modes(), before);
    for (signal, keys) in [(Some(Signal::HUP), &b""[..]), (None, &b"\x03"[..])] {
        let mut terminal = Terminal::open(&home, 80, 24);
        let before = terminal.modes();
        terminal.await_text("no daemon is running");
        if let Some(signal) = signal {
            terminal.top.signal(signal);
        }
        terminal.types(keys);
        assert_eq!(terminal.code(), Some(if signal.is_some() { 130 } else { 0 }));
        assert_eq!(terminal.modes(), before);
    }
}

#[test]
fn a_daemon_may_go_and_another_one_come() {
    let home = Home::new();
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let mut terminal = Terminal::open(&home, 80, 24);
    terminal.await_text(&format!("process {}", home.daemon_pid().expect("a daemon")));
    assert_eq!(home.run(&["shutdown", "--grace", "0s"]).code, 0);
    terminal.await_text("waiting for one");
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    terminal.await_text(&format!("process {}", home.daemon_pid().expect("a daemon")));
    terminal.types(b"q");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn in_a_pipe_there_is_one_table() {
    let home = Home::new();
    let none = home.run(&["top"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    assert!(none.stderr.contains("no daemon is running"), "{none:?}");
    assert_eq!(home.run(&["top", "--json"]).json()["daemon"], serde_json::Value::Null);
    assert!(!home.socket().exists(), "it starts none");
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let table = home.run(&["top"]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("\nMODEL ") && table.stdout.contains(" demo "), "{table:?}");
    assert!(!table.stdout.contains('\x1b'), "{table:?}");
    let snapshot = home.run(&["top", "--json"]).json();
    assert_eq!(snapshot["daemon"]["pid"], home.daemon_pid().expect("a daemon"));
}
