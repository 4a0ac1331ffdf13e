//! What a worker says whose native code was taken over: bytes of its own choice on the socket that it has.

use std::time::Duration;

/// The reply that tells how far a load is: the number that follows takes four bytes.
const PROGRESS: u8 = 0;
/// The reply that a worker's beat is, by its place in the protocol.
const BEAT: u8 = 5;
/// The reply that carries events.
const EVENTS: u8 = 3;
/// The reply that an operation is answered with.
const ANSWER: u8 = 4;

/// The event that carries what one token added; how many deltas follows.
const DELTAS: u8 = 6;

/// Events as they follow an id: a token without text, an end, an end by a failure.
const TOKEN: [u8; 3] = [2, 0, 0];
const DONE: [u8; 23] = {
    let mut done = [0; 23];
    done[0] = 3;
    done
};
const FAILED: [u8; 6] = [4, 0, 0, 0, 0, 0];
/// What the first input of a request became; its values follow.
const EMBEDDED: [u8; 4] = [5, 0, 1, 0];

/// Says it, and then nothing more; a flood never ends.
pub(crate) fn tell(what: &str) {
    match what {
        // Lengths that are none.
        "length" => write(&u32::MAX.to_le_bytes()),
        "empty" => write(&frame(&[])),
        "cut" => {
            write(&1000_u32.to_le_bytes());
            write(&[BEAT; 10]);
            std::process::exit(0);
        }
        "left-over" => write(&frame(&[PROGRESS, 0, 0, 0, 0, 9, 9, 9])),
        // Frames that say nothing.
        "unknown" => write(&frame(&[200, 1, 2, 3])),
        "noise" => {
            let mut state = 0x9e37_79b9_u32;
            let bytes: Vec<u8> = (0..4096)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    state as u8
                })
                .collect();
            write(&frame(&bytes));
        }
        // Few bytes that would be many in memory.
        "events" => write(&frame(&[&[EVENTS][..], &varint(1 << 20), &vec![0_u8; 1 << 20]].concat())),
        "deltas" => write(&event(1, &[&[DELTAS][..], &varint(1 << 20), &vec![0_u8; 2 << 20]].concat())),
        "prefixes" => {
            write(&frame(&[&[ANSWER, 1, 0, 3][..], &varint(1 << 20), &vec![0_u8; 2 << 20]].concat()));
        }
        // One text that is longer than any answer's.
        "text" => {
            let text = vec![b'x'; 2 << 20];
            write(&event(1, &[&[2][..], &varint(text.len() as u64), &text, &[0]].concat()));
        }
        // Answers to what was not asked, events and ends of requests that never were.
        "ids" => (0..2500_u64).map(|id| id << 20 | 7).for_each(|id| {
            write(&frame(&[&[ANSWER][..], &varint(id), &[0; 10]].concat()));
            for said in [&TOKEN[..], &DONE, &FAILED] {
                write(&event(id, said));
            }
        }),
        // The end of the first request, again and again, and words after it.
        "ends" => (0..3).for_each(|_| {
            for said in [&DONE[..], &FAILED, &TOKEN] {
                write(&event(1, said));
            }
        }),
        // Vectors of the first request: one a second time, one of another width; and an end before all are there.
        "vector" => write(&vector(1, &[0.5; 64])),
        "narrow" => write(&event(1, &[&[5, 200, 1, 1, 0][..], &varint(1), &0.5_f32.to_le_bytes()].concat())),
        "done" => write(&event(1, &DONE)),
        // Without end.
        "flood" => loop {
            write(&frame(&[PROGRESS, 0, 0, 0, 0]).repeat(512));
        },
        "words" => loop {
            let line = b"GGML_ASSERT(fatal) failed\n".repeat(512);
            if rustix::io::write(rustix::stdio::stderr(), &line).is_err() {
                break;
            }
        },
        other => {
            let line = format!("there is no lie {other}\n");
            rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).ok();
        }
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A frame with what the first input of a request became.
fn vector(id: u64, values: &[f32]) -> Vec<u8> {
    let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    event(id, &[&EMBEDDED[..], &varint(values.len() as u64), &numbers].concat())
}

/// A frame with one event.
fn event(id: u64, said: &[u8]) -> Vec<u8> {
    frame(&[&[EVENTS, 1][..], &varint(id), said, &[0; 8]].concat())
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

/// A number as postcard writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The socket is the standard input.
fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdin(), bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(_) => return,
        }
    }
}
