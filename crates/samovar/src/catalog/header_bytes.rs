//! The beginning of a model that is still at its source: enough to say whether it could ever be loaded here, and what that takes.

use std::sync::atomic::Ordering;

use samovar_core::footprint::{Footprint, LoadOptions};
use samovar_core::{Descriptor, ErrorKind, Failure, ModelRef, format};

use super::Catalog;
use super::specify::{self, larger_context, without_packed_file};
use super::target::Remote;
use crate::settings::ModelSettings;

/// The first bytes of a model's first file.
pub(crate) struct HeaderBytes<'a> {
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    /// Bytes of that file.
    pub(crate) file_bytes: u64,
    /// Bytes of all the model's files together.
    pub(crate) total_bytes: u64,
}

/// What the beginning says of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing speaks against fetching the rest.
    MayFit,
    /// The header is longer than what was given.
    NeedsMore {
        /// So many of the first bytes tell more.
        needed_bytes: u64,
    },
}

impl HeaderBytes<'_> {
    /// The whole model's facts, or how many of its first bytes it takes to know more.
    pub(crate) fn descriptor(&self) -> Result<Result<Descriptor, u64>, Failure> {
        match format::inspect_head(self.bytes, self.file_bytes)? {
            format::Head::Whole(mut descriptor) => {
                let others_bytes = self.total_bytes.saturating_sub(self.file_bytes);
                descriptor.file_bytes += others_bytes;
                descriptor.tensor_bytes += others_bytes;
                Ok(Ok(*descriptor))
            }
            format::Head::NeedsMore { needed_bytes } => Ok(Err(needed_bytes)),
        }
    }
}

impl Catalog {
    /// What a name is fetched from, and under which settings, whether it is here or not.
    ///
    /// # Errors
    /// `InvalidRequest` for a name that means nothing that is fetched.
    pub(crate) fn remote(&self, name: &str) -> Result<Remote, Failure> {
        let names = self.names_now();
        let (meaning, settings) = match names.aliases.get(name) {
            Some(alias) => (alias.source.clone(), alias.settings.or(&names.defaults)),
            None => (name.parse::<ModelRef>()?, names.defaults.clone()),
        };
        let reference = meaning.artifact().ok_or_else(|| {
            Failure::new(ErrorKind::InvalidRequest, format!("`{name}` is not fetched from a source"))
                .with_param("model")
                .with_hint("name a model of a source, such as organisation/name")
        })?;
        Ok(Remote { reference, settings, asked_context: None })
    }

    /// How a model with these facts would be loaded under the settings of a name, and what that would take: with so many tokens
    /// of context, as far as it can have them, or with those of the name.
    ///
    /// # Errors
    /// Whatever the engine says of such a model.
    pub(crate) fn foresee(
        &self,
        descriptor: &Descriptor,
        remote: &Remote,
        context_tokens: Option<u32>,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        let context_tokens = context_tokens.or(remote.settings.context_tokens);
        let settings = ModelSettings { context_tokens, ..remote.settings.clone() };
        let layout = without_packed_file(&settings);
        specify::plan(&*self.engine, self.machine(), descriptor, &settings, None, None, layout)
    }

    /// Memory that all models may use together, in bytes.
    pub(crate) fn budget_bytes(&self) -> u64 {
        self.machine().budget_bytes
    }

    /// The part of it that a model may have which is prepared for a request, in bytes.
    pub(crate) fn soft_bytes(&self) -> u64 {
        self.soft_bytes.load(Ordering::Relaxed)
    }

    /// The cores that this process has.
    pub(crate) const fn cores(&self) -> u32 {
        self.cores
    }

    /// Whether models can be prepared here that no engine maps as they are.
    pub(crate) fn prepares(&self) -> bool {
        self.engine.preparer().is_some()
    }

    /// Refuses a model that could never be loaded here, or not with the context that is asked for, judged by the first bytes
    /// of its first file, before the rest is fetched.
    pub(crate) fn judge(
        &self,
        remote: &Remote,
        header_bytes: &HeaderBytes<'_>,
    ) -> Result<Judgement, Failure> {
        let descriptor = match header_bytes.descriptor()? {
            Ok(descriptor) => descriptor,
            Err(needed_bytes) => return Ok(Judgement::NeedsMore { needed_bytes }),
        };
        let (settings, machine) = (&remote.settings, self.machine());
        let larger_context = larger_context(&*self.engine, &descriptor, settings, remote.asked_context)?;
        let layout = without_packed_file(settings);
        let (_, footprint) =
            specify::plan(&*self.engine, machine, &descriptor, settings, None, larger_context, layout)?;
        let budget_bytes = machine.budget_bytes;
        if footprint.total_bytes() <= budget_bytes {
            return Ok(Judgement::MayFit);
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(Failure::new(
            ErrorKind::TooLarge,
            format!(
                "{} would need {} MiB of memory and the budget is {} MiB; nothing was fetched",
                remote.reference,
                mib(footprint.total_bytes()),
                mib(budget_bytes)
            ),
        )
        .with_param("model")
        .with_hint("take a smaller quantization, less context_tokens, or raise pool.budget_bytes; `samovar pull` fetches it all the same"))
    }
}
