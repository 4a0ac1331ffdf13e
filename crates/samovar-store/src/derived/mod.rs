//! What can be made again of an artifact and is kept because making it takes time: it leaves before any artifact does.

pub(crate) mod file;
pub(crate) mod prefix;
