//! What is in a file: bytes, a pattern that needs no memory, or a file on disk.

use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use fs_err::File;
use samovar_core::Digest;
use sha1::{Digest as _, Sha1};

/// How much is read from a disk at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Odd, so that a block written at the wrong multiple of any usual chunk size shows.
const BLOCK_BYTES: usize = (1 << 20) + 7;

/// The noise that every pattern is cut from.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    noise.take(BLOCK_BYTES).collect()
});

/// The content of a file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Content(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bytes(Bytes),
    Pattern { size_bytes: u64, seed: u64 },
    Disk { size_bytes: u64, file: Arc<File> },
}

impl Content {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// So many bytes of noise, which take no memory. Another seed gives another file.
    pub const fn pattern(size_bytes: u64, seed: u64) -> Self {
        Self(Kind::Pattern { size_bytes, seed })
    }

    /// A file on disk, streamed and never loaded.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn disk(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self(Kind::Disk { size_bytes, file: Arc::new(file) }))
    }

    /// How many bytes there are.
    pub fn size_bytes(&self) -> u64 {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::Pattern { size_bytes, .. } | Kind::Disk { size_bytes, .. } => *size_bytes,
        }
    }

    /// The SHA-256 of all of it.
    ///
    /// # Errors
    /// When a file on disk cannot be read.
    pub fn digest(&self) -> io::Result<Digest> {
        Digest::of_reader(self.reader())
    }

    /// The whole of it in memory.
    ///
    /// # Errors
    /// When a file on disk cannot be read.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Git's name for it: the SHA-1 of `blob <size>`, a NUL, and the bytes.
    pub(crate) fn git_oid(&self) -> io::Result<String> {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", self.size_bytes()));
        let mut offset = 0;
        while offset < self.size_bytes() {
            let chunk = self.chunk(offset, CHUNK_BYTES)?;
            hasher.update(&chunk);
            offset += chunk.len() as u64;
        }
        Ok(hexadecimal(&hasher.finalize()))
    }

    /// Bytes from `offset` on: at least one and at most `max`, unless there are none left. Reads the disk.
    ///
    /// # Errors
    /// When the disk cannot be read, or the file became shorter.
    pub(crate) fn chunk(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let left = self.size_bytes().saturating_sub(offset);
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        match &self.0 {
            Kind::Bytes(bytes) => {
                let start = bytes.len() - left as usize;
                Ok(bytes.slice(start..start + max))
            }
            Kind::Pattern { seed, .. } => {
                let start = (offset.wrapping_add(seed.wrapping_mul(4099)) % BLOCK_BYTES as u64) as usize;
                Ok(BLOCK.slice(start..BLOCK_BYTES.min(start + max)))
            }
            Kind::Disk { file, .. } => {
                let mut chunk = vec![0; max.min(CHUNK_BYTES)];
                file.file().read_exact_at(&mut chunk, offset)?;
                Ok(chunk.into())
            }
        }
    }

    /// The open file, when it is one.
    pub(crate) fn file(&self) -> Option<&Arc<File>> {
        match &self.0 {
            Kind::Disk { file, .. } => Some(file),
            _ => None,
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader { content: self, offset: 0 }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::bytes(text.to_owned())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes.to_vec())
    }
}

struct Reader<'a> {
    content: &'a Content,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.content.chunk(self.offset, buffer.len())?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        self.offset += chunk.len() as u64;
        Ok(chunk.len())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pattern_is_the_same_however_it_is_read() {
        let content = Content::pattern(3 * BLOCK_BYTES as u64 + 11, 3);
        let whole = content.to_vec().unwrap();
        assert_eq!(whole.len() as u64, content.size_bytes());
        for offset in [0, 1, 4096, BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 5, whole.len() - 1] {
            let chunk = content.chunk(offset as u64, 777).unwrap();
            assert!(!chunk.is_empty());
            assert_eq!(chunk, whole[offset..offset + chunk.len()]);
        }
        assert!(content.chunk(content.size_bytes(), 10).unwrap().is_empty());
        assert_ne!(content.digest().unwrap(), Content::pattern(content.size_bytes(), 4).digest().unwrap());
    }

    #[test]
    fn a_file_on_disk_reads_as_its_bytes() {
        let bytes = Content::pattern(CHUNK_BYTES as u64 * 2 + 3, 1).to_vec().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let content = Content::disk(file.path()).unwrap();
        assert_eq!(content.to_vec().unwrap(), bytes);
        assert_eq!(content.digest().unwrap(), Digest::of_bytes(&bytes));
    }

    #[test]
    fn names_a_blob_as_git_does() {
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(Content::from("hello\n").git_oid().unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
