//! The loop around the view: events of the daemon, keys, signals and answers to orders go in; lines and orders come out.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::process::{Signal, kill_current_process_group};
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::{PinBody, UnloadBody, WarmBody, WarmEvent};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::board::Board;
use super::keys::{TopOrder, TopState, keys};
use super::mode::TopMode;
use super::screen::Screen;
use super::view::TopView;
use super::{decision_lines, unix_ms};
use crate::client::{Client, DaemonEvent, lost};
use crate::command::Context;
use crate::command::answer::ms;
use crate::ended::Ended;
use crate::home;

/// Ages grow this often while nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks for a daemon that is not there.
const RETRY: Duration = Duration::from_secs(1);
/// A remark stays for so many ticks.
const REMARK_TICKS: u32 = 8;
/// News that wait to be shown; their senders wait for room.
const NEWS: usize = 32;

/// What the tasks beside the loop tell it.
enum TopNews {
    Event(DaemonEvent),
    /// The daemon tells nothing, and why.
    Silence(String),
    /// What became of an order.
    Remark(String),
    /// The decisions about a model.
    Decisions(String, Vec<String>),
}

/// All that is shown.
#[derive(Default)]
struct TopLoop {
    board: Board,
    state: TopState,
    silence: Option<String>,
    remark: String,
    remark_ticks: u32,
}

/// Shows the screen until the person leaves.
///
/// # Errors
/// `Interrupted` by a signal; `Internal` when the terminal cannot be used.
pub(super) async fn run(context: &Context) -> Result<(), Ended> {
    // They are heard before the terminal is changed.
    let mut terminated = heard(SignalKind::terminate())?;
    let mut hung_up = heard(SignalKind::hangup())?;
    let mut interrupted = heard(SignalKind::interrupt())?;
    let mut quitted = heard(SignalKind::quit())?;
    let mut resized = heard(SignalKind::window_change())?;
    let mut continued = heard(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let mut screen =
        Screen::take(owned(input.as_fd())?, owned(output.as_fd())?, context.report.colours_stdout())?;
    screen.give_back_on_panic()?;
    let client = context.client();
    let (sender, mut news) = mpsc::channel(NEWS);
    tokio::spawn(listen(client.clone(), sender.clone()));
    let mut shown = TopLoop { silence: Some("asking the daemon".to_owned()), ..TopLoop::default() };
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let size = screen.size();
        screen.paint(&shown.view().screen(size.0, size.1), size)?;
        tokio::select! {
            biased;
            _ = terminated.recv() => return Err(Ended::Interrupted),
            _ = hung_up.recv() => return Err(Ended::Interrupted),
            _ = interrupted.recv() => return Err(Ended::Interrupted),
            _ = quitted.recv() => return Err(Ended::Interrupted),
            _ = resized.recv() => screen.forget(),
            _ = continued.recv() => screen.enter()?,
            pressed = screen.pressed() => {
                let Some(bytes) = pressed? else { return Ok(()) };
                for key in keys(&bytes) {
                    match shown.state.press(key, &shown.board) {
                        None => {}
                        Some(TopOrder::Quit) => return Ok(()),
                        Some(TopOrder::Repaint) => screen.forget(),
                        Some(TopOrder::Suspend) => {
                            screen.leave();
                            // Does nothing where no shell could continue us.
                            kill_current_process_group(Signal::TSTP).ok();
                            screen.enter()?;
                        }
                        Some(order) => shown.order(&client, order, &sender),
                    }
                }
            }
            Some(told) = news.recv() => shown.take(told),
            _ = ticks.tick() => shown.tick(),
        }
    }
}

