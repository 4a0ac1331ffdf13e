//! Floors: a crate depends on those below it and never on its neighbour, and a heavy dependency has one home.

use std::path::Path;

use cargo_metadata::{Dependency, DependencyKind, Metadata, Package};

use super::Finding;

/// A server for tests; a program of ours that contained it would be a mistake.
const TEST_HUB: &str = "samovar-testhub";

/// Which of our crates each of our crates may depend on. An edge that is not here is a broken wall.
const FLOORS: [(&str, &[&str]); 15] = [
    ("samovar-core", &[]),
    ("samovar-grammar", &["samovar-core"]),
    ("samovar-prompt", &["samovar-core"]),
    ("samovar-convert", &["samovar-core"]),
    ("samovar-pool", &["samovar-core"]),
    ("samovar-store", &["samovar-core"]),
    ("samovar-llama", &["samovar-core", "samovar-grammar", "samovar-prompt"]),
    ("samovar-candle", &["samovar-convert", "samovar-core", "samovar-prompt"]),
    ("samovar-worker", &["samovar-core"]),
    (
        "samovar",
        &[
            "samovar-convert",
            "samovar-core",
            "samovar-pool",
            "samovar-store",
            "samovar-llama",
            "samovar-candle",
            "samovar-worker",
        ],
    ),
    ("samovar-chat", &["samovar-core", "samovar"]),
    ("samovar-server", &["samovar-core", "samovar", "samovar-chat"]),
    ("samovar-cli", &["samovar-core", "samovar", "samovar-chat", "samovar-server"]),
    (TEST_HUB, &["samovar-core"]),
    ("xtask", &[]),
];

/// Dependencies from outside that only some crates may have, with the reason.
const HOMES: [(&str, &[&str], &str); 15] = [
    ("llama-cpp-2", &["samovar-llama"], "one crate holds the FFI"),
    ("llama-cpp-sys-2", &["samovar-llama"], "one crate holds the FFI"),
    ("candle-core", &["samovar-candle"], "a heavy build stays optional"),
    ("candle-nn", &["samovar-candle"], "a heavy build stays optional"),
    ("candle-transformers", &["samovar-candle"], "others' models are for its tests"),
    ("tokenizers", &["samovar-candle"], "texts are tokenized beside the model"),
    ("llguidance", &["samovar-grammar"], "grammars are compiled beside the model, with bounds"),
    ("toktrie", &["samovar-grammar"], "grammars are compiled beside the model, with bounds"),
    (
        "rusqlite",
        &["samovar-chat", "samovar-store"],
        "the index is the store's memo, conversations are the chat's",
    ),
    ("axum", &["samovar-server"], "wire types never leak inward"),
    ("reqwest", &["samovar-store"], "only sources reach the network"),
    ("minijinja", &["samovar-prompt"], "templates are rendered beside the model, with bounds"),
    ("minijinja-contrib", &["samovar-prompt"], "templates are rendered beside the model, with bounds"),
    ("clap", &["samovar-cli", "samovar-testhub", "xtask"], "configuration enters through settings"),
    ("anyhow", &["samovar-cli", "samovar-testhub", "xtask"], "libraries have typed errors"),
];

/// Features of tokio that would put a runtime or a network into the core.
const NOT_IN_CORE: [&str; 6] = ["full", "net", "process", "rt", "rt-multi-thread", "fs"];

/// Compares the edges that cargo knows with the tables.
pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    metadata.packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let manifest = Path::new(package.manifest_path.as_str());
    let found = |what: String| Finding::in_file(manifest, what);
    let Some((name, allowed)) = FLOORS.iter().find(|(name, _)| *name == package.name.as_str()) else {
        return vec![found(format!(
            "crate {} has no floor; give it one in xtask/src/tidy/floors.rs",
            package.name
        ))];
    };
    let broken = package.dependencies.iter().filter_map(|dependency| broken_wall(name, allowed, dependency));
    broken.map(found).collect()
}

