//! The page of routes. A test asks the real daemon for each.

use super::{head, row};

/// Method, path, where it is served, what it does.
pub(super) const ROUTES: &[(&str, &str, &str, &str)] = &[
    (
        "POST",
        "/v1/chat/completions",
        "port and socket",
        "OpenAI: an answer to a conversation, whole or streamed.",
    ),
    ("POST", "/v1/completions", "port and socket", "OpenAI: a text continued, whole or streamed."),
    ("GET", "/v1/models", "port and socket", "OpenAI: the models that requests may name."),
    ("GET", "/v1/models/{id}", "port and socket", "OpenAI: one model."),
    ("GET", "/healthz", "port and socket", "200 while the process lives."),
    ("GET", "/readyz", "port and socket", "200 while requests are taken, 503 while the daemon leaves."),
    ("GET", "/metrics", "port and socket", "Prometheus; see [metrics](metrics.md)."),
    ("GET", "/admin/stats", "socket", "Counters and gauges, as `samovar stats --json` prints them."),
    ("GET", "/admin/models", "socket", "The models with their files."),
    ("GET", "/admin/why?model=NAME", "socket", "The pool's latest decisions about a model."),
    ("POST", "/admin/generate", "socket", "An answer as events, one JSON object a line."),
    ("POST", "/admin/warm", "socket", "Loads a model; progress as events, one JSON object a line."),
    ("POST", "/admin/pin", "socket", "Pins a model, or lets it go."),
    ("POST", "/admin/unload", "socket", "Unloads one model or all."),
    (
        "POST",
        "/admin/reload",
        "socket",
        "Reads the configuration again; what changed, and what needs a restart.",
    ),
    ("POST", "/admin/shutdown", "socket", "Makes the daemon leave."),
];

pub(super) fn page() -> String {
    let mut page = String::from(
        "# HTTP\n\nThe port is for programs (`samovar serve --listen`); the Unix socket is for its owner and serves everything.\n\n",
    );
    page.push_str(&head(&["method", "path", "served on", "does"]));
    for (method, path, on, about) in ROUTES {
        page.push_str(&row([*method, format!("`{path}`").as_str(), on, about]));
    }
    page.push_str(
        "\nOn the socket: `curl --unix-socket $SAMOVAR_HOME/run/samovar.sock http://localhost/admin/stats`. \
         Errors are explained in [errors](errors.md).\n",
    );
    page
}
