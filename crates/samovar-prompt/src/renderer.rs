//! One model's chat template, compiled once, and what it makes of a conversation.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Once, OnceLock};

use samovar_core::chat::{Chat, ToolChoice};
use samovar_core::{Descriptor, ErrorKind, Failure};

use crate::bounds;
use crate::control::{ControlTokens, has_sign};
use crate::conversation::Conversation;
use crate::dialect::Dialect;
use crate::dialect::detect::{Detected, Exhausted, Probe, ToolsPlace, detect, names_thoughts, text_alone};
use crate::script::{Script, Stop};
use crate::template::{self, CHATML};
use crate::{fitting, history, marks};

/// What a template's source has, apart from white space, that may make signs of other characters.
const MAKES_SIGNS: [&str; 6] = ["replace", "translate", "%c", "format(", "format'", "format\""];

/// Renders conversations by one template, for one vocabulary.
#[derive(Debug)]
pub struct Renderer {
    source: String,
    /// As its author wrote it, for conversations in which nothing looks like a control token: they are rendered exactly
    /// as anywhere else.
    plain: Script,
    /// With marks around what may be control tokens, for all others.
    marked: Script,
    tokens: Arc<ControlTokens>,
    /// It may make signs of characters that are none.
    makes_signs: bool,
    /// That it fails on a conversation without signs has been said.
    has_failed: Once,
    /// It refuses the shortest conversation with a system text, and takes it without.
    refuses_system: OnceLock<bool>,
    /// It takes a message's parts as a list.
    takes_parts: OnceLock<bool>,
    /// Its source names thoughts: answers without calls have a dialect, too.
    names_thoughts: bool,
    /// How it writes calls, and what it can take of them.
    detected: OnceLock<Detected>,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The prompt.
    pub text: String,
    /// Where the template wrote control tokens, in order, as bytes of the text: everything else is to be read as
    /// text. `None` = control tokens are to be read wherever they stand.
    pub control: Option<Vec<Range<usize>>>,
    /// What was changed to fit the conversation to the template, for its sender.
    pub notes: Vec<&'static str>,
    /// It ends inside a thought, which the template itself begins.
    pub opens_thinking: bool,
}

/// The note of a system text that moved.
const SYSTEM_MOVED: &str = "the model's chat template has no system role: the system text stands before the user message that follows it";
/// The note of later system texts.
const SYSTEM_TOLD: &str =
    "the model's chat template takes a system message only at the beginning: a user tells later system texts";
/// The note of tools that stand in the system text.
const TOOLS_DESCRIBED: &str =
    "the model's chat template knows no tools: they are described in the system text";

impl Renderer {
    /// For a model with these control tokens, by the template of its file or another one; where neither is, by `ChatML`.
    /// In the place of a template may stand the name of a built-in one.
    ///
    /// # Errors
    /// `InvalidModel` when the template is no Jinja.
    pub fn new(
        descriptor: &Descriptor,
        template: Option<&str>,
        tokens: Arc<ControlTokens>,
    ) -> Result<Self, Failure> {
        let source = template.or(descriptor.chat_template.as_deref()).unwrap_or(CHATML);
        let source = template::named(source.trim()).unwrap_or(source);
        let text = |token: &Option<String>| token.clone().unwrap_or_default();
        let (bos_token, eos_token) = (text(&descriptor.bos_token), text(&descriptor.eos_token));
        let mark = |token: &str| marks::mark_value(token, &tokens);
        let dense: String = source.split_whitespace().collect();
        Ok(Self {
            marked: Script::new(&marks::mark(source, &tokens), mark(&bos_token), mark(&eos_token))?,
            plain: Script::new(source, bos_token, eos_token)?,
            tokens,
            makes_signs: MAKES_SIGNS.iter().any(|word| dense.contains(word)),
            has_failed: Once::new(),
            refuses_system: OnceLock::new(),
            takes_parts: OnceLock::new(),
            names_thoughts: names_thoughts(source),
            detected: OnceLock::new(),
            source: source.to_owned(),
        })
    }

    /// How the model writes the answer to `chat`: found by rendering a few short conversations, and kept. Nothing is
    /// rendered for an answer that can only be text: without tools, by a template that names no thought.
    pub fn dialect(&self, chat: &Chat) -> Arc<Dialect> {
        let may_call = chat.tools.is_some() && chat.tool_choice != ToolChoice::None;
        if may_call || self.names_thoughts {
            return Arc::clone(&self.detected().dialect);
        }
        text_alone()
    }