impl TopLoop {
    fn view(&self) -> TopView<'_> {
        TopView {
            board: &self.board,
            now_unix_ms: unix_ms(),
            silence: self.silence.as_deref(),
            state: &self.state,
            remark: &self.remark,
        }
    }

    fn take(&mut self, told: TopNews) {
        match told {
            TopNews::Event(event) => {
                self.board.take(&event, unix_ms());
                self.silence = None;
            }
            TopNews::Silence(why) => self.silence = Some(why),
            TopNews::Remark(remark) => self.remark(remark),
            TopNews::Decisions(model, decisions) => {
                if let TopMode::Why { name, lines, .. } = &mut self.state.mode
                    && *name == model
                {
                    *lines = decisions;
                }
            }
        }
    }

    fn remark(&mut self, remark: String) {
        (self.remark, self.remark_ticks) = (remark, REMARK_TICKS);
    }

    fn tick(&mut self) {
        self.remark_ticks = self.remark_ticks.saturating_sub(1);
        if self.remark_ticks == 0 {
            self.remark.clear();
        }
    }

    /// Has an order carried out beside the loop.
    fn order(&mut self, client: &Client, order: TopOrder, news: &mpsc::Sender<TopNews>) {
        if let TopOrder::Warm(name) = &order {
            self.remark(format!("loading {name}"));
        }
        let (client, news) = (client.clone(), news.clone());
        tokio::spawn(async move {
            let told = carry_out(&client, order).await;
            // Where the loop has ended, nothing is to be told.
            news.send(told.unwrap_or_else(|failure| TopNews::Remark(failure.message))).await.ok();
        });
    }
}

/// Passes the daemon's events on, of one daemon after another.
async fn listen(client: Client, news: mpsc::Sender<TopNews>) {
    let mut last_id = String::new();
    loop {
        let why = match pass_on(&client, &mut last_id, &news).await {
            Ok(()) => "the daemon has stopped; waiting for one".to_owned(),
            Err(failure) => failure.message,
        };
        if news.send(TopNews::Silence(why)).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Passes the events of one daemon on, until it leaves.
async fn pass_on(client: &Client, last_id: &mut String, news: &mpsc::Sender<TopNews>) -> Result<(), Failure> {
    let Some(connection) = client.connect().await? else {
        return Err(Failure::new(ErrorKind::Unavailable, "no daemon is running; waiting for one"));
    };
    let mut events = connection.events(Some(last_id.as_str()).filter(|id| !id.is_empty())).await?;
    while let Some(event) = events.next().await? {
        if event.name == "leaving" {
            return Ok(());
        }
        last_id.clone_from(&event.id);
        if news.send(TopNews::Event(event)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells the daemon to do something, and what became of it.
async fn carry_out(client: &Client, order: TopOrder) -> Result<TopNews, Failure> {
    let connection = client.connect_or_fail().await?;
    let remark = match order {
        TopOrder::Warm(name) => {
            let mut events = connection.warm(&WarmBody { model: name.clone(), pin: false }).await?;
            loop {
                match events.next().await? {
                    Some(WarmEvent::Waiting(_)) => {}
                    Some(WarmEvent::Done { took_ms }) => break format!("{name} is ready ({})", ms(took_ms)),
                    Some(WarmEvent::Failed(failure)) => return Err(failure),
                    None => return Err(lost("it ended before the model was ready")),
                }
            }
        }
        TopOrder::Unload(name) => {
            let unloaded = connection.unload(&UnloadBody { model: Some(name.clone()), all: false }).await?;
            format!("{name}: {} to unload", counted(unloaded.instances, "instance"))
        }
        TopOrder::Pin(name, pinned) => {
            connection.pin(&PinBody { model: name.clone(), pinned }).await?;
            format!("{name} is {}", if pinned { "pinned" } else { "no longer pinned" })
        }
        TopOrder::Why(name) => {
            let lines = decision_lines(&connection.why(&name).await?)?;
            return Ok(TopNews::Decisions(name, lines));
        }
        // The loop does these itself.
        TopOrder::Quit | TopOrder::Suspend | TopOrder::Repaint => String::new(),
    };
    Ok(TopNews::Remark(remark))
}

fn heard(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("signals cannot be heard: {}", home::plain(&error)))
    })
}

fn owned(terminal: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, Failure> {
    terminal.try_clone_to_owned().map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("the terminal cannot be used: {}", home::plain(&error)))
    })
}
