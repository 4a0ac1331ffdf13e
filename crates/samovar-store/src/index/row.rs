//! Rows of the index as types, and their forms in SQLite.
//!
//! Unsigned numbers of 64 bits are stored as the signed ones with the same bits, so that every inode
//! number and size comes back as it went in.

use std::str::FromStr;

use rusqlite::types::{FromSqlError, FromSqlResult, Type, ValueRef};
use rusqlite::{Row, ToSql, types::ToSqlOutput};
use samovar_core::Digest;

use crate::artifact::key::KeyDigest;
use crate::artifact::manifest::Role;
use crate::artifact::name::Commit;
use crate::disk::stamp::Stamp;

/// Whether a blob can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// Its file is there, whole and verified.
    Ready,
    /// A collection is about to remove its file.
    Deleting,
    /// Its file was found damaged, or is gone.
    Quarantined,
}

/// Whose bytes a blob's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The store's alone.
    Owned,
    /// The same file as another program's, under a name of ours.
    HardLink,
    /// Another program's, used where they lie.
    Reference,
}

/// What the index knows of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) digest: Digest,
    /// Bytes; the stamp's size is the same, and is not stored twice.
    pub(crate) size: u64,
    pub(crate) state: BlobState,
    /// When its bytes were last hashed, in milliseconds since 1970.
    pub(crate) verified_ms: u64,
    pub(crate) stamp: Stamp,
    pub(crate) origin: Ownership,
    /// When it came, in milliseconds since 1970.
    pub(crate) created_ms: u64,
}

/// Where a moving name led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefRow {
    pub(crate) commit: Commit,
    /// When the source said so, in milliseconds since 1970.
    pub(crate) checked_ms: u64,
}

/// The columns that [`blob`] reads, in its order.
pub(super) const BLOB_COLUMNS: &str =
    "digest, size, state, verified_ms, dev, ino, mtime_ns, origin, created_ms";

/// A blob from a row of [`BLOB_COLUMNS`].
pub(super) fn blob(row: &Row<'_>) -> rusqlite::Result<BlobRow> {
    let size = unsigned(row, 1)?;
    Ok(BlobRow {
        digest: digest(row, 0)?,
        size,
        state: coded(row, 2)?,
        verified_ms: unsigned(row, 3)?,
        stamp: Stamp { dev: unsigned(row, 4)?, ino: unsigned(row, 5)?, mtime_ns: row.get(6)?, size },
        origin: coded(row, 7)?,
        created_ms: unsigned(row, 8)?,
    })
}

/// An unsigned number, by its bits.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// A digest from its 32 bytes.
pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, DigestBytes>(column).map(|bytes| bytes.0)
}

/// A key's digest from its 32 bytes.
pub(super) fn key_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyDigest> {
    digest(row, column).map(KeyDigest::from_digest)
}

/// A name that is checked again on its way out: the file may have been in other hands.
pub(super) fn name<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// A value that is stored as a small number.
pub(super) fn coded<T: Coded>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let code = row.get(column)?;
    T::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

/// Something stored as a small number. Codes are never given a new meaning.
pub(super) trait Coded: Copy + PartialEq + 'static {
    /// All values; the place is the code.
    const ALL: &'static [Self];

    fn code(self) -> i64 {
        let place = (0_i64..).zip(Self::ALL).find(|(_, value)| **value == self);
        place.expect("invariant: ALL holds every value").0
    }

    fn from_code(code: i64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied()
    }
}

impl Coded for BlobState {
    const ALL: &'static [Self] = &[Self::Ready, Self::Deleting, Self::Quarantined];
}

impl Coded for Ownership {
    const ALL: &'static [Self] = &[Self::Owned, Self::HardLink, Self::Reference];
}

impl Coded for Role {
    const ALL: &'static [Self] =
        &[Self::Weights, Self::Projector, Self::Tokenizer, Self::Template, Self::Config, Self::Other];
}

/// A digest as SQLite has it: 32 bytes rather than 64 digits.
pub(super) struct DigestBytes(pub(super) Digest);

impl ToSql for DigestBytes {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

impl rusqlite::types::FromSql for DigestBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        if bytes.len() != 32 {
            return Err(FromSqlError::InvalidBlobSize { expected_size: 32, blob_size: bytes.len() });
        }
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        let text = std::str::from_utf8(&digits).expect("invariant: hexadecimal digits are text");
        Ok(Self(text.parse().expect("invariant: 64 hexadecimal digits are a digest")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes_are_stable<T: Coded + std::fmt::Debug>() {
        for (code, value) in (0_i64..).zip(T::ALL) {
            assert_eq!(value.code(), code);
            assert_eq!(T::from_code(code), Some(*value));
        }
        assert_eq!(T::from_code(-1), None);
        assert_eq!(T::from_code(100), None);
    }

    #[test]
    fn codes_and_back_are_the_same() {
        codes_are_stable::<BlobState>();
        codes_are_stable::<Ownership>();
        codes_are_stable::<Role>();
        assert_eq!(Role::Other.code(), 5, "codes that are on disk never move");
        assert_eq!(Ownership::Reference.code(), 2, "codes that are on disk never move");
        assert_eq!(BlobState::Quarantined.code(), 2, "codes that are on disk never move");
    }

    #[test]
    fn a_digest_and_back_is_the_same() {
        let digest = Digest::of_bytes(b"abc");
        let back = rusqlite::types::FromSql::column_result(ValueRef::Blob(digest.as_bytes()));
        assert_eq!(back.map(|bytes: DigestBytes| bytes.0), Ok(digest));
        let short: FromSqlResult<DigestBytes> =
            rusqlite::types::FromSql::column_result(ValueRef::Blob(&[1; 31]));
        assert!(short.is_err());
    }

    #[test]
    fn a_stamp_tells_a_changed_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let before = Stamp::of(&file.as_file().metadata().unwrap());
        std::io::Write::write_all(&mut file, b"more").unwrap();
        let after = Stamp::of(&file.as_file().metadata().unwrap());
        assert_eq!((before.dev, before.ino), (after.dev, after.ino));
        assert_eq!((before.size, after.size), (0, 4));
    }
}
