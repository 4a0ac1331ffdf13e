//! The page of error kinds.

use std::collections::BTreeMap;
use std::fmt::Write;

use samovar_core::ErrorKind;
use samovar_server::openai_error_type;

use super::{code, head, row};
use crate::exit_code;

pub(super) fn page() -> String {
    let mut page = String::from("# Errors\n\nHow each kind of error looks at every surface.\n\n");
    page.push_str(&head(&["kind", "HTTP", "`error.type`", "`error.code`", "exit code", "try again"]));
    for kind in ErrorKind::ALL {
        let surface = kind.surface();
        page.push_str(&row([
            name_of(kind).as_str(),
            &surface.http_status.to_string(),
            &code(openai_error_type(kind)),
            &code(surface.code),
            &exit_code::of(kind).to_string(),
            if surface.may_retry { "yes" } else { "no" },
        ]));
    }
    page.push_str("\n## Exit codes\n\n");
    page.push_str(&head(&["exit code", "kinds"]));
    page.push_str(&row(["0", "none: all went well, or a closed standard output ended the command quietly"]));
    for (code, kinds) in exit_codes() {
        page.push_str(&row([code.to_string().as_str(), &kinds.join(", ")]));
    }
    write!(
        page,
        "\nWrong arguments on the command line exit with {}, Ctrl-C with {}.\n",
        exit_code::of(ErrorKind::InvalidRequest),
        exit_code::of(ErrorKind::Cancelled)
    )
    .expect("invariant: writing to a String succeeds");
    page
}

fn name_of(kind: ErrorKind) -> String {
    let name = serde_json::to_value(kind).expect("invariant: a kind serializes");
    code(name.as_str().unwrap_or_default())
}

/// The kinds of each exit code.
fn exit_codes() -> BTreeMap<u8, Vec<String>> {
    let mut codes = BTreeMap::<u8, Vec<String>>::new();
    for kind in ErrorKind::ALL {
        codes.entry(exit_code::of(kind)).or_default().push(name_of(kind));
    }
    codes
}
