//! One go at adopting: scan the roots, bring in what is new, say what happened.

use std::cell::Cell;
use std::collections::BTreeMap;

use samovar_core::format::gguf;

use super::place::{self, Placed, Placer, Refusal};
use super::{
    AdoptKind, AdoptOptions, AdoptRoot, Adopted, AdoptedArtifact, Found, FoundFile, Placement, Skipped,
    folder, hf_cache, lm_studio, ollama,
};
use crate::artifact::Artifact;
use crate::artifact::manifest::{self, Manifest, ManifestFile, Role};
use crate::ensure;
use crate::error::Error;
use crate::fetch::progress::{Progress, Transfer, Watch};
use crate::index::{BlobRow, now_ms};
use crate::local::Local;
use crate::lookup::find;
use crate::source::folder::{Bounds, clause};

/// Bytes that are read between two reports of progress.
const WORD_BYTES: u64 = 16 << 20;

/// Scans all roots and takes over what is new.
///
/// # Errors
/// Only what keeps this store from being written.
pub(super) fn adopt(local: &Local, options: &AdoptOptions) -> Result<Adopted, Error> {
    if !options.dry_run {
        local.cache.writable("what other programs downloaded")?;
    }
    let mut report = Adopted { dry_run: options.dry_run, ..Adopted::default() };
    let mut work = Vec::new();
    for root in &options.roots {
        match Bounds::of(&root.path) {
            Ok(bounds) => {
                let found = merged(scan(root.kind, &bounds, &mut report.skipped));
                let within = |found: Found| (found.bounds.clone().unwrap_or_else(|| bounds.clone()), found);
                work.extend(found.into_iter().map(within));
            }
            Err(reason) => report.skipped.push(Skipped::new(&root.path, reason)),
        }
    }
    let reading = Reading::of(&work, options.watch.clone());
    let run = Run { local, options, reading: &reading };
    for (bounds, found) in &work {
        let done = run.one(bounds, found);
        reading.passed(found.bytes());
        match done {
            Ok(artifact) => report.artifacts.push(artifact),
            Err(Stop::Skip(skipped)) => report.skipped.push(skipped),
            Err(Stop::Store(error)) => return Err(error),
        }
    }
    Ok(report)
}

/// Takes over one artifact that was found; the reason when it cannot be.
///
/// # Errors
/// Only what keeps this store from being written.
pub(super) fn one(
    local: &Local,
    bounds: &Bounds,
    found: &Found,
    watch: Option<Watch>,
) -> Result<Result<AdoptedArtifact, Skipped>, Error> {
    let bounds = found.bounds.as_ref().unwrap_or(bounds);
    let work = [(bounds.clone(), found.clone())];
    let (options, reading) = (AdoptOptions::default(), Reading::of(&work, watch));
    match (Run { local, options: &options, reading: &reading }).one(bounds, found) {
        Ok(adopted) => Ok(Ok(adopted)),
        Err(Stop::Skip(skipped)) => Ok(Err(skipped)),
        Err(Stop::Store(error)) => Err(error),
    }
}

fn scan(kind: AdoptKind, bounds: &Bounds, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    match kind {
        AdoptKind::HuggingFace => hf_cache::scan(bounds, skipped),
        AdoptKind::Ollama => ollama::scan(bounds, skipped),
        AdoptKind::LmStudio => lm_studio::scan(bounds, skipped),
        AdoptKind::Folder => folder::scan(bounds, skipped),
    }
}

/// One for each key; a second name for the same content becomes another text for it.
fn merged(found: Vec<Found>) -> Vec<Found> {
    let mut by_key = BTreeMap::<_, Found>::new();
    for artifact in found {
        match by_key.get_mut(&artifact.key.digest()) {
            Some(first) => {
                first.also.push(artifact.reference);
                first.also.extend(artifact.also);
            }
            None => {
                by_key.insert(artifact.key.digest(), artifact);
            }
        }
    }
    by_key.into_values().collect()
}

