//! What one answer must look like: which tokens may come next, and which must.
//!
//! ```text
//!   waiting ──the thought is over──► computing ──► ready ──a token is chosen──► computing …
//!      ▲    (on the instance's second thread,          │
//!      └──── while the model computes logits)  ◄───────┘ a thought is begun first
//! ```
//!
//! It never lets a token pass that the rules do not allow: rules that fail end the answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use llama_cpp_2::token::LlamaToken;
use samovar_core::Failure;
use samovar_grammar::{Ahead, Mask, Next, Pending, Rules};

use crate::error::Error;

/// Tokens that are forced at once at most. What must follow them is asked for after them.
pub(crate) const RUN_TOKENS: usize = 64;

/// The rules of one answer, and where they are.
pub(crate) struct Binding {
    ahead: Arc<Ahead>,
    state: State,
    /// What begins a thought, where one may still come before all that is bound.
    open: Vec<LlamaToken>,
    /// Tokens that must come are said without being sampled.
    forces: bool,
}

enum State {
    /// A thought is open: nothing is bound before it is over.
    Waiting(Rules),
    /// What may come next is being computed.
    Computing(Pending),
    /// What may come next is known.
    Ready(Next),
    /// The rules have failed.
    Failed,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A token is to be sampled.
    Sample,
    /// Tokens must come, whatever the model would say.
    Forced,
    /// The answer is complete: nothing may follow.
    Finished,
}

/// Which tokens may come next.
#[derive(Clone, Copy)]
pub(crate) struct Allowed<'a> {
    mask: &'a Mask,
    /// This one, too: it begins a thought.
    open: Option<LlamaToken>,
}

#[cfg(test)]
impl<'a> Allowed<'a> {
    /// These tokens and no other.
    pub(crate) fn of(mask: &'a Mask) -> Self {
        Self { mask, open: None }
    }
}

impl Allowed<'_> {
    /// Makes all others impossible.
    pub(crate) fn apply(self, logits: &mut [f32]) {
        let open = self.open.map(|token| token.0 as usize);
        let kept = open.and_then(|token| logits.get(token).copied());
        self.mask.apply(logits);
        if let (Some(token), Some(logit)) = (open, kept) {
            logits[token] = logit;
        }
    }

    /// Whether the answer itself may go on with it.
    pub(crate) fn has(self, token: LlamaToken) -> bool {
        self.mask.allows(token.0 as u32)
    }
}

impl Binding {
    /// The rules of an answer that begins. They wait while a thought `is_open`; where the model may begin one by itself,
    /// that may come first, by the tokens of `open`.
    pub(crate) fn new(
        ahead: Arc<Ahead>,
        rules: Rules,
        is_open: bool,
        open: Vec<LlamaToken>,
        forces: bool,
    ) -> Self {
        let mut binding = Self { ahead, state: State::Waiting(rules), open, forces };
        if !is_open {
            // Tokens that must come would come before the thought.
            let most = if binding.open.is_empty() { RUN_TOKENS } else { 0 };
            binding.begin(most);
        }
        binding
    }

