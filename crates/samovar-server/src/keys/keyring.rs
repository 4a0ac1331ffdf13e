//! The keys in force: read from their file, and read again when it changes. A file that cannot be used leaves the last good keys in force.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use samovar_core::{Digest, Failure};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::account::{Account, Used, Validity};
use super::attempts::Attempts;
use super::file::{KeyFile, KeyFileError};
use super::record::KeyRecord;
use super::secret::digest_of;
use crate::file_stamp::FileStamp;

/// How often the file is looked at. Orders of `samovar key` do not wait for that.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Names of keys that are labels of metrics; all others are one.
const LABELS_MAX: usize = 200;
/// The label of those.
const OTHER: &str = "other";

/// The part of a digest that finds its key. It says nothing of the key, so that looking it up need not take the same time each time.
type DigestPrefix = [u8; 16];

/// The keys in force. Without a file there are none.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    file: Option<KeyFile>,
    /// Whether requests over TCP need a key also when there is none.
    is_exposed: bool,
    table: RwLock<Arc<Table>>,
    seen: Mutex<Seen>,
    attempts: Attempts,
}

/// What was seen of the file at the last look.
#[derive(Debug, Default)]
struct Seen {
    stamp: Option<FileStamp>,
    /// Whether it could not be looked at, which has been told.
    is_out_of_sight: bool,
}

#[derive(Debug, Default)]
struct Table {
    accounts: HashMap<DigestPrefix, Arc<Account>>,
}

impl Keyring {
    /// The keys of this file.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub(crate) fn open(file: Option<KeyFile>) -> Result<Self, KeyFileError> {
        let Some(file) = file else { return Ok(Self::default()) };
        let (stamp, records) = file.read_stamped()?;
        let keyring = Self {
            file: Some(file),
            seen: Mutex::new(Seen { stamp, is_out_of_sight: false }),
            ..Self::default()
        };
        keyring.install(records);
        Ok(keyring)
    }

    /// For a server that other machines reach: without a key nothing is answered, also after the last key was removed.
    pub(crate) fn expose(&mut self) {
        self.is_exposed = true;
    }

    /// Whether there is no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.table().accounts.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table().accounts.len()
    }

    /// Whether requests over TCP need one.
    pub(crate) fn are_needed(&self) -> bool {
        self.is_exposed || !self.is_empty()
    }

    /// The key that was sent, whether it is still valid or not.
    pub(crate) fn find(&self, sent: &[u8]) -> Option<Arc<Account>> {
        let digest = digest_of(sent)?;
        let account = self.table().accounts.get(&prefix_of(&digest)).cloned()?;
        let is_same = account.record.sha256.as_bytes().as_slice().ct_eq(digest.as_bytes().as_slice());
        bool::from(is_same).then_some(account)
    }

    /// Counts a wrong key of this address. How long its answer is to wait.
    pub(crate) fn wrong(&self, address: &Arc<str>) -> Duration {
        self.attempts.wrong(address)
    }

    /// Reads the file if it has changed since the last look. Blocks.
    ///
    /// # Errors
    /// When it cannot be used, which is told once for each of its contents; the previous keys stay in force.
    pub(crate) fn look(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match file.stamp() {
            Ok(stamp) => stamp,
            Err(_) if seen.is_out_of_sight => return Ok(()),
            Err(error) => {
                *seen = Seen { stamp: None, is_out_of_sight: true };
                return Err(error.into());
            }
        };
        if stamp == seen.stamp {
            return Ok(());
        }
        self.read(file, &mut seen)
    }

    /// Reads the file, whether it has changed or not. Blocks.
    ///
    /// # Errors
    /// When it cannot be used; the previous keys stay in force.
    pub(crate) fn read_again(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        self.read(file, &mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self, file: &KeyFile, seen: &mut Seen) -> Result<(), Failure> {
        let was_there = seen.stamp.is_some();
        // A content that cannot be used is told once.
        *seen = Seen { stamp: file.stamp()?, is_out_of_sight: false };
        let (stamp, records) = file.read_stamped()?;
        seen.stamp = stamp;
        if stamp.is_some() {
            self.install(records);
            tracing::info!(keys = self.len(), "read the keys again");
        } else if was_there {
            let path = file.path().display();
            tracing::warn!(%path, "the file of keys is gone; the previous keys stay in force");
        }
        Ok(())
    }

    /// Puts these in force instead of those before. What a name has used is kept, and keys that are not there any more end at once.
    fn install(&self, records: Vec<KeyRecord>) {
        let before = self.table();
        let used: HashMap<&str, &Arc<Used>> =
            before.accounts.values().map(|account| (account.name(), &account.used)).collect();
        let mut accounts = HashMap::with_capacity(records.len());
        for (number, record) in records.into_iter().enumerate() {
            let prefix = prefix_of(&record.sha256);
            let validity = Validity::Until(record.terms.expires_unix_s);
            let same = before.accounts.get(&prefix).filter(|account| account.record.sha256 == record.sha256);
            let life = same
                .map_or_else(|| Arc::new(watch::Sender::new(validity)), |account| Arc::clone(&account.life));
            life.send_if_modified(|now| std::mem::replace(now, validity) != validity);
            let used =
                used.get(record.name.as_str()).map_or_else(|| Arc::new(Used::new()), |used| Arc::clone(used));
            let label: Arc<str> = if number < LABELS_MAX { record.name.as_str() } else { OTHER }.into();
            accounts.insert(prefix, Arc::new(Account::new(record, label, used, life)));
        }
        let stays: HashSet<Digest> = accounts.values().map(|account| account.record.sha256).collect();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Table { accounts });
        for gone in before.accounts.values().filter(|account| !stays.contains(&account.record.sha256)) {
            gone.life.send_replace(Validity::Revoked);
        }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thread that looks at the file of keys again and again; it ends soon after this is dropped. A task of the runtime would wake
/// several threads for each look.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    /// Hung up, it ends the thread.
    _ends: SyncSender<()>,
}

