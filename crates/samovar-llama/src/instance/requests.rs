//! How requests are taken: checked, prepared, and put on their way to the thread as tickets.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use samovar_core::embedding::{EmbedOutput, EmbedRequest, Urgency};
use samovar_core::generation::Generation;
use samovar_core::port::PromptControl;
use samovar_core::{Failure, GenerationRequest, Prompt, Sampling, Scope};

use super::LlamaInstance;
use crate::adapter_set::AdapterSet;
use crate::binding::Binding;
use crate::constraints::AnswerGrammar;
use crate::context::pooled_width;
use crate::embed::{self, EmbedTicket, Item};
use crate::error::Error;
use crate::reading::Reading;
use crate::ticket::{Command, Ticket};

/// A prompt for the probe: any token will do.
const PROBE_TOKEN: LlamaToken = LlamaToken(0);

impl LlamaInstance {
    pub(super) fn check_generates(&self) -> Result<(), Error> {
        if !self.plan.generates() {
            return Err(Error::NotGenerative { architecture: self.architecture.clone() });
        }
        Ok(())
    }

    fn check_writes(&self) -> Result<(), Error> {
        self.check_generates()?;
        if self.published.is_parked() {
            return Err(Error::Parked);
        }
        Ok(())
    }

    pub(super) fn prompt(
        &self,
        prompt: &Prompt,
        control: &dyn PromptControl,
    ) -> Result<Vec<LlamaToken>, Failure> {
        self.check_writes()?;
        self.prompts.encode(self.model(), prompt, self.published.context_tokens(), control)
    }

    pub(super) fn start(
        &self,
        request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        let context = self.published.context_tokens();
        let (prompt, chat) = match &request.prompt {
            Prompt::Chat(chat) => {
                self.check_writes()?;
                let (tokens, form) = self.prompts.encode_chat(self.model(), chat, context, control)?;
                (tokens, Some((&**chat, form)))
            }
            prompt => (self.prompt(prompt, control)?, None),
        };
        let max_tokens = answer_tokens(prompt.len(), request.max_tokens, context)?;
        let adapters = AdapterSet::of(&request.adapters)?;
        let chat = chat.as_ref().map(|(chat, form)| (*chat, form));
        let grammar = AnswerGrammar::of(request.constraint.as_ref(), chat, self.prompts.vocabulary())?;
        let reading = match chat {
            Some((chat, form)) => {
                let has_grammar = grammar.as_ref().is_some_and(|grammar| grammar.has_thought);
                let budget = request.thinking_budget_tokens;
                form.reading(&self.prompts, self.model(), chat, budget, has_grammar)?
            }
            None => None,
        };
        // What is said without being sampled has no probabilities.
        let forces = request.logprobs.is_none();
        let bind = |grammar| self.bind(&grammar, reading.as_ref(), forces, control);
        let binding = grammar.map(bind).transpose()?;
        let (events, generation) = Generation::channel(max_tokens);
        self.send(Command::Generate(Box::new(Ticket {
            prompt,
            sampling: request.sampling,
            max_tokens,
            stop: request.stop,
            reading: reading.map(Box::new),
            binding: binding.map(Box::new),
            logprobs: request.logprobs,
            ignore_eos: request.ignore_eos,
            speculates: request.speculates,
            reuse_prefix: request.reuse_prefix,
            scope: request.scope,
            adapters,
            is_probe: false,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
    }

    /// Compiles what binds the answer.
    fn bind(
        &self,
        grammar: &AnswerGrammar,
        reading: Option<&Reading>,
        forces: bool,
        control: &dyn PromptControl,
    ) -> Result<Binding, Failure> {
        let vocabulary = self.prompts.vocabulary();
        let (rules, ahead) = self.constraints.compile(grammar, vocabulary, self.model(), control)?;
        let is_open = reading.is_some_and(|reading| reading.reader.is_thinking());
        let open = reading.filter(|_| !grammar.has_thought);
        let open = open.map(|reading| reading.open.clone()).unwrap_or_default();
        Ok(Binding::new(ahead, rules, is_open, open, forces))
    }

    pub(super) fn start_embedding(
        &self,
        request: &EmbedRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        let (Some(plan), Some(inputs)) = (self.plan.embed, &self.inputs) else {
            return Err(Error::NoVectors.into());
        };
        if self.published.is_parked() {
            return Err(Error::Parked.into());
        }
        let (model, vocabulary) = (self.model(), self.prompts.vocabulary());
        embed::check(request, plan.pooling, pooled_width(model, plan.pooling))?;
        let items = inputs.read(model, vocabulary, request, self.published.context_tokens(), control)?;
        Ok(self.embed_items(items, request.output, request.urgency)?)
    }

    fn embed_items(
        &self,
        items: Vec<Item>,
        output: EmbedOutput,
        urgency: Urgency,
    ) -> Result<Generation, Error> {
        let (events, generation) = Generation::channel_for_inputs(items.len());
        let ticket = EmbedTicket { items, output, urgency, arrived: Instant::now(), events };
        self.send(Command::Embed(Box::new(ticket)))?;
        Ok(generation)
    }

    pub(super) fn start_probe(&self) -> Result<Generation, Error> {
        if !self.plan.generates() {
            let item = Item { index: 0, tokens: vec![PROBE_TOKEN], was_cut: false };
            return self.embed_items(vec![item], EmbedOutput::Score, Urgency::Interactive);
        }
        let (events, generation) = Generation::channel(1);
        self.send(Command::Generate(Box::new(Ticket {
            prompt: vec![PROBE_TOKEN],
            sampling: Sampling::greedy(),
            max_tokens: 1,
            stop: Vec::new(),
            reading: None,
            binding: None,
            logprobs: None,
            ignore_eos: false,
            speculates: false,
            reuse_prefix: false,
            scope: Scope::default(),
            adapters: AdapterSet::default(),
            is_probe: true,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
    }
}

/// Tokens that may be generated after a prompt.
pub(super) fn answer_tokens(prompt: usize, wanted: Option<u32>, context: u32) -> Result<u32, Error> {
    if prompt == 0 {
        return Err(Error::EmptyPrompt);
    }
    let rest = u32::try_from(prompt).ok().and_then(|prompt| context.checked_sub(prompt));
    match rest {
        None | Some(0) => Err(Error::PromptTooLong { prompt, context }),
        Some(rest) => Ok(wanted.map_or(rest, |wanted| wanted.min(rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fills_what_the_prompt_leaves() {
        assert_eq!(answer_tokens(10, None, 100), Ok(90));
        assert_eq!(answer_tokens(10, Some(5), 100), Ok(5));
        assert_eq!(answer_tokens(10, Some(500), 100), Ok(90));
        assert_eq!(answer_tokens(99, None, 100), Ok(1));
        assert_eq!(answer_tokens(10, Some(0), 100), Ok(0));
    }

    #[test]
    fn prompts_that_leave_no_room_are_refused() {
        assert_eq!(answer_tokens(0, None, 100), Err(Error::EmptyPrompt));
        assert_eq!(answer_tokens(100, None, 100), Err(Error::PromptTooLong { prompt: 100, context: 100 }));
        assert!(answer_tokens(5_000_000_000, None, 100).is_err());
    }
}
