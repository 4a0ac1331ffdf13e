//! The page of routes with what they are asked by, from the server's own table of them. A test asks the real daemon for each.

use std::fmt::Write;

use samovar_server::{ANSWER_HEADERS, Field, REQUEST_HEADERS, ROUTES};

use super::{code, head, row};

pub(super) fn page() -> String {
    let mut page = String::from(
        "# HTTP\n\nThe port is for programs (`samovar serve --listen`); the Unix socket is for its owner and serves everything. \
         Once there is a key (`samovar key add`), requests to the port need one of the route's scope; `open` needs none.\n\n",
    );
    page.push_str(&head(&["method", "path", "served on", "scope", "does"]));
    for route in ROUTES {
        let on = if route.is_owners { "socket, and port for a key" } else { "port and socket" };
        let scope = route.scope.word();
        page.push_str(&row([route.method, code(route.path).as_str(), on, scope, route.about]));
    }
    page.push_str(
        "\nOn the socket: `curl --unix-socket $SAMOVAR_HOME/run/samovar.sock http://localhost/admin/stats`. \
         Errors are explained in [errors](errors.md).\n",
    );
    page.push_str("\nThe same for programs: the [OpenAPI document](openapi.json), which the daemon serves at `/openapi.json`.\n");
    for route in ROUTES.iter().filter(|route| !route.fields.is_empty()) {
        section(&mut page, &format!("{} {}", route.method, route.path));
        page.push_str(&table("field", route.fields.iter().copied().flatten()));
    }
    section(&mut page, "Fields that are refused");
    page.push_str(
        "The routes below `/v1/` ignore unknown fields. These change what an answer means, so a value that asks for \
         something is refused with 400 `unsupported_parameter`; the routes below `/admin/` refuse every field that is not named above.\n\n",
    );
    page.push_str(&head(&["field", "why, and what to do"]));
    for (name, why) in samovar_server::refused_fields() {
        page.push_str(&row([code(name).as_str(), &why]));
    }
    section(&mut page, "Headers of requests");
    page.push_str(&table("header", REQUEST_HEADERS));
    section(&mut page, "Headers of answers");
    page.push_str(&table("header", ANSWER_HEADERS));
    page
}

fn section(page: &mut String, title: &str) {
    write!(page, "\n## {title}\n\n").expect("invariant: writing to a String succeeds");
}

fn table<'a>(what: &str, fields: impl IntoIterator<Item = &'a Field>) -> String {
    fields.into_iter().fold(head(&[what, "means"]), |mut table, field| {
        table.push_str(&row([code(field.name).as_str(), field.about]));
        table
    })
}
