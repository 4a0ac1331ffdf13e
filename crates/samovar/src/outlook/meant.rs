//! Which variant a name means already, so that none is chosen for it; and whether that is worth fetching.

use std::slice;

use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, Format, Quantization};
use samovar_store::{FetchPlan, Store};

use super::sizes::{self, SizedVariant, VariantForm};
use crate::catalog::{Catalog, Remote, artifact_choice};
use crate::engine_choice::EngineChoice;
use crate::runtime::blocking;

/// The place of the variant that a name means already, and why as a sentence: it was chosen for the name, by its settings, by an
/// order or by a fetch.
pub(super) async fn meant(
    store: &Store,
    remote: &Remote,
    plans: &[FetchPlan],
    sized: &[SizedVariant],
) -> Result<Option<(usize, String)>, Failure> {
    let (looking, reference) = (store.clone(), remote.reference.clone());
    let memos: Vec<String> = plans.iter().map(|plan| artifact_choice(&plan.listing.key)).collect();
    let look = move || {
        let formats = memos.iter().map(|memo| looking.recall(memo).ok().flatten());
        let formats: Vec<Option<String>> = formats.collect();
        (looking.chosen(&reference).ok().flatten(), formats)
    };
    let (chosen, formats) = blocking(look).await?;
    let set = remote.settings.quantization.map(Quantization::as_str);
    let is_meant = |variant: &SizedVariant| match variant.form {
        VariantForm::Mapped => chosen.as_ref() == Some(plans[variant.plan].reference()),
        VariantForm::Prepared => {
            set.or(formats[variant.plan].as_deref()) == Some(variant.quantization.as_str())
        }
        VariantForm::Published => false,
    };
    let Some(place) = sized.iter().position(is_meant) else { return Ok(None) };
    let is_set = sized[place].form == VariantForm::Prepared && set.is_some();
    let why =
        if is_set { "the name's settings say so" } else { "the name means this one since it was chosen" };
    Ok(Some((place, why.to_owned())))
}

/// Refuses a published model, before it is fetched for a request, that would be refused afterwards: in the format that it would be
/// prepared in, it is larger than the budget.
///
/// # Errors
/// `TooLarge`. What cannot be judged passes.
pub(crate) async fn check_published(
    store: &Store,
    catalog: &Catalog,
    remote: &Remote,
    plan: &FetchPlan,
) -> Result<(), Failure> {
    let is_published = sizes::format_of(plan) == Some(Format::Safetensors);
    if !is_published || remote.settings.engine == Some(EngineChoice::Candle) {
        return Ok(());
    }
    let plans = slice::from_ref(plan);
    let sized = sizes::variants(store, catalog, plans).await;
    let meant = meant(store, remote, plans, &sized).await?.map(|(place, _)| place);
    let is_usual = |variant: &SizedVariant| {
        variant.form == VariantForm::Prepared && variant.quantization == Quantization::default().as_str()
    };
    let Some(place) = meant.or_else(|| sized.iter().position(is_usual)) else { return Ok(()) };
    let SizedVariant { quantization, bytes, .. } = &sized[place];
    let budget_bytes = catalog.budget_bytes();
    if *bytes <= budget_bytes {
        return Ok(());
    }
    let [needed, budget] = [*bytes, budget_bytes].map(ByteSize::from_bytes);
    let message = format!(
        "{} as {quantization} needs {needed} of memory, and the budget is {budget}; nothing was fetched",
        remote.reference
    );
    Err(Failure::new(ErrorKind::TooLarge, message).with_param("model").with_hint(
        "set a smaller `quantization`, such as Q4_K_M, or raise pool.budget_bytes; `samovar pull` fetches it all the same",
    ))
}
