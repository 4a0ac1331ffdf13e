//! Mirrors of the core's nouns whose own form is meant for JSON: a field that is left out has no place in postcard.

use samovar_core::embedding::Embedded;
use samovar_core::generation::{
    Adapter, Completion, Delta, GenerationRequest, Prompt, Sampling, TokenEvent, TokenLogprob, Usage,
};
use samovar_core::{Constraint, ErrorKind, Failure as CoreFailure, Scope};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::frame::FrameError;

/// A failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    param: Option<String>,
    retry_after_ms: Option<u64>,
}

impl From<CoreFailure> for Failure {
    fn from(failure: CoreFailure) -> Self {
        // Whether it lasts depends on the request's deadline, which no worker knows.
        let CoreFailure { kind, message, hint, param, retry_after_ms, .. } = failure;
        let [hint, param] = [hint, param].map(|text| text.map(bounded::cut));
        Self { kind, message: bounded::cut(message), hint, param, retry_after_ms }
    }
}

impl Failure {
    /// Refuses one whose texts are longer than any that people get to read.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        let texts = [Some(&self.message), self.hint.as_ref(), self.param.as_ref()];
        texts.into_iter().flatten().try_for_each(|text| bounded::sentence("a failure", text))
    }
}

impl From<Failure> for CoreFailure {
    fn from(failure: Failure) -> Self {
        let Failure { kind, message, hint, param, retry_after_ms } = failure;
        let mut whole = Self::new(kind, message);
        whole.hint = hint;
        whole.param = param;
        whole.retry_after_ms = retry_after_ms;
        whole
    }
}

/// A token with its probability, one level deep: a reader that follows what is nested as deep as the other side likes
/// runs out of stack.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Logprob {
    chosen: Likelihood,
    #[serde(deserialize_with = "bounded::alternatives")]
    top: Vec<Likelihood>,
}

/// A token, its bytes and the logarithm of its probability.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Likelihood(u32, Vec<u8>, f32);

impl Logprob {
    /// Refuses one with a token that is longer than any vocabulary's.
    fn check(&self) -> Result<(), FrameError> {
        std::iter::once(&self.chosen)
            .chain(&self.top)
            .try_for_each(|Likelihood(_, bytes, _)| bounded::text("a token", bytes, bounded::TOKEN_BYTES))
    }
}

impl From<TokenLogprob> for Logprob {
    fn from(logprob: TokenLogprob) -> Self {
        let likelihood = |of: TokenLogprob| Likelihood(of.token, of.bytes, of.logprob);
        let TokenLogprob { token, bytes, logprob, top } = logprob;
        Self { chosen: Likelihood(token, bytes, logprob), top: top.into_iter().map(likelihood).collect() }
    }
}

impl From<Logprob> for TokenLogprob {
    fn from(logprob: Logprob) -> Self {
        let open = |Likelihood(token, bytes, logprob), top| Self { token, bytes, logprob, top };
        let top = logprob.top.into_iter().map(|likelihood| open(likelihood, Vec::new())).collect();
        open(logprob.chosen, top)
    }
}

/// What a request has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Prefilling {
        computed: u32,
        of: u32,
    },
    Prefilled {
        usage: Usage,
        prefill_ms: f64,
    },
    Token {
        text: String,
        logprob: Option<Logprob>,
    },
    Done(Completion),
    Failed(Failure),
    Embedded(Embedded),
    Deltas {
        #[serde(deserialize_with = "bounded::deltas")]
        deltas: Vec<Delta>,
        logprob: Option<Logprob>,
    },
}

impl Event {
    /// Whether it is a request's last.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }

    /// Bytes of its text, or of its vector.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Token { text, .. } => text.len(),
            Self::Deltas { deltas, .. } => deltas.iter().map(|delta| delta.text().len()).sum(),
            Self::Embedded(embedded) => embedded.values.len() * size_of::<f32>(),
            Self::Prefilling { .. } | Self::Prefilled { .. } | Self::Done(_) | Self::Failed(_) => 0,
        }
    }

    /// Refuses one whose texts are longer than any model's.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Token { text, logprob } => {
                bounded::text("a piece of an answer", text.as_bytes(), bounded::EVENT_TEXT_BYTES)?;
                logprob.as_ref().map_or(Ok(()), Logprob::check)
            }
            Self::Deltas { deltas, logprob } => {
                deltas.iter().try_for_each(bounded::delta)?;
                logprob.as_ref().map_or(Ok(()), Logprob::check)
            }
            Self::Failed(failure) => failure.check(),
            Self::Prefilling { .. } | Self::Prefilled { .. } | Self::Embedded(_) | Self::Done(_) => Ok(()),
        }
    }
}

impl From<TokenEvent> for Event {
    fn from(event: TokenEvent) -> Self {
        match event {
            TokenEvent::Prefilling { computed, of } => Self::Prefilling { computed, of },
            TokenEvent::Prefilled { usage, prefill_ms } => Self::Prefilled { usage, prefill_ms },
            TokenEvent::Token { text, logprob } => Self::Token { text, logprob: logprob.map(Into::into) },
            TokenEvent::Deltas { deltas, logprob } => {
                Self::Deltas { deltas, logprob: logprob.map(Into::into) }
            }
            TokenEvent::Embedded(embedded) => Self::Embedded(embedded),
            TokenEvent::Done(completion) => Self::Done(completion),
            TokenEvent::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl From<Event> for TokenEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Prefilling { computed, of } => Self::Prefilling { computed, of },
            Event::Prefilled { usage, prefill_ms } => Self::Prefilled {
                usage: bounded::usage(usage),
                prefill_ms: bounded::milliseconds(prefill_ms),
            },
            Event::Token { text, logprob } => Self::Token { text, logprob: logprob.map(Into::into) },
            Event::Deltas { deltas, logprob } => Self::Deltas { deltas, logprob: logprob.map(Into::into) },
            Event::Embedded(embedded) => Self::Embedded(embedded),
            Event::Done(completion) => Self::Done(Completion {
                usage: bounded::usage(completion.usage),
                prefill_ms: bounded::milliseconds(completion.prefill_ms),
                decode_ms: bounded::milliseconds(completion.decode_ms),
                ..completion
            }),
            Event::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

/// A request; its adapters are numbers of files that were sent before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    prompt: Prompt,
    sampling: Sampling,
    max_tokens: Option<u32>,
    stop: Vec<String>,
    logprobs: Option<u32>,
    ignore_eos: bool,
    reuse_prefix: bool,
    scope: Scope,
    constraint: Option<Constraint>,
    thinking_budget_tokens: Option<u32>,
    speculates: bool,
    adapters: Vec<(u64, f32)>,
}

impl Request {
    /// The request, with these numbers for its adapters, in their order.
    pub(crate) fn new(request: GenerationRequest, numbers: &[u64]) -> Self {
        let scales = request.adapters.iter().map(|adapter| adapter.scale);
        Self {
            adapters: numbers.iter().copied().zip(scales).collect(),
            prompt: request.prompt,
            sampling: request.sampling,
            max_tokens: request.max_tokens,
            stop: request.stop,
            logprobs: request.logprobs,
            ignore_eos: request.ignore_eos,
            reuse_prefix: request.reuse_prefix,
            scope: request.scope,
            constraint: request.constraint,
            thinking_budget_tokens: request.thinking_budget_tokens,
            speculates: request.speculates,
        }
    }

    /// The request as the engine takes it; `path_of` knows the adapters' files.
    pub(crate) fn open(
        self,
        path_of: impl Fn(u64) -> Option<std::path::PathBuf>,
    ) -> Result<GenerationRequest, CoreFailure> {
        let adapters = self.adapters.into_iter().map(|(number, scale)| match path_of(number) {
            Some(path) => Ok(Adapter { path, scale }),
            None => Err(CoreFailure::new(
                ErrorKind::Internal,
                format!("adapter {number} never reached the worker"),
            )),
        });
        Ok(GenerationRequest {
            adapters: adapters.collect::<Result<_, _>>()?,
            prompt: self.prompt,
            sampling: self.sampling,
            max_tokens: self.max_tokens,
            stop: self.stop,
            logprobs: self.logprobs,
            ignore_eos: self.ignore_eos,
            reuse_prefix: self.reuse_prefix,
            scope: self.scope,
            constraint: self.constraint,
            thinking_budget_tokens: self.thinking_budget_tokens,
            speculates: self.speculates,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Truncate, Urgency};
    use samovar_core::footprint::Measurement;
    use samovar_core::generation::FinishReason;
    use samovar_core::model::FileRole;
    use samovar_core::port::EngineId;
    use samovar_core::testing::FakeEngine;
    use samovar_core::{Infill, InfillChunk};

    use super::super::{Answer, Command, Operation, Packed, Reply, Task, WorkerJob, decode, encode};
    use super::*;
    use crate::sandbox;

    fn there_and_back<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        decode(&encode(value).unwrap()[4..]).unwrap()
    }

    #[test]
    fn every_event_arrives_as_it_was_sent() {
        let logprob = TokenLogprob { token: 7, bytes: vec![0xf0, 0x9f], logprob: -0.5, top: Vec::new() };
        let logprob = TokenLogprob { top: vec![logprob.clone()], ..logprob };
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 7, thinking_tokens: 3 };
        let completion = Completion {
            finish: FinishReason::Stop,
            stopped_by: Some(3),
            usage,
            prefill_ms: 0.25,
            decode_ms: 1e6,
        };
        let values = vec![0.5, -1.0, f32::MIN_POSITIVE];
        let embedded = Embedded { index: 255, tokens: 512, was_cut: true, values };
        let bare = CoreFailure::new(ErrorKind::EngineFailed, "it broke");
        let full = bare.clone().with_hint("h").with_param("p").with_retry_after_ms(5);
        let events = [
            TokenEvent::Prefilling { computed: 512, of: 4096 },
            TokenEvent::Prefilled { usage, prefill_ms: 1.5 },
            TokenEvent::Token { text: "é".to_owned(), logprob: Some(logprob.clone()) },
            TokenEvent::Deltas {
                deltas: vec![
                    Delta::Thinking("so".to_owned()),
                    Delta::Text("é".to_owned()),
                    Delta::Call { index: 1, id: "call_1".to_owned(), name: "f".to_owned() },
                    Delta::Arguments { index: 1, text: "{".to_owned() },
                ],
                logprob: Some(logprob),
            },
            TokenEvent::Token { text: String::new(), logprob: None },
            TokenEvent::Embedded(embedded),
            TokenEvent::Done(completion),
            TokenEvent::Failed(bare),
            TokenEvent::Failed(full),
        ];
        for event in events {
            assert_eq!(TokenEvent::from(there_and_back(&Event::from(event.clone()))), event);
        }
    }

    #[test]
    fn a_gap_and_its_count_arrive_as_they_were_sent() {
        let chunks = vec![InfillChunk { name: "a.rs".to_owned(), text: "é".to_owned() }];
        let prompt = Prompt::Infill(Box::new(Infill { chunks, answer_tokens: 7, ..Infill::new("a", "b") }));
        let sent = Command::Operate { id: 1, operation: Operation::Count { prompt: prompt.clone() } };
        let Command::Operate { id: 1, operation: Operation::Count { prompt: arrived } } =
            there_and_back(&sent)
        else {
            panic!("another command")
        };
        assert_eq!(arrived, prompt);
        let answer = |answer| Reply::Answer { id: 1, answer: Ok(answer), measured: Measurement::default() };
        let arrived = there_and_back(&answer(Answer::Count(9)));
        assert!(matches!(arrived, Reply::Answer { answer: Ok(Answer::Count(9)), .. }), "{arrived:?}");
    }

    #[test]
    fn a_request_for_vectors_arrives_as_it_was_sent() {
        let request = EmbedRequest {
            inputs: vec![
                EmbedInput::Text("é".to_owned()),
                EmbedInput::Tokens(vec![0, u32::MAX]),
                EmbedInput::Pair { query: "q".to_owned(), document: "d".to_owned() },
            ],
            output: EmbedOutput::Vector { dimensions: Some(7), normalize: false },
            truncate: Truncate::Start,
            urgency: Urgency::Bulk,
        };
        let scores = EmbedRequest { output: EmbedOutput::Score, ..request.clone() };
        for request in [request, scores] {
            let sent = Command::Embed { id: 3, request: Box::new(request.clone()) };
            let Command::Embed { id: 3, request: arrived } = there_and_back(&sent) else {
                panic!("another command")
            };
            assert_eq!(*arrived, request);
        }
    }

    #[test]
    fn a_request_arrives_with_its_adapters_as_files() {
        let request = GenerationRequest {
            sampling: Sampling { logit_bias: vec![(3, f32::NEG_INFINITY)], ..Sampling::default() },
            max_tokens: Some(5),
            stop: vec!["end".to_owned()],
            logprobs: Some(0),
            scope: Scope::of_client("alice", true),
            constraint: Some(Constraint::Regex("a+".to_owned())),
            thinking_budget_tokens: Some(9),
            speculates: false,
            adapters: vec![Adapter { path: PathBuf::from("a.gguf"), scale: 0.5 }],
            ..GenerationRequest::new(Prompt::Tokens(vec![1, u32::MAX]))
        };
        let sent = there_and_back(&Request::new(request.clone(), &[9]));
        let path = |number| (number == 9).then(|| PathBuf::from("a.gguf"));
        assert_eq!(sent.open(path).unwrap(), request);
        let lost = Request::new(request, &[9]).open(|_| None).unwrap_err();
        assert_eq!(lost.kind, ErrorKind::Internal);
    }

    #[test]
    fn a_worker_job_arrives_whole() {
        let worker_job = WorkerJob {
            task: Task::Load { options: FakeEngine::options() },
            engine: EngineId::new("fake"),
            files: vec![
                (FileRole::Weights, b"/models/\xff.gguf".to_vec()),
                (FileRole::Config, b"/models/config.json".to_vec()),
            ],
            packed: Some(Packed { path: b"/packed/\xfe".to_vec(), source: "a digest".to_owned() }),
            descriptor: Some(FakeEngine::descriptor("m", 5)),
            sandbox: sandbox::Mode::Require,
            memory_limit_bytes: Some(7),
            written_limit_bytes: 9,
            heartbeat_ms: 1000,
            rest_heartbeat_ms: 10_000,
        };
        let Command::Begin(arrived) = there_and_back(&Command::Begin(Box::new(worker_job))) else {
            panic!("another command")
        };
        assert_eq!(arrived.engine.as_str(), "fake");
        assert_eq!(arrived.files[0], (FileRole::Weights, b"/models/\xff.gguf".to_vec()));
        assert_eq!(arrived.files[1], (FileRole::Config, b"/models/config.json".to_vec()));
        assert_eq!(arrived.descriptor, Some(FakeEngine::descriptor("m", 5)));
        assert!(matches!(arrived.task, Task::Load { options } if options == FakeEngine::options()));
        let packed = arrived.packed.unwrap();
        assert_eq!((&packed.path[..], &packed.source[..]), (&b"/packed/\xfe"[..], "a digest"));
        assert_eq!(arrived.sandbox, sandbox::Mode::Require);
        assert_eq!((arrived.memory_limit_bytes, arrived.written_limit_bytes), (Some(7), 9));
    }
}