/// How far the reading is.
struct Reading {
    watch: Option<Watch>,
    total: Transfer,
    done_bytes: Cell<u64>,
    said_bytes: Cell<u64>,
    /// Bytes of the artifacts that are done with.
    passed_bytes: Cell<u64>,
}

impl Reading {
    fn of(work: &[(Bounds, Found)], watch: Option<Watch>) -> Self {
        let files = work.iter().flat_map(|(_, found)| &found.files);
        let total_bytes = work.iter().map(|(_, found)| found.bytes()).sum();
        let total = Transfer { total_bytes, files: files.count() as u32, ..Transfer::default() };
        Self {
            watch,
            total,
            done_bytes: Cell::default(),
            said_bytes: Cell::default(),
            passed_bytes: Cell::default(),
        }
    }

    /// An artifact of so many bytes is done with, however many of them were read.
    fn passed(&self, bytes: u64) {
        self.passed_bytes.set(self.passed_bytes.get() + bytes);
        self.done_bytes.set(self.passed_bytes.get());
    }

    fn read(&self, bytes: u64) {
        self.done_bytes.set(self.done_bytes.get() + bytes);
        let done_bytes = self.done_bytes.get();
        if let Some(watch) = &self.watch
            && done_bytes.abs_diff(self.said_bytes.get()) >= WORD_BYTES
        {
            self.said_bytes.set(done_bytes);
            watch(Progress::Verifying(Transfer { done_bytes, ..self.total }));
        }
    }
}

struct Run<'a> {
    local: &'a Local,
    options: &'a AdoptOptions,
    reading: &'a Reading,
}

