//! A model reference that was read is shown so that it reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_core::model::ModelRef;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ModelRef>() {
        let shown = reference.to_string();
        assert_eq!(shown.parse::<ModelRef>().as_ref(), Ok(&reference), "shown as {shown:?}");
    }
});
