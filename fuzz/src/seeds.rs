//! Writes the sound and the malformed files of the core's corpus as seeds for `gguf_inspect`, and sound adapters for
//! `gguf_adapter`.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use samovar_core::format::gguf::inspect_reader;
use samovar_core::testing::corpus;
use samovar_core::testing::gguf::{LlamaShape, llama, lora};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf_inspect");
    fs::create_dir_all(&folder)?;
    let malformed = corpus::malformed().into_iter().map(|file| (file.name, file.bytes));
    for (name, bytes) in corpus::valid().into_iter().chain(malformed) {
        fs::write(folder.join(name), bytes)?;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf_adapter");
    fs::create_dir_all(&folder)?;
    let model = llama(LlamaShape::TINY).build();
    let base = inspect_reader(Cursor::new(&model), model.len() as u64).map_err(io::Error::other)?;
    fs::write(folder.join("a-model"), &model)?;
    for rank in [1, 4] {
        fs::write(folder.join(format!("rank-{rank}")), lora(&base, rank).build())?;
    }
    Ok(())
}
