//! From what a request says about its answer to rules: compiled on the thread that takes the request, never on the one that
//! decodes.
//!
//! A vocabulary as masks need it is read with the first request that binds its answer, and kept until the model is parked; the
//! thread that computes masks is started then, too.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llama_cpp_2::model::LlamaModel;
use samovar_core::port::{PromptControl, Unconfined};
use samovar_core::{Chat, Constraint, Failure};
use samovar_grammar::{Ahead, Grammar, Rules, VocabularyToken};
use samovar_prompt::dialect::answer_grammar;

use crate::error::Error;
use crate::reading::AnswerForm;
use crate::vocabulary::{Bounds, Control, Vocabulary};

/// A vocabulary as masks need it, once it is read.
type ReadVocabulary = OnceLock<Result<samovar_grammar::Vocabulary, Failure>>;

/// What binds the answers of one loaded model.
#[derive(Default)]
pub(crate) struct Constraints {
    /// Replaced when it is forgotten; the lock is held for that alone, and not while it is read.
    vocabulary: Mutex<Arc<ReadVocabulary>>,
    ahead: Mutex<Option<Arc<Ahead>>>,
}

/// What binds one answer, before it is compiled, and which part of the request says so.
pub(crate) struct AnswerGrammar {
    source: Grammar,
    param: &'static str,
    /// A thought that the model may begin with is a part of it.
    pub has_thought: bool,
}

impl AnswerGrammar {
    /// What binds the answer to a request; nothing where it is free. Of a conversation, `form` says how calls are written.
    pub(crate) fn of(
        constraint: Option<&Constraint>,
        chat: Option<(&Chat, &AnswerForm)>,
        texts: &Vocabulary,
    ) -> Result<Option<Self>, Failure> {
        let of_request = constraint.map(|constraint| match constraint {
            Constraint::JsonObject | Constraint::JsonSchema(_) => "response_format",
            Constraint::Regex(_) | Constraint::Lark(_) | Constraint::Gbnf(_) => "grammar",
        });
        let lark = match chat {
            Some((chat, AnswerForm { dialect, opens_thinking, .. })) => {
                let control = |text: &str| texts.control_id(text);
                answer_grammar(dialect, chat, constraint, *opens_thinking, &control)?
            }
            None => None,
        };
        if let Some(lark) = lark {
            let of_tools = chat.filter(|(chat, _)| AnswerForm::may_call(chat)).map(|_| "tools");
            let param = of_tools.or(of_request).unwrap_or("messages");
            return Ok(Some(Self { source: Grammar::Lark(lark), param, has_thought: true }));
        }
        let alone = constraint.zip(of_request);
        Ok(alone.map(|(constraint, param)| Self {
            source: Grammar::Constraint(constraint.clone()),
            param,
            has_thought: false,
        }))
    }
}

impl Constraints {
    /// Compiles what binds an answer. Blocks for as long as that takes, within the bounds of grammars.
    ///
    /// # Errors
    /// `InvalidRequest` for what cannot be compiled, with the part of the request; `Cancelled` when it is no longer wanted.
    pub(crate) fn compile(
        &self,
        grammar: &AnswerGrammar,
        texts: &Arc<Vocabulary>,
        model: &Arc<LlamaModel>,
        control: &dyn PromptControl,
    ) -> Result<(Rules, Arc<Ahead>), Failure> {
        let place = self.place();
        let vocabulary = place.get_or_init(|| read(texts, model)).as_ref().map_err(Clone::clone)?;
        let rules = vocabulary.compile(&grammar.source, grammar.param, &|| control.is_wanted())?;
        Ok((rules, self.ahead()?))
    }

    /// Bytes of the vocabulary, once it is read, and of what binds answers now.
    pub(crate) fn bytes(&self) -> u64 {
        let place = self.place();
        let read = place.get().and_then(|vocabulary| vocabulary.as_ref().ok());
        read.map_or(0, |vocabulary| (vocabulary.tree_bytes() + vocabulary.grammar_bytes()) as u64)
    }

    /// Gives the vocabulary back. What still binds an answer keeps it until that ends.
    pub(crate) fn forget(&self) {
        // It is dropped when the lock is free again.
        let _forgotten = std::mem::take(&mut *self.vocabulary.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Where the vocabulary is, or will be once it is read.
    fn place(&self) -> Arc<ReadVocabulary> {
        Arc::clone(&self.vocabulary.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The thread that computes masks, started if there is none.
    fn ahead(&self) -> Result<Arc<Ahead>, Failure> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ahead) = &*ahead {
            return Ok(Arc::clone(ahead));
        }
        let started = Arc::new(Ahead::start()?);
        *ahead = Some(Arc::clone(&started));
        Ok(started)
    }
}

impl std::fmt::Debug for Constraints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraints").finish_non_exhaustive()
    }
}

/// The vocabulary as masks need it: a token that shows nothing is a control token, and has its name instead.
fn read(texts: &Arc<Vocabulary>, model: &Arc<LlamaModel>) -> Result<samovar_grammar::Vocabulary, Failure> {
    let vocab = model.vocab();
    let tokens = vocab.tokens().map(|token| {
        let shown = vocab.token_to_piece(token, false, None);
        let is_control = shown.is_empty();
        let bytes = if is_control { vocab.token_to_piece(token, true, None) } else { shown };
        VocabularyToken { bytes, is_control, is_end: vocab.is_eog(token) }
    });
    let tokens: Vec<VocabularyToken> = tokens.collect();
    let named = [vocab.eot(), vocab.eos()].into_iter().find(|token| vocab.is_eog(*token));
    let named = named.and_then(|token| u32::try_from(token.0).ok());
    let any = || tokens.iter().position(|token| token.is_end).map(|token| token as u32);
    let end = named.or_else(any).ok_or(Error::NoEnd)?;
    // A grammar that no request waits for may still be compiled when the model is unloaded, and must not keep it.
    let (texts, model) = (Arc::clone(texts), Arc::downgrade(model));
    samovar_grammar::Vocabulary::new(tokens, end, move |text| {
        let Some(model) = model.upgrade() else { return Vec::new() };
        tokenize(&texts, &model, text)
    })
}

/// The tokens of a text, in which no control token is one.
fn tokenize(texts: &Vocabulary, model: &LlamaModel, text: &[u8]) -> Vec<u32> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let bounds = Bounds { context_tokens: None, enough: None, control: &Unconfined };
    let tokens = texts.tokenize(model, text, Control::Never, false, bounds).unwrap_or_default();
    tokens.into_iter().map(|token| token.0 as u32).collect()
}
