//! The GGUF gate must refuse or accept any bytes: no panic, no hang, no gigabytes. What it takes as a model
//! in one file, it takes as the same with the split ones.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use samovar_core::Failure;
use samovar_core::format::gguf::{inspect_header, inspect_reader};

fuzz_target!(|bytes: &[u8]| {
    // Once as the file is, once as a file that was cut while it was read.
    for file_bytes in [bytes.len() as u64, 1 << 40] {
        let header = inspect_header(Cursor::new(bytes), file_bytes);
        match inspect_reader(Cursor::new(bytes), file_bytes) {
            Ok(descriptor) => {
                assert!(descriptor.tensor_bytes <= file_bytes);
                assert!((1..=512).contains(&descriptor.blocks));
                assert!(header.is_ok_and(|header| header.split.is_none() && header.descriptor == descriptor));
            }
            Err(error) => assert!(Failure::from(error).message.len() < 4096),
        }
    }
});