enum Stop {
    Skip(Skipped),
    Store(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Run<'_> {
    fn one(&self, bounds: &Bounds, found: &Found) -> Result<AdoptedArtifact, Stop> {
        if let Some(file) =
            found.files.iter().find(|file| file.at.starts_with(self.local.cache.layout.root()))
        {
            return Err(Stop::Skip(Skipped::new(&file.at, "lies in this cache already")));
        }
        if let Some(artifact) = self.here(found)? {
            if !self.options.dry_run {
                self.note_names(found, 0)?;
            }
            return Ok(AdoptedArtifact { reference: artifact.reference, ..summary(found, 0, Vec::new()) });
        }
        gate(bounds, found).map_err(Stop::Skip)?;
        if self.options.dry_run {
            return self.foresee(found);
        }
        let placer = Placer {
            local: self.local,
            copies: self.options.copies,
            read: &|bytes| self.reading.read(bytes),
        };
        let mut placed = Vec::with_capacity(found.files.len());
        for file in &found.files {
            placed.push(placer.place(bounds, file).map_err(|refusal| match refusal {
                Refusal::File(reason) => Stop::Skip(Skipped::new(&file.at, reason)),
                Refusal::Store(error) => Stop::Store(error),
            })?);
        }
        let free = self.first_free_name(found)?;
        self.commit(found, free, &placed)?;
        Ok(summary(found, free, placed.iter().map(|placed| placed.how).collect()))
    }

    fn here(&self, found: &Found) -> Result<Option<Artifact>, Error> {
        let artifact = self.local.cache.with_index(|index| index.artifact(&found.key.digest()))?;
        Ok(artifact.filter(|artifact| find::is_in_place(&self.local.cache.layout, artifact)))
    }

    fn foresee(&self, found: &Found) -> Result<AdoptedArtifact, Stop> {
        let foreseen = found.files.iter().map(|file| {
            let how = place::foresee(&self.local.cache.layout, file, self.options.copies);
            how.map_err(|reason| Stop::Skip(Skipped::new(&file.at, reason)))
        });
        let how = foreseen.collect::<Result<_, _>>()?;
        Ok(summary(found, self.first_free_name(found)?, how))
    }

    /// Makes the artifact, under the first name that is free.
    fn commit(&self, found: &Found, free: usize, placed: &[Placed]) -> Result<(), Error> {
        let rows: Vec<BlobRow> = placed.iter().map(|placed| placed.row).collect();
        let files = found.files.iter().zip(&rows).map(|(file, row)| ManifestFile {
            path: file.path.clone(),
            role: file.role,
            size: row.size,
            digest: row.digest,
        });
        let manifest = Manifest {
            format: manifest::FORMAT,
            key: found.key.clone(),
            revision: found.revision.clone().filter(|_| free == 0).filter(|name| !self.is_known(found, name)),
            reference: found.text(free).to_owned(),
            files: files.collect(),
            created_ms: now_ms(),
        };
        ensure::record(&self.local.cache, manifest, &rows)?;
        self.note_names(found, free)
    }

    /// The place of the first name that is free; 0 when there is none.
    fn first_free_name(&self, found: &Found) -> Result<usize, Error> {
        for (place, text) in found.texts().enumerate() {
            if self.is_free(found, text)? {
                return Ok(place);
            }
        }
        Ok(0)
    }

    /// Whether a name may come to mean this artifact. What it means already it goes on to mean, since who
    /// adopts does not know what is newer; except a path, which means what lies there now.
    fn is_free(&self, found: &Found, text: &str) -> Result<bool, Error> {
        let Some(means) = self.local.cache.with_index(|index| index.by_reference(text))? else {
            return Ok(true);
        };
        let is_path = ["folder", "lm-studio"].contains(&found.key.source.as_str());
        let is_same_place = (&means.key.source, &means.key.model) == (&found.key.source, &found.key.model);
        Ok(means.key == found.key || (is_path && is_same_place))
    }

    fn is_known(&self, found: &Found, revision: &str) -> bool {
        let known = self.local.cache.index.ref_of(&found.key.source, &found.key.model, revision);
        known.is_ok_and(|known| known.is_some())
    }

    /// Lets the other texts that name it mean it, where they are free.
    fn note_names(&self, found: &Found, from: usize) -> Result<(), Error> {
        for text in found.texts().skip(from) {
            if self.is_free(found, text)? {
                self.local.cache.with_index(|index| index.note_reference(text, &found.key.digest()))?;
            }
        }
        Ok(())
    }
}

/// Looks at the headers of GGUF files, in a dry run as well: what only has the name of a model is no model.
fn gate(bounds: &Bounds, found: &Found) -> Result<(), Skipped> {
    let is_gguf = |file: &&FoundFile| file.path.extension().as_deref() == Some("gguf");
    for file in found.files.iter().filter(|file| file.role == Role::Weights).filter(is_gguf) {
        let reader = bounds.open(&file.at).map_err(|error| Skipped::new(&file.at, clause(&error)))?;
        gguf::header_bytes(reader, file.stamp.size)
            .map_err(|error| Skipped::new(&file.at, format!("is no sound model: {}", error.fault)))?;
    }
    Ok(())
}

impl Found {
    /// All texts that name it, the best first.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.reference).chain(&self.also).map(String::as_str)
    }

    /// One of them.
    fn text(&self, place: usize) -> &str {
        self.texts().nth(place).unwrap_or(&self.reference)
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size).sum()
    }
}

/// What became of an artifact whose files were taken over in these ways; none when it was here.
fn summary(found: &Found, name: usize, how: Vec<Placement>) -> AdoptedArtifact {
    let sizes = || found.files.iter().map(|file: &FoundFile| file.stamp.size);
    let is_saved = |how: Placement| !matches!(how, Placement::Copy | Placement::Here);
    let saved_bytes = sizes().zip(&how).filter(|(_, how)| is_saved(**how)).map(|(size, _)| size).sum();
    AdoptedArtifact {
        reference: found.text(name).to_owned(),
        key: found.key.clone(),
        from: found.folder.clone(),
        bytes: found.bytes(),
        saved_bytes,
        how: sizes().zip(how).max_by_key(|(size, _)| *size).map(|(_, how)| how),
    }
}

impl AdoptRoot {
    /// The folder and whose it is.
    pub fn new(path: impl Into<std::path::PathBuf>, kind: AdoptKind) -> Self {
        Self { path: path.into(), kind }
    }
}