impl KeyWatch {
    /// Starts it. `None` where there is no file to look at, or no thread to be had, which is logged.
    pub(crate) fn start(keyring: Arc<Keyring>) -> Option<Self> {
        Self::every(LOOK_EVERY, keyring)
    }

    fn every(interval: Duration, keyring: Arc<Keyring>) -> Option<Self> {
        keyring.file.as_ref()?;
        let (ends, end) = sync_channel::<()>(0);
        let watch = move || {
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(interval) {
                if let Err(failure) = keyring.look() {
                    tracing::error!(hint = failure.hint, "the previous keys stay in force: {failure}");
                }
            }
        };
        match std::thread::Builder::new().name("keys".to_owned()).spawn(watch) {
            Ok(_) => Some(Self { _ends: ends }),
            Err(error) => {
                tracing::error!("changes of the file of keys are not noticed: no thread for it: {error}");
                None
            }
        }
    }
}

fn prefix_of(digest: &Digest) -> DigestPrefix {
    let mut prefix = DigestPrefix::default();
    prefix.copy_from_slice(&digest.as_bytes()[..size_of::<DigestPrefix>()]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::super::record::KeyTerms;
    use super::super::secret::Secret;
    use super::*;

    fn keyring() -> (tempfile::TempDir, KeyFile, Keyring) {
        let home = tempfile::tempdir().expect("temporary folder");
        let file = KeyFile::new(home.path().join("keys.json"));
        let keyring = Keyring::open(Some(file.clone())).expect("opens");
        (home, file, keyring)
    }

    #[test]
    fn a_key_is_found_by_what_was_sent_and_by_nothing_else() {
        let (_home, file, keyring) = keyring();
        assert!(!keyring.are_needed());
        let secret = file.add("ci", KeyTerms::default()).expect("adds");
        keyring.look().expect("reads");
        assert!(keyring.are_needed());
        assert_eq!(keyring.find(secret.text().as_bytes()).expect("is there").name(), "ci");
        let digest = secret.digest().to_string();
        for wrong in ["", "sk-samovar-", &digest, &format!("{} ", secret.text()), "x"] {
            assert!(keyring.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_was_removed_or_replaced_ends_and_its_name_keeps_what_it_used() {
        let (_home, file, keyring) = keyring();
        let terms = KeyTerms { requests_per_minute: Some(1), ..KeyTerms::default() };
        let first = file.add("ci", terms).expect("adds");
        keyring.look().expect("reads");
        let before = keyring.find(first.text().as_bytes()).expect("is there");
        before.begin().expect("is let in");
        let second = file.rotate("ci").expect("rotates");
        keyring.look().expect("reads");
        assert!(before.check_validity().is_err());
        assert!(keyring.find(first.text().as_bytes()).is_none());
        let after = keyring.find(second.text().as_bytes()).expect("is there");
        assert!(after.check_validity().is_ok());
        assert!(after.begin().is_err(), "a new key is no new minute");
        file.remove("ci").expect("removes");
        keyring.look().expect("reads");
        assert!(after.check_validity().is_err() && !keyring.are_needed());
    }

    #[tokio::test]
    async fn a_key_that_another_process_removes_ends_while_requests_run() {
        let (_home, file, _) = keyring();
        let secret = file.add("ci", KeyTerms::default()).expect("adds");
        let keyring = Arc::new(Keyring::open(Some(file.clone())).expect("opens"));
        let account = keyring.find(secret.text().as_bytes()).expect("is there");
        let _watch = KeyWatch::every(Duration::from_millis(1), keyring).expect("starts");
        file.remove("ci").expect("removes");
        account.invalid().await;
        assert!(KeyWatch::start(Arc::new(Keyring::default())).is_none(), "there is no file");
    }

    #[test]
    fn a_server_that_others_reach_needs_a_key_also_after_the_last_one_was_removed() {
        let (_home, file, mut keyring) = keyring();
        keyring.expose();
        file.add("ci", KeyTerms::default()).expect("adds");
        keyring.look().expect("reads");
        file.remove("ci").expect("removes");
        keyring.look().expect("reads");
        assert!(keyring.is_empty() && keyring.are_needed());
    }

    #[test]
    fn a_damaged_file_leaves_the_last_good_keys_in_force_and_is_told_once() {
        let (_home, file, keyring) = keyring();
        let secret = file.add("ci", KeyTerms::default()).expect("adds");
        keyring.look().expect("reads");
        let account = keyring.find(secret.text().as_bytes()).expect("is there");
        fs_err::write(file.path(), "{").expect("writes");
        assert!(keyring.look().is_err());
        assert!(keyring.look().is_ok(), "told already");
        fs_err::remove_file(file.path()).expect("removes");
        assert!(keyring.look().is_ok());
        assert!(account.check_validity().is_ok() && keyring.are_needed());
        assert!(keyring.find(secret.text().as_bytes()).is_some());
        fs_err::write(file.path(), "{").expect("writes");
        assert!(Keyring::open(Some(file)).is_err(), "at the start there are no previous keys");
    }

    #[test]
    fn each_of_a_thousand_keys_is_found_and_not_all_are_labels() {
        const KEYS: u32 = 1_000;
        let secrets: Vec<Secret> = (0..KEYS).map(|_| Secret::new().expect("made")).collect();
        let keyring = Keyring::default();
        let record = |(number, secret): (usize, &Secret)| {
            KeyRecord::new(&format!("key-{number}"), secret.digest(), KeyTerms::default())
        };
        keyring.install(secrets.iter().enumerate().map(record).collect());
        assert_eq!(keyring.len(), KEYS as usize);
        let labels: HashSet<String> =
            keyring.table().accounts.values().map(|account| account.label().to_owned()).collect();
        assert_eq!(labels.len(), LABELS_MAX + 1);
        for (number, secret) in secrets.iter().enumerate() {
            let found = keyring.find(secret.text().as_bytes()).expect("is there");
            assert_eq!(found.name(), format!("key-{number}"));
        }
    }
}
