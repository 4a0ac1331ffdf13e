//! File names: a file is called after its noun, never after the drawer it was put into.

use std::path::{Path, PathBuf};

use super::Finding;

const BANNED: [&str; 9] =
    ["utils", "util", "common", "helpers", "helper", "manager", "service", "base", "prelude"];

/// Finds files and folders of code with a banned name.
pub(super) fn check(files: &[PathBuf]) -> Vec<Finding> {
    files.iter().filter_map(|file| Some((file, banned_part(file)?))).map(finding).collect()
}

fn finding((file, name): (&PathBuf, String)) -> Finding {
    Finding::in_file(file, format!("`{name}` names a drawer; name what is in it"))
}

fn banned_part(file: &Path) -> Option<String> {
    let is_code = matches!(file.extension()?.to_str()?, "rs" | "py" | "sh" | "ts" | "js");
    let stems = file.iter().filter_map(|part| Path::new(part).file_stem()?.to_str().map(str::to_owned));
    stems.filter(|_| is_code).find(|stem| BANNED.contains(&stem.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawer_is_found_as_file_and_as_folder() {
        let files =
            ["crates/a/src/utils.rs", "crates/a/src/common/x.rs", "crates/a/src/ledger.rs", "docs/base.md"];
        let found = check(&files.map(PathBuf::from));
        assert_eq!(
            found.iter().map(|it| it.file.as_path()).collect::<Vec<_>>(),
            [Path::new("crates/a/src/utils.rs"), Path::new("crates/a/src/common/x.rs"),]
        );
    }
}
