//! The texts of chat templates that lie in files, read again when a file has changed; never whether they are of any use.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use samovar_core::Failure;

use super::Stamp;
use crate::bounded::BoundedMap;
use crate::settings::ChatTemplate;

/// Texts that are kept at a time, each of a MiB at most.
const TEMPLATES_MAX: usize = 64;

/// What was read of files, each with the stamp of its file from before.
#[derive(Default)]
pub(super) struct Templates {
    read: Mutex<BoundedMap<PathBuf, (Stamp, String), TEMPLATES_MAX>>,
}

impl Templates {
    /// Jinja, or the name of a built-in template.
    ///
    /// # Errors
    /// As [`ChatTemplate::read`].
    pub(super) fn get(&self, template: &ChatTemplate) -> Result<String, Failure> {
        let ChatTemplate::File(path) = template else { return template.read() };
        // What is wrong with a file, reading it says.
        let Ok(stamp) = Stamp::of(path) else { return template.read() };
        if let Some((_, text)) = self.known().get(path).filter(|(known, _)| *known == stamp) {
            return Ok(text.clone());
        }
        let text = template.read()?;
        self.known().insert(path.clone(), (stamp, text.clone()));
        Ok(text)
    }

    /// Forgets them all: the owner may have named others.
    pub(super) fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, BoundedMap<PathBuf, (Stamp, String), TEMPLATES_MAX>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.jinja");
        let (templates, template) = (Templates::default(), ChatTemplate::File(path.clone()));
        assert!(templates.get(&template).is_err());
        fs_err::write(&path, "one").unwrap();
        assert_eq!(templates.get(&template).unwrap(), "one");
        let modified = fs_err::metadata(&path).unwrap().modified().unwrap();
        // Other bytes that look the same from outside tell that nothing is read.
        fs_err::write(&path, "two").unwrap();
        let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
        file.file().set_modified(modified).unwrap();
        assert_eq!(templates.get(&template).unwrap(), "one");
        fs_err::write(&path, "three").unwrap();
        assert_eq!(templates.get(&template).unwrap(), "three");
        fs_err::remove_file(&path).unwrap();
        assert!(templates.get(&template).is_err());
    }
}
