//! Has the linker compress what backtraces are read from: it is half of the program, and read only when one is written.

#![allow(clippy::disallowed_methods, reason = "cargo tells build scripts of the target by variables")]
#![allow(clippy::print_stdout, reason = "and they answer by printing")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    }
}
