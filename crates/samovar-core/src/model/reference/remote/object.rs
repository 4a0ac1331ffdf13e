//! Places in object stores: `s3://bucket/key`, `gs://` and `az://` too.

use super::super::ParseReferenceError;
use super::super::part::{self, Part};
use super::refused;

/// Bytes of a bucket's or container's name.
const MAX_BUCKET_BYTES: usize = 63;

/// `bucket/key`, without a `/` at the end.
pub(super) fn parse(text: &str) -> Result<String, ParseReferenceError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let Some((bucket, key)) = text.split_once('/') else {
        return Err(refused("an object", text, "a key must follow the bucket"));
    };
    Part { what: "a bucket", text: bucket, max_bytes: MAX_BUCKET_BYTES, also: "._-" }.check()?;
    part::check_path("a key", key)?;
    Ok(text.to_owned())
}
