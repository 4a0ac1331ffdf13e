//! Writes the sound and the malformed files of the core's corpus as seeds for `gguf_inspect`.

use std::fs;
use std::io;
use std::path::Path;

use samovar_core::testing::corpus;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf_inspect");
    fs::create_dir_all(&folder)?;
    let malformed = corpus::malformed().into_iter().map(|file| (file.name, file.bytes));
    for (name, bytes) in corpus::valid().into_iter().chain(malformed) {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