fn broken_wall(package: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    let is_ours = name == "xtask" || name == "samovar" || name.starts_with("samovar-");
    // A crate's tests may ask for its own features.
    let is_itself = name == package && dependency.kind == DependencyKind::Development;
    // The test hub stands below all tests and in no program.
    let is_for_tests = name == TEST_HUB && dependency.kind == DependencyKind::Development;
    if is_ours && !is_itself && !is_for_tests && !allowed.contains(&name) {
        return Some(format!("{package} may not depend on {name}"));
    }
    if dependency.kind == DependencyKind::Development {
        return None;
    }
    if let Some((_, homes, reason)) = HOMES.iter().find(|(heavy, ..)| *heavy == name)
        && !homes.contains(&package)
    {
        return Some(format!("{package} may not depend on {name}: {reason}"));
    }
    let runtime = dependency.features.iter().find(|feature| NOT_IN_CORE.contains(&feature.as_str()));
    match runtime {
        Some(feature) if package == "samovar-core" && name == "tokio" => {
            Some(format!("the core has no runtime: tokio's feature {feature}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &str) -> Package {
        let json = format!(
            r#"{{"name":"{name}","version":"0.1.0","id":"{name}","source":null,"dependencies":[{dependencies}],
            "targets":[],"features":{{}},"manifest_path":"Cargo.toml","edition":"2024","keywords":[],"categories":[],
            "authors":[],"metadata":null,"license":null,"license_file":null,"description":null,"readme":null,
            "repository":null,"homepage":null,"documentation":null,"links":null,"publish":null,"default_run":null,
            "rust_version":null}}"#
        );
        serde_json::from_str(&json).expect("package")
    }

    fn dependency(name: &str, kind: &str, features: &str) -> String {
        format!(
            r#"{{"name":"{name}","source":null,"req":"*","kind":{kind},"rename":null,"optional":false,
            "uses_default_features":true,"features":[{features}],"target":null,"registry":null}}"#
        )
    }

    fn findings(name: &str, dependency: &str) -> Vec<String> {
        check_package(&package(name, dependency)).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn neighbours_on_a_floor_never_meet() {
        let edge = dependency("samovar-llama", "null", "");
        assert_eq!(findings("samovar-pool", &edge), ["samovar-pool may not depend on samovar-llama"]);
        assert!(findings("samovar", &edge).is_empty());
    }

    #[test]
    fn tests_obey_the_floors_too_but_may_name_their_own_crate() {
        let edge = dependency("samovar", r#""dev""#, "");
        assert_eq!(findings("samovar-core", &edge), ["samovar-core may not depend on samovar"]);
        assert!(findings("samovar-core", &dependency("samovar-core", r#""dev""#, "")).is_empty());
    }

    #[test]
    fn the_test_hub_is_for_tests_alone() {
        assert_eq!(findings("samovar-cli", &dependency(TEST_HUB, "null", "")).len(), 1);
        assert!(findings("samovar-cli", &dependency(TEST_HUB, r#""dev""#, "")).is_empty());
    }

    #[test]
    fn a_heavy_dependency_has_one_home() {
        let edge = dependency("llama-cpp-2", "null", "");
        assert_eq!(findings("samovar-cli", &edge).len(), 1);
        assert!(findings("samovar-llama", &edge).is_empty());
    }

    #[test]
    fn no_crate_of_the_daemon_renders_a_template() {
        for own in ["samovar", "samovar-server", "samovar-cli", "samovar-worker"] {
            for rendering in ["samovar-prompt", "minijinja", "minijinja-contrib"] {
                assert_eq!(findings(own, &dependency(rendering, "null", "")).len(), 1, "{own} {rendering}");
            }
        }
        assert!(findings("samovar-llama", &dependency("samovar-prompt", "null", "")).is_empty());
    }

    #[test]
    fn no_crate_of_the_daemon_compiles_a_grammar() {
        for own in ["samovar", "samovar-server", "samovar-cli", "samovar-worker"] {
            for compiling in ["samovar-grammar", "llguidance", "toktrie"] {
                assert_eq!(findings(own, &dependency(compiling, "null", "")).len(), 1, "{own} {compiling}");
            }
        }
        assert!(findings("samovar-llama", &dependency("samovar-grammar", "null", "")).is_empty());
        assert!(findings("samovar-grammar", &dependency("llguidance", "null", "")).is_empty());
    }

    #[test]
    fn the_core_has_no_runtime() {
        assert_eq!(findings("samovar-core", &dependency("tokio", "null", r#""sync","rt""#)).len(), 1);
        assert!(findings("samovar-core", &dependency("tokio", "null", r#""sync""#)).is_empty());
        assert!(findings("samovar-pool", &dependency("tokio", "null", r#""rt""#)).is_empty());
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        assert_eq!(findings("samovar-extra", "").len(), 1);
    }
}
