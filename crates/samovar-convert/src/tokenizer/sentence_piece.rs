//! SentencePiece's model file: pieces and a few settings, read from its protocol buffer within bounds. Unknown fields are
//! skipped; nothing is nested deeper than two levels.
//!
//! *Source:* `sentencepiece_model.proto`.

use samovar_core::format::gguf::limits;

use super::token_type;
use crate::error::Fault;

/// What is needed of the file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SentencePiece {
    pub(super) pieces: Vec<Piece>,
    /// Whether it finds the likeliest pieces, and does not merge pairs.
    pub(super) is_unigram: bool,
}

/// A piece of text.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// One of [`token_type`].
    pub(super) kind: i32,
}

impl SentencePiece {
    /// Reads the bytes of the file `name`.
    pub(super) fn read(bytes: &[u8], name: &str) -> Result<Self, Fault> {
        let refuse = |what: &str| Fault::unsound(name, what);
        // The trainer's own default.
        let mut model = Self { is_unigram: true, ..Self::default() };
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next().map_err(refuse)? {
            match (number, field) {
                (1, Field::Bytes(piece)) => {
                    if model.pieces.len() as u64 == limits::VOCABULARY {
                        return Err(refuse("it has too many pieces"));
                    }
                    model.pieces.push(read_piece(piece).map_err(refuse)?);
                }
                (2, Field::Bytes(trainer)) => {
                    let mut fields = Fields(trainer);
                    while let Some((number, field)) = fields.next().map_err(refuse)? {
                        if let (3, Field::Number(kind)) = (number, field) {
                            model.is_unigram = kind == 1;
                        }
                    }
                }
                _ => (),
            }
        }
        if model.pieces.is_empty() { Err(refuse("it has no pieces")) } else { Ok(model) }
    }
}

fn read_piece(bytes: &[u8]) -> Result<Piece, &'static str> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: token_type::NORMAL };
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                let text = str::from_utf8(text).map_err(|_| "a piece is not UTF-8")?;
                text.clone_into(&mut piece.text);
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Number(kind)) => {
                let is_known = (1..=6).contains(&kind);
                piece.kind = if is_known { kind as i32 } else { return Err("a piece has an unknown type") };
            }
            _ => (),
        }
    }
    if piece.score.is_nan() { Err("a piece has a score that is no number") } else { Ok(piece) }
}

/// The fields of a message that are not read yet.
struct Fields<'a>(&'a [u8]);

/// The value of a field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let count = self.number()?;
                Field::Bytes(self.take(count)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            _ => return Err("a field has an unknown type"),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], &'static str> {
        let count = usize::try_from(count).ok();
        let taken = count.and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = taken.ok_or("it ends within a field")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or("it ends within a number")?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut piece = vec![10, text.len() as u8];
        piece.extend_from_slice(text.as_bytes());
        piece.push(21);
        piece.extend_from_slice(&score.to_le_bytes());
        piece.extend_from_slice(&[24, kind]);
        [&[10, piece.len() as u8][..], &piece].concat()
    }

    #[test]
    fn pieces_and_the_algorithm_are_read() {
        let mut bytes = [piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1)].concat();
        bytes.extend_from_slice(&[18, 2, 24, 2]);
        let model = SentencePiece::read(&bytes, "m").unwrap();
        assert!(!model.is_unigram);
        assert_eq!(model.pieces[1], Piece { text: "▁a".to_owned(), score: -1.5, kind: 1 });
        assert_eq!(model.pieces[0].kind, token_type::UNKNOWN);
    }

    #[test]
    fn damage_is_refused_wherever_it_is() {
        let sound = [piece("<unk>", 0.0, 2), piece("b", f32::NAN, 1)].concat();
        assert!(SentencePiece::read(&sound, "m").is_err(), "a score that is no number");
        for end in 0..sound.len() {
            // The first piece alone is a whole file.
            let is_whole = end == piece("<unk>", 0.0, 2).len();
            assert_eq!(SentencePiece::read(&sound[..end], "m").is_ok(), is_whole, "{end}");
        }
        assert!(SentencePiece::read(&[0xff; 64], "m").is_err());
        assert!(
            SentencePiece::read(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "m").is_err()
        );
    }
}
