//! Any bytes from a worker: refused, or heard as far as they keep to every bound. Each request has one end, and hears no
//! more than it asked for. The first byte says whether the rest is sent as it is, or cut into frames with sound lengths,
//! and in pieces of how many bytes it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_worker::hear_frames;

/// Frames with sound lengths: before each there is a byte that says how long it is.
fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((length, following)) = rest.split_first() {
        let (frame, following) = following.split_at(usize::from(*length).min(following.len()));
        stream.extend((frame.len() as u32).to_le_bytes());
        stream.extend(frame);
        rest = following;
    }
    stream
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let piece_bytes = 1 + usize::from(kind >> 1) * 16;
    if kind & 1 == 0 {
        hear_frames(rest, piece_bytes);
    } else {
        hear_frames(&framed(rest), piece_bytes);
    }
});
