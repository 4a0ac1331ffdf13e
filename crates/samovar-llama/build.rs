//! Tells the crate which compiler built the native code, and whether its AMX code can be trusted.
//!
//! The native code itself is built by `llama-cpp-sys-2`; `build-support/` steers that build through the
//! environment that `.cargo/config.toml` sets. What came of it is read from `CMake`'s own record.

#![allow(clippy::disallowed_methods, reason = "a build script is told everything through its environment")]

use std::fs;
use std::path::{Path, PathBuf};
use std::{env, io};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/packed/tensors.cpp");
    // By the compiler that the environment names, or the system's: it shares its C++ library with that of the
    // native code, and no structure of llama.cpp's.
    cc::Build::new().cpp(true).std("c++17").file("src/packed/tensors.cpp").compile("samovar_tensors");
    let record = env::var_os("DEP_LLAMA_ROOT").map(|root| PathBuf::from(root).join("build"));
    let compiler = record.as_deref().and_then(compiler);
    let is_repaired = record.as_deref().is_some_and(is_repaired);
    let is_sound =
        is_repaired || compiler.as_ref().is_some_and(|(family, version)| !is_faulty(family, version));
    let name =
        compiler.map_or_else(|| "unknown".to_owned(), |(family, version)| format!("{family} {version}"));
    println!("cargo:rustc-env=SAMOVAR_CXX={name}");
    println!("cargo:rustc-env=SAMOVAR_AMX_IS_SOUND={is_sound}");
}

/// Family and version of the C++ compiler, as `CMake` found them.
fn compiler(record: &Path) -> Option<(String, String)> {
    let folders = fs::read_dir(record.join("CMakeFiles")).ok()?;
    let file = folders
        .filter_map(Result::ok)
        .map(|folder| folder.path().join("CMakeCXXCompiler.cmake"))
        .find(|file| file.is_file())?;
    let text = read(&file).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("set({name} \"")))?;
        Some(line.split('"').next()?.to_owned())
    };
    Some((value("CMAKE_CXX_COMPILER_ID")?, value("CMAKE_CXX_COMPILER_VERSION")?))
}

/// Whether the native code was compiled with the repaired intrinsic.
fn is_repaired(record: &Path) -> bool {
    read(&record.join("compile_commands.json")).is_ok_and(|commands| commands.contains("amx-repair.h"))
}

fn read(file: &Path) -> io::Result<String> {
    println!("cargo:rerun-if-changed={}", file.display());
    fs::read_to_string(file)
}

/// GCC PR114098: fixed in 11.5, 12.4, 13.3 and 14.1.
fn is_faulty(family: &str, version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    family == "GNU"
        && match major {
            0..=10 => true,
            11 => minor < 5,
            12 => minor < 4,
            13 => minor < 3,
            _ => false,
        }
}
