use llama_cpp_2::token::LlamaToken;
use samovar_core::ErrorKind;
use samovar_core::generation::Generation;

use super::*;

const ROOM: Room = Room { tokens: 512, sequences: 256 };

/// A request for inputs of so many tokens.
fn add(queue: &mut Queue, urgency: Urgency, lengths: &[usize]) -> Generation {
    let (events, generation) = Generation::channel_for_inputs(lengths.len());
    let item = |(index, length): (usize, &usize)| Item {
        index: index as u32,
        tokens: vec![LlamaToken(7); *length],
        was_cut: false,
    };
    queue.add(EmbedTicket {
        items: lengths.iter().enumerate().map(item).collect(),
        output: EmbedOutput::Score,
        urgency,
        arrived: Instant::now(),
        events,
    });
    generation
}

fn bulk(queue: &mut Queue, lengths: &[usize]) -> Generation {
    add(queue, Urgency::Bulk, lengths)
}

fn query(queue: &mut Queue, lengths: &[usize]) -> Generation {
    add(queue, Urgency::Interactive, lengths)
}

/// Request and length of each input.
fn shape(picked: &[Picked]) -> Vec<(u64, usize)> {
    picked.iter().map(|picked| (picked.request, picked.tokens())).collect()
}

fn pick(queue: &mut Queue, tokens: usize) -> Vec<(u64, usize)> {
    shape(&queue.pick(Room { tokens, ..ROOM }))
}

#[test]
fn inputs_of_requests_take_turns_and_the_longest_of_each_comes_first() {
    let mut queue = Queue::default();
    let _all = [bulk(&mut queue, &[10, 30, 20]), bulk(&mut queue, &[40, 5])];
    assert_eq!(pick(&mut queue, 512), [(0, 30), (1, 40), (0, 20), (1, 5), (0, 10)]);
    assert!(pick(&mut queue, 512).is_empty());
}

#[test]
fn a_batch_is_filled_by_what_fits_and_holds_no_more() {
    let mut queue = Queue::default();
    let _all = [bulk(&mut queue, &[100, 60, 30]), bulk(&mut queue, &[90, 90])];
    assert_eq!(
        pick(&mut queue, 200),
        [(0, 100), (1, 90)],
        "10 tokens are left, for which nothing is short enough"
    );
    // Who was second is first now.
    assert_eq!(pick(&mut queue, 200), [(1, 90), (0, 60), (0, 30)]);
    let _many = bulk(&mut queue, &[1; 300]);
    assert_eq!(queue.pick(Room { tokens: 4096, sequences: 256 }).len(), 256);
    assert_eq!(queue.pick(Room { tokens: 4096, sequences: 256 }).len(), 44);
}

#[test]
fn an_input_longer_than_a_batch_is_one_alone() {
    let mut queue = Queue::default();
    let _all = bulk(&mut queue, &[400, 10, 500]);
    assert_eq!(pick(&mut queue, 128), [(0, 500)]);
    assert_eq!(pick(&mut queue, 128), [(0, 400)]);
    assert_eq!(pick(&mut queue, 128), [(0, 10)]);
}

#[test]
fn every_input_is_computed_however_many_others_come() {
    let mut queue = Queue::default();
    let mut all = vec![bulk(&mut queue, &[100, 90, 80])];
    let mut left = 3;
    for _ in 0..30 {
        all.push(bulk(&mut queue, &[100, 100, 100]));
        left -= pick(&mut queue, 128).iter().filter(|(request, _)| *request == 0).count();
    }
    assert_eq!(left, 0);
}

#[test]
fn a_query_is_in_the_next_batch_but_one_and_takes_little_along() {
    let mut queue = Queue::default();
    let _import = bulk(&mut queue, &[20; 2_000]);
    for round in 0..50 {
        assert_eq!(pick(&mut queue, 512).len(), 25, "{round}: the import has all the room");
        let _query = query(&mut queue, &[9]);
        let batch = pick(&mut queue, 512);
        assert_eq!(batch[0].1, 9);
        assert!(batch.iter().map(|(_, tokens)| tokens).sum::<usize>() <= 128, "{batch:?}");
        queue.forget_cancelled();
        if queue.bulk[0].waiting.len() < 100 {
            break;
        }
    }
}

#[test]
fn queries_without_end_do_not_stop_an_import_and_none_waits_long() {
    let mut queue = Queue::default();
    let _import = bulk(&mut queue, &[300; 20]);
    let mut queries = Vec::new();
    let (mut of_import, mut waited) = (0, 0);
    for _ in 0..100 {
        queries.push(query(&mut queue, &[100, 100]));
        let batch = pick(&mut queue, 256);
        let is_import = batch.iter().any(|(request, _)| *request == 0);
        of_import += usize::from(is_import);
        let had_query = batch.iter().any(|(request, _)| *request != 0);
        waited = if had_query { 0 } else { waited + 1 };
        assert!(waited <= 1, "{batch:?}");
    }
    assert_eq!(of_import, 20, "its inputs are too long to come along, and come all the same");
}

