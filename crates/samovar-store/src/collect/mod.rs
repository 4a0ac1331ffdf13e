//! Collection: what leaves the disk, and how it leaves without anybody noticing.

mod chronicle;
mod plan;
mod worth;
