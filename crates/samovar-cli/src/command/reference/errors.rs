//! The page of error kinds.

use samovar_core::ErrorKind;

use super::{head, row};

pub(super) fn page() -> String {
    let mut page =
        String::from("# Errors\n\nOne table decides how each kind of error looks at every surface.\n\n");
    page.push_str(&head(&["kind", "HTTP", "`error.type`", "`error.code`", "exit code", "try again"]));
    for kind in ErrorKind::ALL {
        let surface = kind.surface();
        let name = serde_json::to_value(kind).expect("invariant: a kind serializes");
        page.push_str(&row([
            format!("`{}`", name.as_str().unwrap_or_default()).as_str(),
            &surface.http_status.to_string(),
            &format!("`{}`", surface.openai_type),
            &format!("`{}`", surface.code),
            &surface.exit_code.to_string(),
            if surface.may_retry { "yes" } else { "no" },
        ]));
    }
    page.push_str(
        "\nWrong arguments on the command line exit with 64; a closed standard output ends a command quietly with 0; \
         Ctrl-C exits with 130.\n",
    );
    page
}