#[test]
fn queries_without_end_stop_none_of_several_imports() {
    // Inputs that fit beside queries, and others that do not.
    for lengths in [[300, 300], [300, 20], [20, 300]] {
        let mut queue = Queue::default();
        let _imports = lengths.map(|length| bulk(&mut queue, &[length; 1_000]));
        let (mut queries, mut batches) = (Vec::new(), [0, 0]);
        for _ in 0..100 {
            queries.push(query(&mut queue, &[100]));
            let batch = pick(&mut queue, 256);
            for (import, batches) in (0..).zip(&mut batches) {
                *batches += usize::from(batch.iter().any(|(request, _)| *request == import));
            }
        }
        assert!(batches.iter().all(|batches| *batches >= 10), "{lengths:?}: {batches:?}");
    }
}

#[test]
fn whoever_leaves_is_dropped() {
    let mut queue = Queue::default();
    let [left, stays] = [bulk(&mut queue, &[5, 6]), bulk(&mut queue, &[7])];
    drop(left);
    queue.forget_cancelled();
    assert_eq!((queue.len(), pick(&mut queue, 512)), (1, vec![(1, 7)]));
    drop(stays);
    queue.forget_cancelled();
    assert_eq!(queue.len(), 0);
}

#[test]
fn what_was_not_computed_is_put_back_in_its_place() {
    let mut queue = Queue::default();
    let _all = bulk(&mut queue, &[30, 20, 10]);
    let mut picked = queue.pick(ROOM);
    assert_eq!(queue.listeners(&picked).len(), 1);
    picked.reverse();
    queue.put_back(picked);
    assert_eq!(pick(&mut queue, 512), [(0, 30), (0, 20), (0, 10)]);
}

#[test]
fn each_input_is_told_once_and_then_the_end() {
    let mut queue = Queue::default();
    let mut generation = bulk(&mut queue, &[10, 30]);
    let mut last = None;
    for picked in queue.pick(ROOM) {
        last = queue.answer(picked, Ok(vec![1.0]));
    }
    assert_eq!(queue.len(), 0, "it is free before it is said");
    last.expect("it has ended").say();
    for (index, tokens) in [(1, 30), (0, 10)] {
        let expected = Embedded { index, tokens, was_cut: false, values: vec![1.0] };
        assert_eq!(generation.blocking_next(), Some(TokenEvent::Embedded(expected)));
    }
    let Some(TokenEvent::Done(completion)) = generation.blocking_next() else { panic!("no end") };
    assert_eq!((completion.usage.prompt_tokens, completion.finish), (40, FinishReason::Stop));
    assert_eq!(generation.blocking_next(), None);
}

#[test]
fn an_input_that_fails_ends_its_request_and_no_other() {
    let mut queue = Queue::default();
    let [mut damaged, mut sound] = [bulk(&mut queue, &[3, 2]), bulk(&mut queue, &[1])];
    let picked = queue.pick(ROOM);
    let last: Vec<_> = picked
        .into_iter()
        .filter_map(|picked| {
            let values = if picked.request == 0 { Err(Error::NotFinite { index: 0 }) } else { Ok(vec![]) };
            queue.answer(picked, values)
        })
        .collect();
    assert_eq!((last.len(), queue.len()), (2, 0));
    last.into_iter().for_each(FinalEvent::say);
    let Some(TokenEvent::Failed(failure)) = damaged.blocking_next() else { panic!("no failure") };
    assert_eq!(failure.kind, ErrorKind::EngineFailed);
    assert_eq!(damaged.blocking_next(), None);
    assert!(matches!(sound.blocking_next(), Some(TokenEvent::Embedded(_))));
    assert!(matches!(sound.blocking_next(), Some(TokenEvent::Done(_))));
}

#[test]
fn all_end_when_the_instance_does() {
    let mut queue = Queue::default();
    let mut all = [bulk(&mut queue, &[3]), query(&mut queue, &[2])];
    queue.fail_all(&Error::Parked).into_iter().for_each(FinalEvent::say);
    for generation in &mut all {
        assert!(matches!(generation.blocking_next(), Some(TokenEvent::Failed(_))));
    }
    assert_eq!(queue.len(), 0);
}

#[test]
fn requests_are_taken_up_to_a_count_and_a_sum_of_tokens_and_one_alone_always() {
    let mut queue = Queue::default();
    assert!(queue.has_room_for(4 * MAX_TOKENS), "it waits for no other");
    let large = bulk(&mut queue, &[MAX_TOKENS - 10]);
    assert!(queue.has_room_for(10) && !queue.has_room_for(11));
    drop(large);
    queue.forget_cancelled();
    let _many: Vec<_> = (0..MAX_REQUESTS).map(|_| query(&mut queue, &[1])).collect();
    assert!(!queue.has_room_for(1));
}
