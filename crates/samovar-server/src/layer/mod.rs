//! What every request passes before its route, and every answer after it.
//!
//! ```text
//!   request ─► identify ─► count ─► guard ─► authenticate ─► route
//!                │           │        │        └─ over TCP, by the route: key, scope, limits of the key
//!                │           │        └─ Host, Origin, Sec-Fetch-Site, content type; CORS preflight
//!                │           └─ one line of metrics; a panic becomes a 500
//!                └─ x-request-id
//! ```

mod authenticate;
mod count;
mod guard;
mod identify;

pub(crate) use guard::Allowed;
pub(crate) use identify::RequestId;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;

use crate::app::{App, Surface};
use crate::route::Route;

/// The routes with everything before and after them.
pub(crate) fn around(routes: Router<App>, app: &App) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(from_fn_with_state(app.clone(), count::count))
        .layer(axum::middleware::from_fn(identify::identify))
        .with_state(app.clone())
}

/// A route's handler behind what the route needs of a key. The Unix socket needs none.
pub(crate) fn keyed(handler: MethodRouter<App>, route: &'static Route, app: &App) -> MethodRouter<App> {
    if app.surface == Surface::Local {
        return handler;
    }
    handler.route_layer(from_fn_with_state((app.clone(), route), authenticate::authenticate))
}