    /// The conversation as the text that makes the model answer next.
    ///
    /// # Errors
    /// `InvalidRequest` when the template refuses the conversation (its own words are in the message) or the result is
    /// too long; `InvalidModel` when the template does not work or runs away.
    pub fn render(&self, chat: &Chat) -> Result<Rendered, Failure> {
        let mut conversation = Conversation::read(chat)?;
        if chat.tool_choice == ToolChoice::None {
            conversation.tools = None;
        }
        let mut notes = Vec::new();
        if !history::is_plain(&conversation) {
            if history::has_tools(&conversation) && self.detected().fit.tools == ToolsPlace::Described {
                notes.push(TOOLS_DESCRIBED);
            }
            self.fit_history(&mut conversation, chat)?;
        }
        let whole = history::with_whole_tools(&conversation);
        let mut rendered = match (self.render_fitted(conversation, chat), whole) {
            (Err(failure), Some(whole)) => self.render_fitted(whole, chat).map_err(|_| failure)?,
            (rendered, _) => rendered?,
        };
        rendered.notes.append(&mut notes);
        rendered.opens_thinking = chat.add_generation_prompt && self.ends_in_thought(&rendered.text, chat);
        Ok(rendered)
    }

    fn render_fitted(&self, mut conversation: Conversation, chat: &Chat) -> Result<Rendered, Failure> {
        if let Some(joined) = fitting::parts_joined(&conversation.messages)
            && !self.takes_parts()
        {
            conversation.messages = joined;
        }
        let refusal = match self.finish(&conversation, chat) {
            Err(failure) if failure.kind == ErrorKind::InvalidRequest => failure,
            result => return result,
        };
        let told = history::one_system_first(&conversation.messages);
        let messages = told.as_ref().unwrap_or(&conversation.messages);
        let moved = fitting::system_before_user(messages).filter(|_| self.refuses_system());
        let (messages, note) = match (moved, told) {
            (Some(moved), _) => (moved, SYSTEM_MOVED),
            (None, Some(told)) => (told, SYSTEM_TOLD),
            (None, None) => return Err(refusal),
        };
        conversation.messages = messages;
        let rendered = self.finish(&conversation, chat)?;
        Ok(Rendered { notes: vec![note], ..rendered })
    }

