//! What happens in the daemon, as a stream of server-sent events for dashboards: `GET /admin/events`.
//!
//! ```text
//!   producer (one, while there are listeners) ─► State ─► feed: difference to the last one ─► ring of frames
//!     pool, requests, downloads, workers, disk              │                                   │ by number
//!                                                           └─ snapshot, made when asked for ───┴─► stream: one per listener
//! ```
//!
//! A listener holds a number and no frames. One that reads too slowly, or comes back too late, finds its next frame gone from the ring
//! and gets a snapshot instead. Nothing is computed while there is no listener. Nothing here changes anything.

mod feed;
mod producer;
mod state;
mod stream;

pub(crate) use feed::Feed;
pub(crate) use stream::events;
