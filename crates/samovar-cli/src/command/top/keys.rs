//! Keys that were pressed, from the bytes that a terminal sends, and what they ask for.

use super::board::{Board, is_in_memory};
use super::mode::TopMode;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PressedKey {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    /// Ctrl and this letter.
    Ctrl(char),
    Char(char),
}

/// What a key asks for beyond what is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopOrder {
    Quit,
    /// Stop this process, as Ctrl-Z does.
    Suspend,
    /// Paint everything again.
    Repaint,
    Warm(String),
    Unload(String),
    /// Pin it, or let it go.
    Pin(String, bool),
    Why(String),
}

/// The keys that these bytes mean; sequences of keys that are not known mean none.
pub(super) fn keys(mut bytes: &[u8]) -> Vec<PressedKey> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        keys.extend(match first {
            0x1b => match rest.split_first() {
                Some((b'[' | b'O', rest)) => {
                    // Parameters, then the letter that ends a sequence.
                    let length = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
                    let (sequence, after) = rest.split_at(length.map_or(rest.len(), |length| length + 1));
                    bytes = after;
                    special(sequence)
                }
                // Alt and a key, in one piece.
                Some((0x20..=0x7e, after)) => {
                    bytes = after;
                    None
                }
                _ => Some(PressedKey::Escape),
            },
            b'\r' | b'\n' => Some(PressedKey::Enter),
            0x01..=0x1a => Some(PressedKey::Ctrl(char::from(first + 0x60))),
            0x20..=0x7e => Some(PressedKey::Char(char::from(*first))),
            _ => None,
        });
    }
    keys
}

fn special(sequence: &[u8]) -> Option<PressedKey> {
    Some(match sequence {
        b"A" => PressedKey::Up,
        b"B" => PressedKey::Down,
        b"5~" => PressedKey::PageUp,
        b"6~" => PressedKey::PageDown,
        b"H" | b"1~" | b"7~" => PressedKey::Home,
        b"F" | b"4~" | b"8~" => PressedKey::End,
        _ => return None,
    })
}

/// What the person looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopState {
    pub(super) mode: TopMode,
    /// The key of the selected model.
    pub(super) selected: Option<String>,
}

impl TopState {
    /// The selected model's place among those of the board; the first one where none, or one that has gone, was selected.
    pub(super) fn place(&self, board: &Board) -> usize {
        let models = board.models();
        let place = models.iter().position(|(key, _)| Some(*key) == self.selected.as_deref());
        place.unwrap_or(0)
    }

    /// Takes in a key.
    pub(super) fn press(&mut self, key: PressedKey, board: &Board) -> Option<TopOrder> {
        match key {
            PressedKey::Ctrl('c') => return Some(TopOrder::Quit),
            PressedKey::Ctrl('z') => return Some(TopOrder::Suspend),
            PressedKey::Ctrl('l') => return Some(TopOrder::Repaint),
            _ => {}
        }
        match &mut self.mode {
            TopMode::Board => self.press_on_board(key, board),
            TopMode::Confirm { name, .. } => {
                let name = std::mem::take(name);
                self.mode = TopMode::Board;
                (key == PressedKey::Char('y')).then_some(TopOrder::Unload(name))
            }
            TopMode::Why { skipped, .. } => {
                match key {
                    PressedKey::Up | PressedKey::Char('k') => *skipped = skipped.saturating_sub(1),
                    PressedKey::Down | PressedKey::Char('j') => *skipped += 1,
                    PressedKey::PageUp => *skipped = skipped.saturating_sub(10),
                    PressedKey::PageDown => *skipped += 10,
                    PressedKey::Home => *skipped = 0,
                    _ => self.mode = TopMode::Board,
                }
                None
            }
            TopMode::Help => {
                self.mode = TopMode::Board;
                None
            }
        }
    }

