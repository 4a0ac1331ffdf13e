//! A model reference that was read is shown so that it reads as the same, and names no place but its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_core::model::ModelRef;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ModelRef>() {
        let shown = reference.to_string();
        assert_eq!(shown.parse::<ModelRef>().as_ref(), Ok(&reference), "shown as {shown:?}");
        let names = match &reference {
            ModelRef::Hub(hub) => {
                hub.file().map_or_else(Vec::new, |file| file.split('/').map(str::to_owned).collect())
            }
            ModelRef::Remote(remote) => vec![remote.file_name()],
            ModelRef::Demo | ModelRef::File(_) | ModelRef::Alias(_) => Vec::new(),
        };
        for name in names {
            let is_plain = !name.is_empty() && !name.contains("..") && !name.contains(['/', '\\', '\0']);
            assert!(is_plain, "{shown:?} names {name:?}");
        }
    }
});
