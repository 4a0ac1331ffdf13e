//! A list of named checks, all run, also after one has failed.

use anyhow::{Result, bail};

use crate::tree::Tree;

/// A named check.
pub(crate) type Step = (&'static str, fn(&Tree) -> Result<()>);

/// Runs every step and names those that failed at the end.
pub(crate) fn run(tree: &Tree, steps: &[Step]) -> Result<()> {
    let failed = failures(tree, steps);
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn failures(tree: &Tree, steps: &[Step]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for (name, step) in steps {
        println!("── {name}");
        if let Err(error) = step(tree) {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_does_not_hide_the_next() {
        let tree = Tree::at(std::path::Path::new("."));
        let steps: [Step; 3] =
            [("first", |_| bail!("no")), ("second", |_| Ok(())), ("third", |_| bail!("no"))];
        assert_eq!(failures(&tree, &steps), ["first", "third"]);
        assert!(run(&tree, &steps[1..2]).is_ok());
    }
}
