//! Tells the crate which compiler builds the native code, and whether its AMX code can be trusted.
//!
//! The native code itself is built by `llama-cpp-sys-2`; `build-support/` steers that build.

#![allow(clippy::disallowed_methods, reason = "a build script is told everything through its environment")]

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CMAKE_PROJECT_INCLUDE");
    println!("cargo:rerun-if-env-changed=CXX");
    let compiler = compiler();
    let is_worked_around =
        env::var("CMAKE_PROJECT_INCLUDE").is_ok_and(|path| path.ends_with("native-build.cmake"));
    let is_sound =
        is_worked_around || compiler.as_ref().is_some_and(|(family, version)| !is_faulty(family, version));
    let name =
        compiler.map_or_else(|| "unknown".to_owned(), |(family, version)| format!("{family} {version}"));
    println!("cargo:rustc-env=SAMOVAR_CXX={name}");
    println!("cargo:rustc-env=SAMOVAR_AMX_IS_SOUND={is_sound}");
}

/// Family and version of the C++ compiler that CMake will find.
fn compiler() -> Option<(&'static str, String)> {
    let program = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let ask = |argument| {
        let output = Command::new(&program).arg(argument).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let banner = ask("--version")?;
    let family = if banner.contains("clang") { "Clang" } else { "GNU" };
    let version = if family == "GNU" {
        ask("-dumpfullversion")?
    } else {
        banner.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?.to_owned()
    };
    Some((family, version))
}

/// GCC PR114098: fixed in 11.5, 12.4, 13.3 and 14.1.
fn is_faulty(family: &str, version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
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
