//! The model inside the binary, unpacked to a file on first use so that engines can map it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use samovar_core::{Digest, ErrorKind, Failure};

/// The name by which requests call it.
pub(super) const NAME: &str = "demo";

static BYTES: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"));

/// The file that the model is unpacked to.
pub(super) struct Demo {
    path: PathBuf,
    /// One writer at a time: two would make two files, and the pool would take them for two models.
    turn: Mutex<()>,
}

impl Demo {
    /// The name of the file holds the digest, so another version of the binary unpacks another file.
    pub(super) fn under(cache_dir: &Path) -> Self {
        let digest = Digest::of_bytes(BYTES).to_string();
        let short = digest.rsplit(':').next().map_or("", |hex| &hex[..16]);
        Self { path: cache_dir.join("models").join(format!("{NAME}-{short}.gguf")), turn: Mutex::new(()) }
    }

    /// The path of the unpacked model; a file of the right name and size is taken as it is.
    ///
    /// # Errors
    /// `Storage` when the cache directory cannot be written.
    pub(super) fn unpacked(&self) -> Result<PathBuf, Failure> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_whole() {
            self.write().map_err(|error| {
                Failure::new(ErrorKind::Storage, format!("the demo model could not be unpacked: {error}"))
                    .with_hint("free some space, or set SAMOVAR_HOME to a directory that can be written")
            })?;
        }
        Ok(self.path.clone())
    }

    fn is_whole(&self) -> bool {
        fs_err::metadata(&self.path).is_ok_and(|facts| facts.len() == BYTES.len() as u64)
    }

    /// Complete or not there: written beside, synced, then given its name.
    fn write(&self) -> std::io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs_err::create_dir_all(directory)?;
        let partial = directory.join(format!(".{NAME}-{}.tmp", std::process::id()));
        let written = (|| {
            let mut file = fs_err::File::create(&partial)?;
            file.write_all(BYTES)?;
            file.sync_all()?;
            self.name(&partial)
        })();
        // Linked, it has its other name; failed, the error is already on its way.
        let _ = fs_err::remove_file(&partial);
        written
    }

    /// A link never replaces what another process put there in the meantime and may have mapped.
    fn name(&self, partial: &Path) -> std::io::Result<()> {
        match fs_err::hard_link(partial, &self.path) {
            Ok(()) => Ok(()),
            Err(_) if self.is_whole() => Ok(()),
            Err(_) => fs_err::rename(partial, &self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_once_and_repairs_a_cut_file() {
        let home = tempfile::tempdir().expect("tempdir");
        let demo = Demo::under(home.path());
        let path = demo.unpacked().expect("unpacks");
        assert_eq!(fs_err::read(&path).expect("reads"), BYTES);
        fs_err::write(&path, b"cut").expect("writes");
        assert_eq!(demo.unpacked().expect("unpacks"), path);
        assert_eq!(fs_err::metadata(&path).expect("is there").len(), BYTES.len() as u64);
    }

    #[test]
    fn says_what_to_do_when_it_cannot_write() {
        let home = tempfile::NamedTempFile::new().expect("file");
        let failure = Demo::under(home.path()).unpacked().expect_err("not a directory");
        assert_eq!(failure.kind, ErrorKind::Storage);
        assert!(failure.hint.is_some());
    }
}
