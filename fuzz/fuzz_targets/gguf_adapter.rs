//! The gate for adapters must refuse or accept any bytes for a model: no panic, no hang, no gigabytes. What it accepts
//! lies within its file, and is no model.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use samovar_core::format::gguf::{inspect_adapter_reader, inspect_reader, limits};
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{Descriptor, Failure};

/// The model that all of them are to change.
static BASE: LazyLock<Descriptor> = LazyLock::new(|| {
    let bytes = llama(LlamaShape::TINY).build();
    inspect_reader(Cursor::new(&bytes), bytes.len() as u64).expect("a sound model")
});

fuzz_target!(|bytes: &[u8]| {
    // Once as the file is, once as a file that was cut while it was read.
    for file_bytes in [bytes.len() as u64, 1 << 40] {
        match inspect_adapter_reader(Cursor::new(bytes), file_bytes, &BASE) {
            Ok(header) => {
                assert!(header.tensor_bytes <= header.file_bytes && header.file_bytes == file_bytes);
                assert!(header.matrices > 0 && u64::from(header.matrices) * 2 <= limits::ADAPTER_TENSORS);
                assert!(header.alpha.is_none_or(f32::is_finite));
                assert!(inspect_reader(Cursor::new(bytes), file_bytes).is_err());
            }
            Err(error) => assert!(Failure::from(error).message.len() < 4096),
        }
    }
});
