//! Which adapters a request is computed with: files and scales, comparable whatever their paths are.
//!
//! Sequences of one set share steps and prefixes; those of different sets share neither. It never opens a
//! file.

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::Adapter;

use crate::error::Error;

/// Adapters that one request may name. All loaded ones together are bounded by as many.
pub(crate) const MOST_ADAPTERS: usize = 8;

/// A file, told from others and from what it was before it was written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileId([u64; 4]);

impl FileId {
    #[cfg(unix)]
    fn of(facts: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let written = facts.mtime().wrapping_mul(1_000_000_000).wrapping_add(facts.mtime_nsec());
        Self([facts.dev(), facts.ino(), facts.size(), written as u64])
    }
}

/// One adapter, with its weight.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub file: FileId,
    pub path: PathBuf,
    pub scale: f32,
}

/// Adapters in the order of their files, each once and none without effect. The empty set is the model as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdapterSet(Arc<[Member]>);

impl AdapterSet {
    /// The set of what a request names.
    pub(crate) fn of(adapters: &[Adapter]) -> Result<Self, Error> {
        if adapters.len() > MOST_ADAPTERS {
            return Err(Error::TooManyAdapters { count: adapters.len() });
        }
        let mut members: Vec<Member> = Vec::with_capacity(adapters.len());
        for Adapter { path, scale } in adapters {
            if !scale.is_finite() {
                return Err(Error::AdapterScale { path: path.clone(), scale: scale.to_string() });
            }
            let facts = fs_err::metadata(path)
                .map_err(|error| Error::AdapterFile { path: path.clone(), detail: error.to_string() })?;
            let file = FileId::of(&facts);
            match members.iter_mut().find(|member| member.file == file) {
                Some(member) => member.scale += scale,
                None => members.push(Member { file, path: path.clone(), scale: *scale }),
            }
        }
        members.retain(|member| member.scale != 0.0);
        members.sort_by_key(|member| member.file.0);
        Ok(Self(members.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.0
    }

    /// Whether it needs this file.
    pub(crate) fn needs(&self, file: &FileId) -> bool {
        self.0.iter().any(|member| member.file == *file)
    }
}

impl PartialEq for AdapterSet {
    fn eq(&self, other: &Self) -> bool {
        let facts = |member: &Member| (member.file.clone(), member.scale.to_bits());
        self.0.iter().map(facts).eq(other.0.iter().map(facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_equal_when_they_do_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, name).unwrap();
            path
        };
        let (one, two) = (file("one"), file("two"));
        let link = folder.path().join("link");
        fs_err::os::unix::fs::symlink(&one, &link).unwrap();
        let set = |wishes: &[(&PathBuf, f32)]| {
            let adapters: Vec<_> =
                wishes.iter().map(|(path, scale)| Adapter { path: (*path).clone(), scale: *scale }).collect();
            AdapterSet::of(&adapters)
        };
        let both = set(&[(&one, 1.0), (&two, 0.5)]).unwrap();
        assert_eq!(set(&[(&two, 0.5), (&link, 1.0)]).unwrap(), both);
        assert_eq!(set(&[(&one, 0.25), (&link, 0.75), (&two, 0.5)]).unwrap(), both);
        assert_ne!(set(&[(&one, 1.0), (&two, 0.6)]).unwrap(), both);
        assert_ne!(set(&[(&one, 1.0)]).unwrap(), both);
        assert_eq!(set(&[(&one, 0.0)]).unwrap(), AdapterSet::default());
        assert!(matches!(set(&[(&one, f32::NAN)]), Err(Error::AdapterScale { .. })));
        assert!(matches!(set(&[(&folder.path().join("no"), 1.0)]), Err(Error::AdapterFile { .. })));
        assert!(matches!(set(&[(&one, 1.0); 9]), Err(Error::TooManyAdapters { count: 9 })));
        fs_err::write(&one, "another length").unwrap();
        assert_ne!(set(&[(&one, 1.0), (&two, 0.5)]).unwrap(), both, "the file was written anew");
    }
}
