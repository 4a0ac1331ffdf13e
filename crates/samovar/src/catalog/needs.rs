//! What a model needs beside it: from the names that its owner wrote to specifications.
//!
//! Names are followed through the needs of needs. A model that would need itself in the end is refused, and so is a
//! chain longer than any owner means to write.

use std::sync::Arc;

use samovar_core::{ErrorKind, Failure, ModelKey};
use samovar_pool::ModelSpec;

use super::Catalog;
use super::names::Names;
use super::published::Looked;
use super::target::{Absent, Target};
use crate::request::Origin;

/// Names in one chain of needs.
const CHAIN_MAX: usize = 8;

/// Where a need leads.
pub(super) enum Need {
    /// To a model that can be loaded, with all that it needs itself.
    Local(Arc<ModelSpec>),
    /// To one that has to be fetched or prepared first.
    Absent(Box<Absent>),
}

/// Where all needs of a model lead.
pub(super) enum Needs {
    /// To models that can be loaded.
    Local(Vec<Arc<ModelSpec>>),
    /// To one that has to be fetched or prepared first.
    Absent(Box<Absent>),
}

impl Catalog {
    /// All that the model of this key needs; where one of those has to be fetched or prepared first, that one.
    pub(super) fn needs(&self, target: &Target, key: &ModelKey, chain: &[&str]) -> Result<Needs, Failure> {
        let mut needs = Vec::new();
        for name in &target.settings.needs {
            match self.need(&target.names, name, chain)? {
                Need::Local(need) if need.key == *key => {
                    return Err(wrong(chain, &format!("`{name}` is the same model under another name")));
                }
                Need::Local(need) => needs.push(need),
                Need::Absent(absent) => return Ok(Needs::Absent(absent)),
            }
        }
        Ok(Needs::Local(needs))
    }

    fn need(&self, names: &Arc<Names>, name: &str, chain: &[&str]) -> Result<Need, Failure> {
        let longer = [chain, &[name]].concat();
        if chain.contains(&name) {
            return Err(wrong(chain, &format!("`{}` is a circle", longer.join("` needs `"))));
        }
        if longer.len() > CHAIN_MAX {
            return Err(wrong(chain, &format!("`{}` is too long a chain", longer.join("` needs `"))));
        }
        // The owner wrote the name, whichever client asks for the model.
        let target = self.target(names, name, Origin::Owner).map_err(|failure| {
            let needing = chain.last().copied().unwrap_or_default();
            let message = format!("`{needing}` needs `{name}`: {}", failure.message);
            failure.with_message(message)
        })?;
        let facts = match self.look(&target, None)? {
            Looked::Here(facts) => facts,
            Looked::Absent(absent) => return Ok(Need::Absent(Box::new(absent))),
        };
        self.specified(&target, &facts, None, &longer)
    }
}