    /// The conversation as [`render`](Self::render) does it, but with nothing fitted to the template: what the Hugging
    /// Face libraries would make of it.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_as_sent(&self, chat: &Chat) -> Result<Rendered, Failure> {
        self.finish(&Conversation::read(chat)?, chat)
    }

    /// Tools, calls, results and thoughts as the template takes them. Of what is written in the template's place, the
    /// marks around calls are control tokens, where they are in its vocabulary.
    fn fit_history(&self, conversation: &mut Conversation, chat: &Chat) -> Result<(), Failure> {
        let has_marks = Cell::new(false);
        let write_mark = |text: &str| {
            if chat.special_tokens_in_content {
                return text.to_owned();
            }
            let marked = marks::mark_text(text, &self.tokens);
            has_marks.set(has_marks.get() || marked.len() > text.len());
            marked
        };
        history::fit(conversation, self.detected(), &write_mark)?;
        conversation.has_marks = has_marks.get();
        Ok(())
    }

    fn detected(&self) -> &Detected {
        let eos_token = &self.plain.eos_token;
        self.detected.get_or_init(|| detect(&self.source, eos_token, &|probe: &Probe| self.try_with(probe)))
    }

    /// What the template makes of a probe; `None` where it refuses or fails.
    fn try_with(&self, probe: &Probe) -> Result<Option<String>, Exhausted> {
        let chat = Chat {
            tools: probe.tools.clone(),
            add_generation_prompt: probe.add_generation_prompt,
            ..Chat::new(probe.messages.to_string(), 1)
        };
        let Ok(conversation) = Conversation::read(&chat) else { return Ok(None) };
        match self.plain.run(&conversation, &chat, bounds::PROBE_FUEL) {
            Ok(text) if text.len() <= bounds::PROBE_OUTPUT_LIMIT_BYTES => Ok(Some(text)),
            Ok(_) | Err(Stop::Full) => Err(Exhausted),
            Err(Stop::Failed(error)) if error.kind() == minijinja::ErrorKind::OutOfFuel => Err(Exhausted),
            Err(Stop::Failed(_) | Stop::NotText) => Ok(None),
        }
    }

    fn ends_in_thought(&self, text: &str, chat: &Chat) -> bool {
        let dialect = self.dialect(chat);
        dialect.thinking.as_ref().is_some_and(|marks| text.trim_end().ends_with(&marks.open))
    }

    fn finish(&self, conversation: &Conversation, chat: &Chat) -> Result<Rendered, Failure> {
        if chat.special_tokens_in_content || (!conversation.has_marks && self.is_innocent(chat)) {
            let text = self.plain.write(conversation, chat)?;
            if chat.special_tokens_in_content || self.is_from_template(&text, conversation, chat) {
                return Ok(Rendered { text, control: None, notes: Vec::new(), opens_thinking: false });
            }
        }
        let marked = self.marked.write(conversation, chat)?;
        let (text, mut control) = marks::unmark(&marked, &self.tokens);
        self.add_unmarked(&text, &mut control, conversation, chat);
        Ok(Rendered { text, control: Some(control), notes: Vec::new(), opens_thinking: false })
    }

    /// Whether nothing in a conversation looks like a control token, or like the beginning or the end of one.
    fn is_innocent(&self, chat: &Chat) -> bool {
        // Written by its number or with a needless backslash, a character is not seen here.
        !chat.contains("\\u")
            && !chat.contains("\\/")
            && !chat.texts().any(|text| self.tokens.may_come_of(text))
    }

    /// Whether the template wrote every control token of this text by itself, and put none together of pieces that look
    /// like nothing: then the same ones stand in what it makes of the conversation without any such piece.
    fn is_from_template(&self, text: &str, conversation: &Conversation, chat: &Chat) -> bool {
        let tokens: Vec<&str> = self.tokens.find(text).map(|range| &text[range]).collect();
        if tokens.is_empty() {
            return true;
        }
        // Of letters alone, a token could be put together of any text.
        if !tokens.iter().all(|token| has_sign(token)) {
            return false;
        }
        let Some(disarmed) = conversation.disarmed(&self.tokens, self.makes_signs) else { return true };
        let Some(without) = self.write_disarmed(&self.plain, &disarmed, chat) else { return false };
        self.tokens.find(&without).map(|range| &without[range]).eq(tokens)
    }

    /// What the template makes of a conversation with nothing in it that a control token could be made of; `None` where
    /// it fails on that.
    fn write_disarmed(&self, script: &Script, disarmed: &Conversation, chat: &Chat) -> Option<String> {
        let written = script.write(disarmed, chat);
        if let Err(failure) = &written {
            self.has_failed.call_once(|| {
                tracing::warn!(
                    %failure,
                    "the chat template fails where signs are replaced: control tokens that it puts together are read as text"
                );
            });
        }
        written.ok()
    }

    /// What the template makes of a probe.
    fn probe(&self, with_system: bool, with_parts: bool) -> Result<String, Failure> {
        let chat = Chat::new(fitting::probe(with_system, with_parts), 2);
        self.plain.write(&Conversation::read(&chat)?, &chat)
    }

    fn refuses_system(&self) -> bool {
        let is_refused = |failure: Failure| failure.kind == ErrorKind::InvalidRequest;
        *self.refuses_system.get_or_init(|| {
            self.probe(true, false).is_err_and(is_refused) && self.probe(false, false).is_ok()
        })
    }

    fn takes_parts(&self) -> bool {
        *self
            .takes_parts
            .get_or_init(|| self.probe(false, true).is_ok_and(|text| fitting::takes_parts(&text)))
    }

    /// Adds control tokens that the template writes in a way which marks do not see: those of which there are as many
    /// where the conversation holds nothing that one could be made of. Of others it is unknown whose they are.
    fn add_unmarked(
        &self,
        text: &str,
        control: &mut Vec<Range<usize>>,
        conversation: &Conversation,
        chat: &Chat,
    ) {
        let found = free(text, control, &self.tokens);
        if found.is_empty() {
            return;
        }
        let disarmed = conversation.disarmed(&self.tokens, self.makes_signs);
        let disarmed = disarmed.as_ref().unwrap_or(conversation);
        let Some(marked) = self.write_disarmed(&self.marked, disarmed, chat) else { return };
        let (without, known) = marks::unmark(&marked, &self.tokens);
        let own = counted(&without, &free(&without, &known, &self.tokens));
        let all = counted(text, &found);
        let is_from_template = |token: &str| has_sign(token) && own.get(token) == all.get(token);
        control.extend(found.iter().filter(|range| is_from_template(&text[(*range).clone()])).cloned());
        control.sort_unstable_by_key(|range| range.start);
    }
}

/// How often each of these stretches of a text is there.
fn counted<'t>(text: &'t str, ranges: &[Range<usize>]) -> BTreeMap<&'t str, usize> {
    let mut counts = BTreeMap::new();
    for range in ranges {
        *counts.entry(&text[range.clone()]).or_default() += 1;
    }
    counts
}

/// Where a text has control tokens, apart from those that are known.
fn free(text: &str, known: &[Range<usize>], tokens: &ControlTokens) -> Vec<Range<usize>> {
    let mut from = 0;
    let mut gaps: Vec<Range<usize>> = Vec::with_capacity(known.len() + 1);
    for range in known {
        gaps.push(from..range.start);
        from = range.end;
    }
    gaps.push(from..text.len());
    let within = |gap: Range<usize>| {
        let begin = gap.start;
        tokens.find(&text[gap]).map(move |found| found.start + begin..found.end + begin)
    };
    gaps.into_iter().flat_map(within).collect()
}
