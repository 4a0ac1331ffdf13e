//! A whole answer: its text, thoughts and calls of tools, and its text as a type of the program's own.

use std::collections::BTreeMap;

use samovar_core::generation::FinishReason;
use samovar_core::{ErrorKind, Failure};
use serde::de::DeserializeOwned;

use crate::answer::{Answer, AnswerEvent, Summary};
use crate::request::Message;
use crate::tools::ToolCall;

/// A whole answer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What was said.
    pub text: String,
    /// What was thought before; empty where nothing was, or thoughts are not told from text.
    pub thinking: String,
    /// The tools that the model calls, in their order.
    pub tool_calls: Vec<ToolCall>,
    /// How it ended.
    pub summary: Summary,
}

impl Reply {
    /// It as a turn of the conversation, for the next request. Its thoughts are in it: the model's template knows which of them
    /// the model is to read again.
    pub fn message(&self) -> Message {
        let message = Message::assistant(self.text.as_str()).tool_calls(self.tool_calls.iter().cloned());
        if self.thinking.is_empty() { message } else { message.thinking(self.thinking.as_str()) }
    }

    /// Its text, which is JSON, as a value of this type.
    ///
    /// # Errors
    /// `InvalidRequest` where it is no JSON or that of another type, where it was cut at its limit of tokens, and where the model called
    /// tools in its place; `DeadlineExceeded` where it was cut at its deadline.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.text).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> Failure {
        let tokens = self.summary.usage.completion_tokens;
        let wrong = |message: String| Failure::new(ErrorKind::InvalidRequest, message);
        if error.is_data() {
            return wrong(format!("the answer is JSON of another type: {error}"))
                .with_hint("give the type's JSON schema with `Request::schema`");
        }
        match self.summary.finish {
            FinishReason::Length if error.is_eof() => {
                wrong(format!("the answer was cut after {tokens} tokens, before its JSON was whole"))
                    .with_param("max_tokens")
                    .with_hint("allow more tokens, or ask for less")
            }
            FinishReason::TimedOut => Failure::new(
                ErrorKind::DeadlineExceeded,
                format!("the time was over after {tokens} tokens, before the answer's JSON was whole"),
            )
            .with_hint("allow more time, or ask for less"),
            FinishReason::ToolCalls => wrong("the model called a tool instead of answering".to_owned())
                .with_hint("answer its calls, or forbid them with `ToolChoice::None`"),
            FinishReason::Stop | FinishReason::Length => wrong(format!("the answer is no JSON: {error}"))
                .with_hint("ask for JSON with `Request::schema` or `Request::json`, without stop strings"),
        }
    }
}

impl Answer {
    /// The whole answer with its thoughts and calls of tools.
    ///
    /// # Errors
    /// Whatever ended the answer early.
    pub async fn collect_reply(mut self) -> Result<Reply, Failure> {
        let (mut said, mut thought) = (String::new(), String::new());
        let mut calls = BTreeMap::<u32, ToolCall>::new();
        while let Some(event) = self.next().await {
            match event {
                AnswerEvent::Text { text, .. } => said.push_str(&text),
                AnswerEvent::Thinking { text } => thought.push_str(&text),
                AnswerEvent::ToolCall { index, id, name } => {
                    calls.entry(index).or_insert_with(|| ToolCall::new(id, name, ""));
                }
                AnswerEvent::ToolArguments { index, text } => {
                    if let Some(call) = calls.get_mut(&index) {
                        call.arguments.push_str(&text);
                    }
                }
                AnswerEvent::Done(summary) => {
                    let tool_calls = calls.into_values().collect();
                    return Ok(Reply { text: said, thinking: thought, tool_calls, summary });
                }
                AnswerEvent::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::new(ErrorKind::Internal, "the answer ended without a summary"))
    }

    /// The whole answer, which is JSON, as a value of this type, and its summary. A request [with a schema](crate::Request::schema)
    /// has such an answer.
    ///
    /// # Errors
    /// Those of [`Reply::parse`]; whatever ended the answer early.
    pub async fn collect_as<T: DeserializeOwned>(self) -> Result<(T, Summary), Failure> {
        let reply = self.collect_reply().await?;
        Ok((reply.parse()?, reply.summary))
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::generation::Usage;

    use super::*;
    use crate::answer::{CacheStatus, Timings};

    fn reply(text: &str, finish: FinishReason) -> Reply {
        let usage = Usage { completion_tokens: 7, ..Usage::default() };
        let timings = Timings::default();
        let summary = Summary { finish, stopped_by: None, usage, tier: CacheStatus::Hit, timings };
        Reply { text: text.to_owned(), thinking: String::new(), tool_calls: Vec::new(), summary }
    }

    #[test]
    fn a_text_is_read_as_a_type_or_told_why_not() {
        let read = |text: &str, finish| reply(text, finish).parse::<Vec<u32>>();
        assert_eq!(read(" [1, 2]\n", FinishReason::Stop), Ok(vec![1, 2]));
        assert_eq!(read("[1, 2]", FinishReason::Length), Ok(vec![1, 2]), "whole at its last token");
        let cut = read("[1, 2", FinishReason::Length).expect_err("cut");
        assert_eq!((cut.kind, cut.param.as_deref()), (ErrorKind::InvalidRequest, Some("max_tokens")));
        assert!(cut.message.contains("7 tokens"), "{cut}");
        let late = read("[1, 2", FinishReason::TimedOut).expect_err("cut");
        assert_eq!(late.kind, ErrorKind::DeadlineExceeded);
        for (text, finish, words) in [
            (r#"{"a": 1}"#, FinishReason::Stop, "another type"),
            ("once upon a time", FinishReason::Stop, "no JSON"),
            ("once upon a time", FinishReason::Length, "no JSON"),
            ("[1, ", FinishReason::Stop, "no JSON"),
            ("", FinishReason::ToolCalls, "called a tool"),
        ] {
            let failure = read(text, finish).expect_err("is not it");
            assert_eq!(failure.kind, ErrorKind::InvalidRequest);
            assert!(failure.message.contains(words) && failure.hint.is_some(), "{text:?}: {failure}");
        }
    }

    #[test]
    fn a_reply_is_a_turn_of_its_conversation() {
        let plain = reply("hello", FinishReason::Stop);
        assert_eq!(plain.message(), Message::assistant("hello"));
        let call = ToolCall::new("call_1", "clock", "{}");
        let whole = Reply { thinking: "so".to_owned(), tool_calls: vec![call.clone()], ..plain };
        let message = whole.message();
        assert_eq!((message.thinking.as_deref(), message.tool_calls), (Some("so"), vec![call]));
    }
}
