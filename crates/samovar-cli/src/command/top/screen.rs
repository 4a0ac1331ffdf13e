//! The terminal while the screen is shown: raw keys, a second page, no cursor. It is given back as it was, however this process
//! leaves: dropped, by a panic, by a signal that ends it, or for the time of a suspension.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use samovar_core::{ErrorKind, Failure};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::line::ScreenLine;

/// The second page, without a cursor and without wrapping.
const TAKE: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const GIVE_BACK: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What is written between them is shown at once by terminals that can.
const AT_ONCE: [&str; 2] = ["\x1b[?2026h", "\x1b[?2026l"];

/// A terminal that shows a screen.
pub(super) struct Screen {
    input: AsyncFd<OwnedFd>,
    output: OwnedFd,
    before: Termios,
    is_coloured: bool,
    /// What stands in each line.
    painted: Vec<String>,
    size: (usize, usize),
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// `Internal` when it cannot be used.
    pub(super) fn take(input: OwnedFd, output: OwnedFd, is_coloured: bool) -> Result<Self, Failure> {
        let before = tcgetattr(&input).map_err(unusable)?;
        #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor is what it asks for")]
        let input = AsyncFd::with_interest(input, Interest::READABLE).map_err(|error| {
            Failure::new(ErrorKind::Internal, format!("the terminal cannot be read: {error}"))
        })?;
        let mut screen = Self { input, output, before, is_coloured, painted: Vec::new(), size: (0, 0) };
        screen.enter()?;
        Ok(screen)
    }

    /// Has a panic's message appear on the page that stays.
    ///
    /// # Errors
    /// `Internal` when there are no file descriptors left.
    pub(super) fn give_back_on_panic(&self) -> Result<(), Failure> {
        let clone = |fd: &OwnedFd| {
            fd.try_clone().map_err(|error| unusable(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        };
        let (input, output, before) =
            (clone(self.input.get_ref())?, clone(&self.output)?, self.before.clone());
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back(&input, &output, &before);
            usual(panic);
        }));
        Ok(())
    }

    /// Takes the terminal, also after it was given back; all lines are written next.
    ///
    /// # Errors
    /// `Internal` when it has gone.
    pub(super) fn enter(&mut self) -> Result<(), Failure> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // A read takes what is there and never waits.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(self.input.get_ref(), OptionalActions::Drain, &raw).map_err(unusable)?;
        self.painted.clear();
        write_all(&self.output, TAKE.as_bytes()).map_err(unusable)
    }

    /// Gives the terminal back.
    pub(super) fn leave(&self) {
        give_back(self.input.get_ref(), &self.output, &self.before);
    }

    /// Columns and lines; a terminal that does not tell them has 80 and 24.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(&self.output).map_or((0, 0), |size| (size.ws_col, size.ws_row));
        if size.0 == 0 || size.1 == 0 { (80, 24) } else { (usize::from(size.0), usize::from(size.1)) }
    }

    /// Has all lines written next.
    pub(super) fn forget(&mut self) {
        self.painted.clear();
    }

    /// Shows these lines: writes those that differ from what stands there.
    ///
    /// # Errors
    /// `Internal` when the terminal has gone.
    pub(super) fn paint(&mut self, lines: &[ScreenLine], size: (usize, usize)) -> Result<(), Failure> {
        let changes = self.changes(lines, size);
        if changes.is_empty() {
            return Ok(());
        }
        write_all(&self.output, changes.as_bytes()).map_err(unusable)
    }

    fn changes(&mut self, lines: &[ScreenLine], size: (usize, usize)) -> String {
        use std::fmt::Write;
        let mut changed = String::new();
        if self.painted.is_empty() || self.size != size {
            changed.push_str("\x1b[2J");
            self.painted.clear();
        }
        self.size = size;
        self.painted.resize(lines.len(), String::new());
        for (number, (line, before)) in lines.iter().zip(&mut self.painted).enumerate() {
            let now = line.painted(self.is_coloured);
            if now != *before {
                write!(changed, "\x1b[{};1H{now}\x1b[K", number + 1)
                    .expect("invariant: writing to a String succeeds");
                *before = now;
            }
        }
        if changed.is_empty() {
            return changed;
        }
        let [begin, end] = AT_ONCE;
        format!("{begin}{changed}{end}")
    }

    /// Bytes of the keys that were pressed; `None` when the terminal has gone.
    ///
    /// # Errors
    /// `Internal` when it cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe: no key is lost.
    pub(super) async fn pressed(&self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let mut ready = self.input.readable().await.map_err(|error| {
                Failure::new(ErrorKind::Internal, format!("the terminal cannot be read: {error}"))
            })?;
            let mut bytes = [0_u8; 256];
            match rustix::io::read(self.input.get_ref(), &mut bytes) {
                Ok(0) if ready.ready().is_read_closed() => return Ok(None),
                Ok(0) | Err(Errno::AGAIN) => ready.clear_ready(),
                Ok(length) => return Ok(Some(bytes[..length].to_vec())),
                Err(Errno::INTR) => {}
                Err(Errno::IO) => return Ok(None),
                Err(error) => return Err(unusable(error)),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Gives the terminal back as it was. A terminal that has gone needs nothing.
fn give_back(input: &OwnedFd, output: &OwnedFd, before: &Termios) {
    write_all(output, GIVE_BACK.as_bytes()).ok();
    tcsetattr(input, OptionalActions::Drain, before).ok();
}

fn write_all(output: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(output.as_fd(), bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unusable(error: Errno) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the terminal cannot be used: {error}"))
        .with_hint("`samovar top --once` prints a table and needs no terminal")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    use super::super::line::Tone;
    use super::*;

    /// Both sides of a terminal, ours first.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let user = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
        (ours, user)
    }

    fn screen(user: &OwnedFd) -> Screen {
        let clone = || user.try_clone().expect("a descriptor");
        Screen::take(clone(), clone(), false).expect("a screen")
    }

    #[tokio::test]
    async fn a_panic_gives_the_terminal_back() {
        let (_ours, user) = terminal();
        let modes = || tcgetattr(&user).expect("modes").local_modes;
        let before = modes();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _screen = screen(&user);
            assert!(!modes().contains(LocalModes::ICANON), "it is taken");
            panic!("on purpose");
        }));
        assert!(outcome.is_err() && before.contains(LocalModes::ICANON));
        assert_eq!(modes(), before);
    }

    #[tokio::test]
    async fn only_lines_that_changed_are_written() {
        let (_ours, user) = terminal();
        let mut screen = screen(&user);
        let lines = |second: &str| [ScreenLine::of(Tone::Head, "one"), ScreenLine::of(Tone::Plain, second)];
        let first = screen.changes(&lines("two"), (80, 2));
        assert!(first.contains("\x1b[1;1Hone\x1b[K") && first.contains("\x1b[2;1Htwo\x1b[K"), "{first:?}");
        assert_eq!(screen.changes(&lines("two"), (80, 2)), "");
        assert_eq!(screen.changes(&lines("2"), (80, 2)), "\x1b[?2026h\x1b[2;1H2\x1b[K\x1b[?2026l");
        assert!(screen.changes(&lines("2"), (40, 2)).contains("one"), "another size");
        screen.forget();
        assert!(screen.changes(&lines("2"), (40, 2)).contains("one"), "after a suspension");
    }
}
