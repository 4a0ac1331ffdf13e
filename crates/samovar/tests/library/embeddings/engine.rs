//! The fake engine, whose instances make vectors: every number of a vector is the one that its text ends with.

use std::sync::Arc;

use samovar::Urgency;
use samovar_core::embedding::{EmbedInput, EmbedRequest, Embedded};
use samovar_core::footprint::Measurement;
use samovar_core::generation::{
    Completion, FinishReason, Generation, GenerationRequest, Prompt, TokenEvent, Usage,
};
use samovar_core::port::{Capabilities, Engine, EngineInfo, Instance, LoadRequest, PromptControl};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gate::Gate;
use samovar_core::{Descriptor, ErrorKind, Failure, Footprint, LoadOptions};
use tokio::sync::{mpsc, watch};

/// Tokens of every input.
pub(crate) const INPUT_TOKENS: u32 = 3;
/// A longer text is refused.
pub(crate) const TEXT_BYTES: usize = 100_000;

/// What instances were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Inputs of each request.
    pub(crate) sizes: Vec<usize>,
    /// The texts of all requests.
    pub(crate) texts: Vec<String>,
    pub(crate) urgencies: Vec<Urgency>,
    /// Requests that are not ended.
    pub(crate) running: usize,
    pub(crate) most_running: usize,
    pub(crate) vectors: usize,
}

/// Where all instances note what they are asked, and the door at which each vector waits.
pub(crate) struct Recorder {
    pub(crate) gate: Gate,
    seen: watch::Sender<Seen>,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until that is so.
    pub(crate) async fn until(&self, is_so: impl FnMut(&Seen) -> bool) -> Seen {
        self.seen.subscribe().wait_for(is_so).await.expect("the recorder is there").clone()
    }

    fn answer(&self, request: &EmbedRequest, width: usize, events: &mpsc::Sender<TokenEvent>) {
        let inputs = request.inputs.len();
        // The last first: nothing says that they come in their order.
        for (index, input) in request.inputs.iter().enumerate().rev() {
            if !self.gate.pass(|| events.is_closed()) {
                break;
            }
            self.seen.send_modify(|seen| seen.vectors += 1);
            let values = vec![number_of(input); width];
            let embedded = Embedded { index: index as u32, tokens: INPUT_TOKENS, was_cut: false, values };
            events.try_send(TokenEvent::Embedded(embedded)).ok();
        }
        // Who reads that it is done may ask for the next at once.
        self.seen.send_modify(|seen| seen.running -= 1);
        let usage = Usage { prompt_tokens: inputs as u32 * INPUT_TOKENS, ..Usage::default() };
        let finish = FinishReason::Stop;
        let done = Completion { finish, stopped_by: None, usage, prefill_ms: 1.0, decode_ms: 0.0 };
        events.try_send(TokenEvent::Done(done)).ok();
    }
}

/// The number that a text ends with.
fn number_of(input: &EmbedInput) -> f32 {
    let text = match input {
        EmbedInput::Text(text) | EmbedInput::Pair { document: text, .. } => text,
        EmbedInput::Tokens(tokens) => return tokens.len() as f32,
    };
    text.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(-1.0)
}

/// An engine all of whose models can do the same.
#[derive(Clone)]
pub(crate) struct Embedders {
    pub(crate) fake: FakeEngine,
    pub(crate) recorder: Arc<Recorder>,
    capabilities: Capabilities,
}

impl Embedders {
    /// Models that write text, and make vectors where their pooling is known.
    pub(crate) fn new() -> Self {
        Self::of(Capabilities { can_embed: true, can_rerank: false, ..FakeEngine::CAPABILITIES })
    }

    pub(crate) fn of(capabilities: Capabilities) -> Self {
        let recorder = Arc::new(Recorder { gate: Gate::opened(), seen: watch::Sender::new(Seen::default()) });
        Self { fake: FakeEngine::new(), recorder, capabilities }
    }
}

impl Engine for Embedders {
    fn engines(&self) -> Vec<EngineInfo> {
        self.fake.engines()
    }

    fn capabilities(&self, _: &Descriptor) -> Capabilities {
        self.capabilities
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.fake.footprint(descriptor, options)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let width = request.descriptor.embedding_width as usize;
        let instance = self.fake.load(request)?;
        Ok(Arc::new(Embedder { instance, recorder: Arc::clone(&self.recorder), width }))
    }
}

struct Embedder {
    instance: Arc<dyn Instance>,
    recorder: Arc<Recorder>,
    width: usize,
}

impl Instance for Embedder {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.instance.generate(request)
    }

    fn embed(&self, request: EmbedRequest, _: &dyn PromptControl) -> Result<Generation, Failure> {
        let texts = request.inputs.iter().filter_map(|input| match input {
            EmbedInput::Text(text) => Some(text.clone()),
            _ => None,
        });
        let texts: Vec<String> = texts.collect();
        if let Some(place) = texts.iter().position(|text| text.len() > TEXT_BYTES) {
            let message = format!("input[{place}] is longer than {TEXT_BYTES} bytes");
            let failure = Failure::new(ErrorKind::ContextExceeded, message);
            return Err(failure.with_param(format!("input[{place}]")));
        }
        self.recorder.seen.send_modify(|seen| {
            seen.sizes.push(request.inputs.len());
            seen.texts.extend(texts);
            seen.urgencies.push(request.urgency);
            seen.running += 1;
            seen.most_running = seen.most_running.max(seen.running);
        });
        let (events, generation) = Generation::channel_for_inputs(request.inputs.len());
        let (recorder, width) = (Arc::clone(&self.recorder), self.width);
        std::thread::spawn(move || recorder.answer(&request, width, &events));
        Ok(generation)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance.tokenize(text, add_special, parse_special)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.instance.encode(prompt, control)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.instance.detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        self.instance.park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.instance.resume(options)
    }

    fn measure(&self) -> Measurement {
        self.instance.measure()
    }

    fn probe(&self) -> Result<(), Failure> {
        self.instance.probe()
    }
}
