//! What a model needs beside it: from the names that its owner wrote to specifications.
//!
//! Names are followed through the needs of needs. A model that would need itself in the end is refused, and so is a
//! chain longer than anybody means to write.

use std::sync::Arc;

use samovar_core::{ErrorKind, Failure};
use samovar_pool::ModelSpec;

use super::names::Names;
use super::target::{Place, Target};
use super::{Away, Catalog};
use crate::request::Origin;

/// Names in one chain of needs.
const CHAIN_MAX: usize = 8;

/// Where a need leads.
pub(super) enum Need {
    /// To a model that can be loaded, with all that it needs itself.
    Here(Arc<ModelSpec>),
    /// To one that has to be fetched first.
    Away(Box<Away>),
}

impl Catalog {
    /// The model with all that it needs; where one of those has to be fetched first, that one.
    pub(super) fn with_needs(
        &self,
        spec: Arc<ModelSpec>,
        target: &Target,
        chain: &[&str],
    ) -> Result<Need, Failure> {
        if target.settings.needs.is_empty() {
            return Ok(Need::Here(spec));
        }
        let mut needs = Vec::new();
        for name in &target.settings.needs {
            match self.need(&target.names, name, chain)? {
                Need::Here(need) if need.key == spec.key => {
                    return Err(wrong(chain, &format!("`{name}` is the same model under another name")));
                }
                Need::Here(need) => needs.push(need),
                away @ Need::Away(_) => return Ok(away),
            }
        }
        let is_known = spec.needs.len() == needs.len()
            && spec.needs.iter().zip(&needs).all(|(known, need)| Arc::ptr_eq(known, need));
        if is_known {
            return Ok(Need::Here(spec));
        }
        Ok(Need::Here(self.remember_needs(target, &spec, needs)))
    }

    fn need(&self, names: &Arc<Names>, name: &str, chain: &[&str]) -> Result<Need, Failure> {
        let longer = [chain, &[name]].concat();
        if chain.contains(&name) {
            return Err(wrong(chain, &format!("`{}` is a circle", longer.join("` needs `"))));
        }
        if longer.len() > CHAIN_MAX {
            return Err(wrong(chain, &format!("`{}` is too long a chain", longer.join("` needs `"))));
        }
        // The owner wrote the name, whoever asks for the model.
        let target = self.target(names, name, Origin::Owner).map_err(|failure| Failure {
            message: format!(
                "`{}` needs `{name}`: {}",
                chain.last().copied().unwrap_or_default(),
                failure.message
            ),
            ..failure
        })?;
        match &target.place {
            Place::Away(reference) => {
                let away = Away { reference: reference.clone(), settings: target.settings.clone() };
                Ok(Need::Away(Box::new(away)))
            }
            _ => self.with_needs(self.specify(&target)?, &target, &longer),
        }
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
    use crate::catalog::{Changes, NameBook, NameSource, Riders};
    use crate::packed::{Made, Packings};
    use crate::settings::{Alias, ModelSettings};
    use crate::shelf::Shelf;

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
        let shelf = Arc::new(Shelf::new(config));
        let script = Script { packing: Some("this machine".to_owned()), ..Script::default() };
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::builder().script(script).build());
        let pool = PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() });
        let packings = Arc::new(Packings::new(Arc::clone(&shelf), Arc::clone(&engine), pool.budget.bytes));
        let riders = Arc::new(Riders::default());
        Catalog::new(shelf, names, &pool, engine, riders, packings)
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
            move |catalog: &Catalog| catalog.specify(&target).unwrap().options.context_tokens
        };
        let before = look();
        *written.0.lock().unwrap() = Some(of(128));
        let after = look();
        assert_eq!(before(&catalog), 256, "what it was asked under");
        assert_eq!(after(&catalog), 128);
        assert_eq!(look()(&catalog), 128);
    }

    #[test]
    fn needs_are_put_beside_what_else_was_learned_meanwhile() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, target) = catalog(home.path());
        let before = catalog.specify(&target).unwrap();
        let subject = catalog.packings.subject(&before.key).unwrap();
        catalog.packings.made(&subject, MADE, None);
        assert_eq!(catalog.specify(&target).unwrap().options.layout, Layout::Packed);
        // Whoever looked before that comes with the needs only now.
        let need = Arc::clone(&before);
        let spec = catalog.remember_needs(&target, &before, vec![need]);
        assert_eq!((spec.needs.len(), spec.options.layout), (1, Layout::Packed));
        assert!(Arc::ptr_eq(&catalog.specify(&target).unwrap(), &spec));
    }

    #[test]
    fn what_becomes_known_while_a_model_is_looked_at_counts_from_the_next_look_on() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, target) = catalog(home.path());
        let Place::Stored(artifact) = &target.place else { panic!("the demo model is the store's") };
        let edition = catalog.packings.edition();
        let spec = catalog.specify_stored(&target, artifact).unwrap();
        let subject = catalog.packings.subject(&spec.key).unwrap();
        catalog.packings.made(&subject, MADE, None);
        assert_eq!(catalog.meet(&target, None, spec, edition).options.layout, Layout::Mapped);
        assert_eq!(catalog.specify(&target).unwrap().options.layout, Layout::Packed);
    }
}