fn wrong(chain: &[&str], what: &str) -> Failure {
    let name = chain.last().copied().unwrap_or_default();
    Failure::new(ErrorKind::InvalidRequest, format!("the needs of `{name}` can not be met: {what}"))
        .with_param("model")
        .with_hint(format!("change `needs` under [models.{name}] in samovar.toml"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use samovar_core::footprint::{Layout, LayoutWish};
    use samovar_core::port::Engine;
    use samovar_core::testing::fake::{FakeEngine, Script};
    use samovar_pool::{Budget, PoolConfig};
    use samovar_store::StoreConfig;

    use super::*;
    use crate::catalog::specify::Planned;
    use crate::catalog::{AdapterRegistry, Changes, NameBook, NameSource};
    use crate::experience::Experience;
    use crate::lazy_store::LazyStore;
    use crate::packed::{LayoutRegistry, Made};
    use crate::settings::{Alias, ModelSettings};

    const MADE: Made = Made { bytes: 1, unix_ms: 1 };

    /// A catalog whose models are packed as soon as they can be, and the demo model in it.
    fn catalog(home: &std::path::Path) -> (Catalog, Target) {
        let defaults = ModelSettings { layout: Some(LayoutWish::Packed), ..ModelSettings::default() };
        let catalog = catalog_of(home, NameBook::new(Vec::new(), defaults, None));
        let target = catalog.target(&catalog.names_now(), "demo", Origin::Owner).unwrap();
        (catalog, target)
    }

    fn catalog_of(home: &std::path::Path, names: NameBook) -> Catalog {
        let mut config = StoreConfig::new(home.join("cache"), home.join("state"));
        config.min_free_bytes = 0;
        let lazy_store = Arc::new(LazyStore::new(config));
        let script = Script { packing: Some("this machine".to_owned()), ..Script::default() };
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::builder().script(script).build());
        let pool = PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() });
        let layout_registry =
            Arc::new(LayoutRegistry::new(Arc::clone(&lazy_store), Arc::clone(&engine), pool.budget.bytes));
        let adapter_registry = Arc::new(AdapterRegistry::default());
        let experience = Arc::new(Experience::new(Arc::clone(&lazy_store)));
        Catalog::new(lazy_store, names, &pool, engine, adapter_registry, layout_registry, experience)
    }

    fn planned(catalog: &Catalog, target: &Target) -> Planned {
        let facts = catalog.facts_of(target).unwrap();
        catalog.planned(target, &facts, None, None).unwrap()
    }

    /// Settings of every model, once the owner has changed them.
    #[derive(Default)]
    struct Written(Mutex<Option<ModelSettings>>);

    impl NameSource for Written {
        fn changed(&self) -> Option<(Vec<Alias>, ModelSettings)> {
            Some((Vec::new(), self.0.lock().unwrap().take()?))
        }

        fn changes(&self) -> Result<Changes, Failure> {
            Ok(Changes::default())
        }
    }

    #[test]
    fn settings_that_change_while_a_model_is_looked_at_count_for_the_next_who_asks() {
        let home = tempfile::tempdir().unwrap();
        let of = |context_tokens: u32| ModelSettings {
            context_tokens: Some(context_tokens),
            ..ModelSettings::default()
        };
        let written = Arc::new(Written::default());
        let source: Arc<dyn NameSource> = Arc::<Written>::clone(&written);
        let catalog = catalog_of(home.path(), NameBook::new(Vec::new(), of(256), Some(source)));
        let look = || {
            let target = catalog.target(&catalog.names_now(), "demo", Origin::Owner).unwrap();
            move |catalog: &Catalog| planned(catalog, &target).options.context_tokens
        };
        let before = look();
        *written.0.lock().unwrap() = Some(of(128));
        let after = look();
        assert_eq!(before(&catalog), 256, "what it was asked under");
        assert_eq!(after(&catalog), 128);
        assert_eq!(look()(&catalog), 128);
    }

    #[test]
    fn what_becomes_known_of_a_model_counts_for_the_next_who_asks() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, target) = catalog(home.path());
        let before = planned(&catalog, &target);
        assert_eq!(before.options.layout, Layout::Mapped);
        let subject = catalog.layout_registry.subject(&before.key).unwrap();
        catalog.layout_registry.made(&subject, MADE, None);
        let after = planned(&catalog, &target);
        assert_eq!((after.options.layout, &after.key), (Layout::Packed, &before.key));
    }

    #[test]
    fn facts_are_read_once_and_those_of_a_changed_file_are_others() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, demo) = catalog(home.path());
        let facts = catalog.facts_of(&demo).unwrap();
        assert!(Arc::ptr_eq(&facts, &catalog.facts_of(&demo).unwrap()));
        let path = home.path().join("copy.gguf");
        fs_err::write(&path, fs_err::read(facts.files.main()).unwrap()).unwrap();
        let path = fs_err::canonicalize(path).unwrap();
        let copy = || {
            let name = path.to_string_lossy();
            let target = catalog.target(&catalog.names_now(), &name, Origin::Owner).unwrap();
            catalog.facts_of(&target).unwrap()
        };
        let first = copy();
        assert!(Arc::ptr_eq(&first, &copy()));
        let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
        file.file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let second = copy();
        assert_ne!((first.weights, &first.identity), (second.weights, &second.identity));
        assert_eq!(first.descriptor, second.descriptor);
    }
}