    fn press_on_board(&mut self, key: PressedKey, board: &Board) -> Option<TopOrder> {
        let models = board.models();
        let last = models.len().saturating_sub(1);
        let place = self.place(board);
        let go_to = match key {
            // Not Escape: a slow line may bring the sequence of an arrow in two parts, of which it is the first.
            PressedKey::Char('q') => return Some(TopOrder::Quit),
            PressedKey::Char('?' | 'h') => {
                self.mode = TopMode::Help;
                return None;
            }
            PressedKey::Up | PressedKey::Char('k') => Some(place.saturating_sub(1)),
            PressedKey::Down | PressedKey::Char('j') => Some((place + 1).min(last)),
            PressedKey::PageUp => Some(place.saturating_sub(10)),
            PressedKey::PageDown => Some((place + 10).min(last)),
            PressedKey::Home | PressedKey::Char('g') => Some(0),
            PressedKey::End | PressedKey::Char('G') => Some(last),
            _ => None,
        };
        let (key_of, model) = *models.get(go_to.unwrap_or(place))?;
        // A model stays selected when others come and go.
        self.selected = Some(key_of.to_owned());
        let name = model.text("name").to_owned();
        match key {
            PressedKey::Char('w') => Some(TopOrder::Warm(name)),
            PressedKey::Char('u' | 's') if !is_in_memory(model) => None,
            PressedKey::Char('u' | 's') => {
                let requests = model.number("busy_slots") + model.number("queued");
                let is_pinned = model.is("is_pinned");
                if requests == 0 && !is_pinned {
                    return Some(TopOrder::Unload(name));
                }
                self.mode = TopMode::Confirm { name, requests, is_pinned };
                None
            }
            PressedKey::Char('p') => Some(TopOrder::Pin(name, !model.is("is_pinned"))),
            PressedKey::Char('y') | PressedKey::Enter => {
                self.mode = TopMode::Why { name: name.clone(), lines: Vec::new(), skipped: 0 };
                Some(TopOrder::Why(name))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::DaemonEvent;

    fn board() -> Board {
        let mut board = Board::default();
        let data = json!({ "models": {
            "k1": { "name": "a", "state": "ready" },
            "k2": { "name": "b", "state": "busy", "busy_slots": 2 },
            "k3": { "name": "c", "state": "absent", "is_pinned": true },
        } });
        board.take(&DaemonEvent { id: String::new(), name: "snapshot".into(), data }, 0);
        board
    }

    /// What a person gets who types this.
    fn typed(bytes: &[u8]) -> (TopState, Vec<TopOrder>) {
        let (mut state, board) = (TopState::default(), board());
        let orders = keys(bytes).into_iter().filter_map(|key| state.press(key, &board)).collect();
        (state, orders)
    }

    #[test]
    fn sequences_of_a_terminal_are_keys_and_strange_ones_are_none() {
        use PressedKey::{Char, Ctrl, Down, Enter, Escape, Home, PageUp, Up};
        assert_eq!(
            keys(b"\x1b[A\x1bOBq\r\x1b[5~\x1b[H\x03"),
            [Up, Down, Char('q'), Enter, PageUp, Home, Ctrl('c')]
        );
        assert_eq!(keys(b"\x1b"), [Escape]);
        assert_eq!(keys(b"\x1b[1;5C\x1b[200~x\x1bq\xe8\x8c\xb6\x1b["), [Char('x')]);
        assert_eq!(keys(b"\x1b\x1b[B"), [Escape, Down]);
    }

    #[test]
    fn orders_are_for_the_selected_model() {
        assert_eq!(typed(b"w").1, [TopOrder::Warm("a".into())]);
        assert_eq!(typed(b"jjw").1, [TopOrder::Warm("c".into())]);
        assert_eq!(typed(b"Gkkkkp").1, [TopOrder::Pin("a".into(), true)]);
        assert_eq!(typed(b"\x1b[Fp").1, [TopOrder::Pin("c".into(), false)]);
        assert_eq!(typed(b"u").1, [TopOrder::Unload("a".into())]);
        assert!(typed(b"Gu").1.is_empty(), "it is not in memory");
        assert_eq!(
            typed(b"q\x1a\x0c\x03").1,
            [TopOrder::Quit, TopOrder::Suspend, TopOrder::Repaint, TopOrder::Quit]
        );
        assert!(typed(b"\x1b").1.is_empty(), "an arrow may have begun");
    }

    #[test]
    fn unloading_what_is_in_use_asks_first() {
        let (state, orders) = typed(b"ju");
        let asked = TopMode::Confirm { name: "b".into(), requests: 2, is_pinned: false };
        assert_eq!((state.mode, orders), (asked, vec![]));
        assert_eq!(typed(b"juy").1, [TopOrder::Unload("b".into())]);
        let (state, orders) = typed(b"jun");
        assert_eq!((state.mode, orders), (TopMode::Board, vec![]));
    }

    #[test]
    fn panels_close_by_any_key_that_does_not_scroll_them() {
        assert_eq!(typed(b"?").0.mode, TopMode::Help);
        assert_eq!(typed(b"?q"), (TopState::default(), vec![]), "the first q closes the help");
        let (state, orders) = typed(b"yjj");
        assert_eq!(orders, [TopOrder::Why("a".into())]);
        assert_eq!(state.mode, TopMode::Why { name: "a".into(), lines: vec![], skipped: 2 });
        assert_eq!(typed(b"yjj\x1b").0.mode, TopMode::Board);
    }

    #[test]
    fn a_selected_model_stays_selected_when_others_come() {
        let (state, _) = typed(b"j");
        let mut board = board();
        let set = json!({ "set": { "models": { "k0": { "name": "a0", "state": "ready" } } } });
        board.take(&DaemonEvent { id: String::new(), name: "delta".into(), data: set }, 0);
        assert_eq!(state.place(&board), 2);
        assert_eq!(TopState::default().place(&Board::default()), 0);
    }
}
