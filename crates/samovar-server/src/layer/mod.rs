//! What every request passes before its route, and every answer after it.
//!
//! ```text
//!   request ─► identify ─► count ─► guard ─► route
//!                │           │        └─ Host, Origin, Sec-Fetch-Site, content type; CORS preflight
//!                │           └─ one line of metrics; a panic becomes a 500
//!                └─ x-request-id
//! ```

mod count;
mod guard;
mod identify;

pub(crate) use guard::Allowed;
pub(crate) use identify::RequestId;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::app::App;

/// The routes with everything before and after them.
pub(crate) fn around(routes: Router<App>, app: &App) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(from_fn_with_state(app.clone(), count::count))
        .layer(axum::middleware::from_fn(identify::identify))
        .with_state(app.clone())
}
