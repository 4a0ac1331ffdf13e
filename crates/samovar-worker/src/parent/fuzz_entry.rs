//! What becomes of bytes that a worker sends, without the worker: for the fuzzer.
//!
//! It reads, bounds and delivers as the supervisor does, and checks what must hold whatever was said.

use std::collections::HashSet;
use std::sync::mpsc::sync_channel;

use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Truncate, Urgency};
use samovar_core::generation::{Generation, TokenEvent};
use samovar_core::{ErrorKind, Failure};

use super::answer_reader::Inputs;
use super::pending_calls::PendingCalls;
use super::published::{Progress, Published};
use crate::protocol::{FRAME_EVENTS, FrameError, Hello, Inbox, Reply, decode_reply};

/// Tokens that each request asks for.
const TOKENS: u32 = 4;
/// Inputs whose vectors a request asks for.
const INPUTS: usize = 3;
/// Tokens that an input has at most.
const INPUT_TOKENS: u32 = 8;

/// Hears these bytes in pieces of so many, as from a worker that has two requests (1 and 2), an operation (3) and a request
/// for vectors (4) before it and dies after the last. Also what it says first may be any frame.
///
/// # Panics
/// When a request or the operation has not exactly one end, or a request hears more than it asked for, or vectors that cannot
/// be those of its inputs.
pub fn hear_frames(bytes: &[u8], piece_bytes: usize) {
    let (pending_calls, progress, published) =
        (PendingCalls::new(), Progress::default(), Published::default());
    let requests = [(); 2].map(|()| {
        let (events, generation) = Generation::channel(TOKENS);
        pending_calls.enter_generation(events).expect("invariant: it lives");
        generation
    });
    let (reply, answer) = sync_channel(1);
    pending_calls.enter_operation(reply).expect("invariant: it lives");
    let vectors = ask_for_vectors(&pending_calls);
    let mut inbox = Inbox::default();
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.put(piece);
        if hear(&mut inbox, &pending_calls, &progress, &published).is_err() {
            break;
        }
    }
    assert!((0.0..=1.0).contains(&progress.get()));
    published.get();
    pending_calls.end(Failure::new(ErrorKind::EngineFailed, "it died"));
    for mut request in requests {
        let heard: Vec<_> = std::iter::from_fn(|| request.blocking_next()).collect();
        assert!(heard.len() <= TOKENS as usize + 4, "{heard:?}");
        let is_end = |event: &&TokenEvent| matches!(event, TokenEvent::Done(_) | TokenEvent::Failed(_));
        assert_eq!(heard.iter().filter(is_end).count(), 1, "{heard:?}");
        assert!(heard.last().as_ref().is_some_and(is_end), "{heard:?}");
    }
    assert!(answer.recv().is_ok() && answer.recv().is_err());
    check_vectors(vectors);
}

fn ask_for_vectors(pending_calls: &PendingCalls) -> Generation {
    let request = EmbedRequest {
        inputs: vec![EmbedInput::Tokens(vec![1]); INPUTS],
        output: EmbedOutput::Vector { dimensions: None, normalize: true },
        truncate: Truncate::Refuse,
        urgency: Urgency::Bulk,
    };
    let (events, generation) = Generation::channel_for_inputs(INPUTS);
    let inputs = Inputs::new(&request, INPUT_TOKENS);
    pending_calls.enter_embeddings(events, inputs).expect("invariant: it lives");
    generation
}

fn check_vectors(mut vectors: Generation) {
    let heard: Vec<_> = std::iter::from_fn(|| vectors.blocking_next()).collect();
    let Some((end, heard)) = heard.split_last() else { panic!("no end") };
    let (mut answered, mut widths) = (HashSet::new(), HashSet::new());
    for event in heard {
        match event {
            TokenEvent::Prefilling { .. } => {}
            TokenEvent::Embedded(embedded) => {
                assert!((embedded.index as usize) < INPUTS && answered.insert(embedded.index));
                assert!(
                    embedded.tokens <= INPUT_TOKENS && embedded.values.iter().all(|value| value.is_finite())
                );
                widths.insert(embedded.values.len());
            }
            other => panic!("{other:?} among the vectors"),
        }
    }
    assert!(widths.len() <= 1 && !widths.contains(&0), "{widths:?}");
    match end {
        TokenEvent::Done(_) => assert_eq!(answered.len(), INPUTS),
        TokenEvent::Failed(_) => {}
        other => panic!("ends with {other:?}"),
    }
}

/// Takes the whole frames that have arrived.
fn hear(
    inbox: &mut Inbox,
    pending_calls: &PendingCalls,
    progress: &Progress,
    published: &Published,
) -> Result<(), FrameError> {
    while let Some(frame) = inbox.take()? {
        if let Ok(hello) = Hello::decode(frame) {
            hello.check("the worker").ok();
            continue;
        }
        match decode_reply(frame)? {
            Reply::Events { events, measured } => {
                assert!(events.len() <= FRAME_EVENTS);
                published.set(&measured);
                pending_calls.deliver(events);
            }
            Reply::Answer { id, answer, measured } => {
                published.set(&measured);
                pending_calls.answer(id, answer.map_err(Into::into));
            }
            Reply::Progress(fraction) => {
                progress.set(fraction);
            }
            Reply::Heartbeat(heartbeat) => published.set(&heartbeat.measured),
            Reply::JobOutput { measured, sandbox, .. } => {
                published.set(&measured);
                assert!(sandbox.to_string().len() < 1 << 20);
            }
            Reply::Failed(failure) => assert!(Failure::from(failure).message.len() < 1 << 20),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that holds this.
    fn frame(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
    }

    #[test]
    fn whatever_is_said_each_request_has_one_end() {
        // A token of the first, an end of the second, one more of it, and something that is no frame.
        let token = frame(&[&[3, 1, 1, 2, 1, b'x', 0][..], &[0; 8]].concat());
        let end = frame(&[&[3, 1, 2, 4, 0, 0, 0, 0, 0][..], &[0; 8]].concat());
        // Vectors of two numbers for the inputs of the fourth, an input twice, and its end.
        let vector = |input: u8| frame(&[&[3, 1, 4, 5, input, 2, 0, 2][..], &[0; 8], &[0; 8]].concat());
        let done = frame(&[&[3, 1, 4, 3, 0, 0, 0, 0, 0, 0][..], &[0; 16], &[0; 8]].concat());
        let vectors = [vector(1), vector(0), vector(2), vector(2), done].concat();
        let said =
            [Hello::ours().encode(), token.repeat(9), end.clone(), end, vectors, vec![0xff; 9]].concat();
        for piece_bytes in [1, 7, 4096] {
            hear_frames(&said, piece_bytes);
        }
        hear_frames(&[], 0);
    }
}