    /// Whether a thought comes first.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// The thought is over: from now on the rules count.
    pub(crate) fn begin(&mut self, most: usize) {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Waiting(rules) => self.follow(rules, Vec::new(), most),
            other => self.state = other,
        }
    }

    /// Whether what comes next is known, or will be after no more than this: then [`turn`](Self::turn) does not wait.
    pub(crate) fn is_known_within(&mut self, patience: Duration) -> bool {
        match &mut self.state {
            State::Computing(pending) => pending.is_ready_within(patience),
            State::Waiting(_) | State::Ready(_) | State::Failed => true,
        }
    }

    /// What comes next; tokens that must come are put into `forced`. Waits for the mask, if it is not there yet.
    pub(crate) fn turn(&mut self, forced: &mut VecDeque<LlamaToken>) -> Result<Turn, Failure> {
        self.settle()?;
        let State::Ready(next) = &mut self.state else { return Ok(Turn::Sample) };
        if !next.forced.is_empty() {
            let run = std::mem::take(&mut next.forced);
            forced.extend(run.into_iter().map(|token| LlamaToken(token as i32)));
            return Ok(Turn::Forced);
        }
        Ok(if next.is_finished { Turn::Finished } else { Turn::Sample })
    }

    /// Puts tokens into the answer that were not sampled. False, and nothing changes, where the rules do not allow them.
    pub(crate) fn put(&mut self, tokens: &[LlamaToken], most: usize) -> Result<bool, Failure> {
        self.settle()?;
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Ready(mut next) => {
                let ids: Vec<u32> = tokens.iter().map(|token| token.0 as u32).collect();
                if !next.forced.is_empty() || next.rules.allows(&ids) < ids.len() {
                    self.state = State::Ready(next);
                    return Ok(false);
                }
                self.follow(next.rules, ids, most);
            }
            other => self.state = other,
        }
        Ok(true)
    }

    /// Waits for what is being computed.
    fn settle(&mut self) -> Result<(), Failure> {
        self.state = match std::mem::replace(&mut self.state, State::Failed) {
            State::Computing(pending) => State::Ready(pending.take()?),
            State::Failed => return Err(Error::NoRules.into()),
            other => other,
        };
        Ok(())
    }

    /// Whether nothing may follow what is known to come.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(&self.state, State::Ready(next) if next.is_finished && next.forced.is_empty())
    }

    /// Which tokens may come next; all of them while it waits.
    pub(crate) fn allowed(&self) -> Option<Allowed<'_>> {
        match &self.state {
            State::Ready(next) => Some(Allowed { mask: &next.mask, open: self.open.first().copied() }),
            State::Waiting(_) | State::Computing(_) | State::Failed => None,
        }
    }

    /// Takes a sampled token. Returns what must follow it, if it begins a thought: the rest of what begins one. A token that
    /// the answer may begin with, too, begins a thought only if it stands for nothing else: alone, or if it `is_control`.
    pub(crate) fn choose(&mut self, token: LlamaToken, is_control: bool, most: usize) -> Vec<LlamaToken> {
        let mut open = std::mem::take(&mut self.open);
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Ready(next) => {
                let is_mark = is_control || open.len() == 1 || !next.mask.allows(token.0 as u32);
                if open.first() == Some(&token) && is_mark {
                    self.state = State::Waiting(next.rules);
                    return open.split_off(1);
                }
                self.follow(next.rules, vec![token.0 as u32], most);
            }
            other => self.state = other,
        }
        Vec::new()
    }

    fn follow(&mut self, rules: Rules, tokens: Vec<u32>, most: usize) {
        let most = if self.forces { most.min(RUN_TOKENS) } else { 0 };
        self.state = State::Computing(self.ahead.follow(rules, tokens, most));
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waiting",
            State::Computing(_) => "computing",
            State::Ready(_) => "ready",
            State::Failed => "failed",
        };
        f.debug_struct("Binding").field("state", &state).field("forces", &self.forces).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{SyncSender, sync_channel};

    use samovar_core::Constraint;
    use samovar_grammar::{Grammar, Vocabulary, VocabularyToken};

    use super::*;

    /// Ends an answer.
    const END: u32 = 256;
    /// Begins a thought.
    const THINK: u32 = 257;

    fn by_bytes(bytes: &[u8]) -> Vec<u32> {
        bytes.iter().map(|byte| u32::from(*byte)).collect()
    }

    /// A vocabulary of bytes, an end, and the beginning of a thought.
    pub(crate) fn rules(regex: &str) -> Rules {
        rules_with(regex, by_bytes)
    }

    fn rules_with(regex: &str, tokenize: impl Fn(&[u8]) -> Vec<u32> + Send + Sync + 'static) -> Rules {
        let byte = |byte: u8| VocabularyToken { bytes: vec![byte], is_control: false, is_end: false };
        let control = |text: &str, is_end| VocabularyToken { bytes: text.into(), is_control: true, is_end };
        let tokens = (0..=u8::MAX).map(byte).chain([control("<end>", true), control("<think>", false)]);
        let vocabulary = Vocabulary::new(tokens.collect(), END, tokenize).unwrap();
        let grammar = Grammar::Constraint(Constraint::Regex(regex.to_owned()));
        vocabulary.compile(&grammar, "grammar", &|| true).unwrap()
    }

    /// A binding that does not know what comes next before the gate is gone, which must be before it is dropped.
    pub(crate) fn late() -> (Binding, SyncSender<()>) {
        let (gate, closed) = sync_channel::<()>(1);
        let closed = Mutex::new(closed);
        // The text that must come is read on the thread that computes masks.
        let rules = rules_with("[ab]cd", move |bytes| {
            let _ = closed.lock().unwrap().recv();
            by_bytes(bytes)
        });
        let mut binding = Binding::new(Arc::new(Ahead::start().unwrap()), rules, false, Vec::new(), true);
        binding.settle().unwrap();
        binding.choose(token(b'a'), false, 9);
        (binding, gate)
    }

    fn binding(regex: &str, is_open: bool, open: &[u32], forces: bool) -> Binding {
        let open = open.iter().map(|token| LlamaToken(*token as i32)).collect();
        Binding::new(Arc::new(Ahead::start().unwrap()), rules(regex), is_open, open, forces)
    }

    fn allowed(binding: &Binding) -> Vec<u32> {
        let mut logits = vec![1.0; 258];
        binding.allowed().unwrap().apply(&mut logits);
        let finite = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
        finite.map(|(token, _)| token as u32).collect()
    }

    fn token(byte: u8) -> LlamaToken {
        LlamaToken(i32::from(byte))
    }

    /// What must come, if anything.
    fn turn(binding: &mut Binding) -> (Turn, String) {
        let mut forced = VecDeque::new();
        let turn = binding.turn(&mut forced).unwrap();
        (turn, forced.iter().map(|token| char::from(token.0 as u8)).collect())
    }

    #[test]
    fn only_what_the_rules_allow_may_come_until_nothing_may() {
        let mut binding = binding("[ab]c", false, &[], false);
        assert_eq!(turn(&mut binding), (Turn::Sample, String::new()));
        assert_eq!(allowed(&binding), [b'a', b'b'].map(u32::from));
        assert!(binding.choose(token(b'b'), false, 9).is_empty());
        assert_eq!((turn(&mut binding).0, allowed(&binding)), (Turn::Sample, vec![u32::from(b'c')]));
        binding.choose(token(b'c'), false, 9);
        // Either it says so itself, or the end alone may come.
        if turn(&mut binding).0 == Turn::Sample {
            assert_eq!(allowed(&binding), [END]);
        }
    }

    #[test]
    fn what_must_come_is_forced_and_no_more_of_it_than_is_wanted() {
        let mut whole = binding("[ab]cdef[gh]", false, &[], true);
        assert_eq!(turn(&mut whole).0, Turn::Sample);
        whole.choose(token(b'a'), false, 9);
        assert_eq!(turn(&mut whole), (Turn::Forced, "cdef".to_owned()));
        assert_eq!(
            (turn(&mut whole).0, allowed(&whole)),
            (Turn::Sample, vec![u32::from(b'g'), u32::from(b'h')])
        );
        let mut part = binding("[ab]cdef[gh]", false, &[], true);
        assert_eq!(turn(&mut part).0, Turn::Sample);
        part.choose(token(b'a'), false, 2);
        assert_eq!(turn(&mut part), (Turn::Forced, "cd".to_owned()));
        let mut none = binding("[ab]cdef[gh]", false, &[], false);
        assert_eq!(turn(&mut none).0, Turn::Sample);
        none.choose(token(b'a'), false, 9);
        assert_eq!(turn(&mut none), (Turn::Sample, String::new()));
    }

    #[test]
    fn nothing_is_bound_before_an_open_thought_is_over() {
        let mut binding = binding("[ab]", true, &[], true);
        assert!(binding.is_waiting() && binding.allowed().is_none());
        assert_eq!(turn(&mut binding).0, Turn::Sample);
        binding.choose(token(b'z'), false, 9);
        assert!(binding.is_waiting());
        binding.begin(9);
        assert_eq!(
            (turn(&mut binding).0, allowed(&binding)),
            (Turn::Sample, [b'a', b'b'].map(u32::from).to_vec())
        );
    }

    #[test]
    fn a_thought_may_come_first_and_only_first() {
        let mut thinks = binding("xy*", false, &[THINK, u32::from(b'\n')], true);
        assert_eq!(turn(&mut thinks), (Turn::Sample, String::new()), "what must come would come before it");
        assert_eq!(allowed(&thinks), [u32::from(b'x'), THINK]);
        let rest = thinks.choose(LlamaToken(THINK as i32), true, 9);
        assert_eq!(rest, [token(b'\n')]);
        assert!(thinks.is_waiting());
        thinks.begin(0);
        assert_eq!((turn(&mut thinks).0, allowed(&thinks)), (Turn::Sample, vec![u32::from(b'x')]));
        let mut answers = binding("xy*", false, &[THINK], true);
        turn(&mut answers);
        answers.choose(token(b'x'), false, 9);
        turn(&mut answers);
        assert!(!allowed(&answers).contains(&THINK));
    }

    #[test]
    fn a_text_that_begins_like_a_thought_is_one_only_by_its_mark() {
        let mut binding = binding("<(a|b)", false, &[u32::from(b'<'), u32::from(b't')], true);
        turn(&mut binding);
        assert!(binding.choose(token(b'<'), false, 9).is_empty() && !binding.is_waiting());
    }

    #[test]
    fn what_is_put_in_obeys_the_rules_or_is_left_out() {
        let mut binding = binding("[ab]+end", false, &[], true);
        assert!(!binding.put(&[token(b'e'), token(b'n')], 9).unwrap());
        assert_eq!(turn(&mut binding).0, Turn::Sample);
        binding.choose(token(b'a'), false, 0);
        assert!(binding.put(&[token(b'e'), token(b'n'), token(b'd')], 9).unwrap());
        assert_ne!(turn(&mut binding).0, Turn::Forced);
    }

    #[test]
    fn what_is_still_being_computed_is_not_waited_for_unless_it_is_asked_for() {
        let (mut binding, gate) = late();
        assert!(!binding.is_known_within(Duration::ZERO));
        drop(gate);
        assert_eq!(turn(&mut binding), (Turn::Forced, "cd".to_owned()));
        assert!(binding.is_known_within(Duration::ZERO));
    }

    #[test]
    fn a_token_that_breaks_the_rules_ends_the_answer() {
        let mut binding = binding("[ab]c", false, &[], true);
        let mut forced = VecDeque::new();
        binding.turn(&mut forced).unwrap();
        binding.choose(token(b'z'), false, 9);
        assert!(binding.turn(&mut forced).is_err());
        assert!(binding.turn(&mut forced).is_err(), "for good");
        assert!(binding.allowed().is_none());
    }
}
