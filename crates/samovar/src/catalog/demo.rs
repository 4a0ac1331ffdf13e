//! The model inside the binary, unpacked to a file on first use so that engines can map it.

use std::io::Write;
use std::path::{Path, PathBuf};

use samovar_core::{Digest, ErrorKind, Failure};

/// The name by which requests call it.
pub(super) const NAME: &str = "demo";

static BYTES: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"));

/// The path of the unpacked model. The name holds the digest, so another version of the binary
/// unpacks another file; a file of the right name and size is taken as it is.
///
/// # Errors
/// `Storage` when the cache directory cannot be written.
pub(super) fn unpack(cache_dir: &Path) -> Result<PathBuf, Failure> {
    static DIGEST: std::sync::OnceLock<Digest> = std::sync::OnceLock::new();
    let digest = DIGEST.get_or_init(|| Digest::of_bytes(BYTES)).to_string();
    let short = digest.rsplit(':').next().map_or("", |hex| &hex[..16]);
    let path = cache_dir.join("models").join(format!("{NAME}-{short}.gguf"));
    let is_there = std::fs::metadata(&path).is_ok_and(|facts| facts.len() == BYTES.len() as u64);
    if !is_there {
        write(&path).map_err(|error| {
            Failure::new(ErrorKind::Storage, format!("the demo model could not be unpacked: {error}"))
                .with_hint("free some space, or set SAMOVAR_HOME to a directory that can be written")
        })?;
    }
    Ok(path)
}

/// Complete or not there: written beside, synced, renamed.
fn write(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(directory)?;
    let unique = format!(".{NAME}-{}-{:?}.tmp", std::process::id(), std::thread::current().id());
    let partial = directory.join(unique);
    let written = (|| {
        let mut file = fs_err::File::create(&partial)?;
        file.write_all(BYTES)?;
        file.sync_all()?;
        fs_err::rename(&partial, path)
    })();
    if written.is_err() {
        // The write failed already; a leftover is named in no error of its own.
        let _ = fs_err::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_once_and_repairs_a_cut_file() {
        let home = tempfile::tempdir().expect("tempdir");
        let path = unpack(home.path()).expect("unpacks");
        assert_eq!(fs_err::read(&path).expect("reads"), BYTES);
        fs_err::write(&path, b"cut").expect("writes");
        assert_eq!(unpack(home.path()).expect("unpacks"), path);
        assert_eq!(fs_err::metadata(&path).expect("is there").len(), BYTES.len() as u64);
    }

    #[test]
    fn says_what_to_do_when_it_cannot_write() {
        let home = tempfile::NamedTempFile::new().expect("file");
        let failure = unpack(home.path()).expect_err("not a directory");
        assert_eq!(failure.kind, ErrorKind::Storage);
        assert!(failure.hint.is_some());
    }
}
