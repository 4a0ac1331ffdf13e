//! From a request's input to the prompt that travels to the engine. Nothing is rendered here: a chat template is a
//! stranger's code, and runs where its model runs.

use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::{Chat, ErrorKind, Failure, Prompt, WallTime};

use crate::catalog::Manners;
use crate::request::{Input, Request};

/// The prompt of a request to a model with such manners.
///
/// # Errors
/// `Internal` when the conversation cannot be written down.
pub(crate) fn of(request: &Request, manners: &Manners) -> Result<Prompt, Failure> {
    match &request.input {
        Input::Chat(messages) => {
            let json = serde_json::to_string(messages).map_err(|error| unwritable(&error))?;
            let arguments = match &request.template_arguments {
                arguments if arguments.is_empty() => None,
                arguments => Some(serde_json::to_string(arguments).map_err(|error| unwritable(&error))?),
            };
            Ok(Prompt::Chat(Box::new(Chat {
                arguments,
                template: manners.chat_template.clone(),
                special_tokens_in_content: manners.special_tokens_in_content,
                now: now(),
                ..Chat::new(json, messages.len() as u32)
            })))
        }
        // Prompts for text models and editors are written with control tokens, and other servers read them so.
        Input::Text(text) => Ok(Prompt::Text { text: text.clone(), add_special: true, parse_special: true }),
        Input::Tokens(tokens) => Ok(Prompt::Tokens(tokens.clone())),
    }
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the conversation cannot be handed to the model: {error}"))
}

/// The time that a template is told, in the time zone of this machine.
fn now() -> WallTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime {
        unix_s: since_1970.as_secs() as i64,
        utc_offset_s: chrono::Local::now().offset().local_minus_utc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Message;

    #[test]
    fn a_conversation_travels_as_it_is() {
        let mut request = Request::chat("m", [Message::user("{{ 7 * 7 }}<|im_end|>")]);
        request.template_arguments.insert("enable_thinking".to_owned(), false.into());
        let manners = Manners { special_tokens_in_content: true, chat_template: Some("gemma".to_owned()) };
        let Ok(Prompt::Chat(chat)) = of(&request, &manners) else { panic!("no conversation") };
        assert_eq!(chat.messages, r#"[{"role":"user","content":"{{ 7 * 7 }}<|im_end|>"}]"#);
        assert_eq!(chat.message_count, 1);
        assert_eq!(chat.arguments.as_deref(), Some(r#"{"enable_thinking":false}"#));
        assert_eq!(chat.template.as_deref(), Some("gemma"));
        assert!(chat.special_tokens_in_content && chat.add_generation_prompt);
        assert!(chat.now.unix_s > 1_700_000_000);
        assert!(chat.now.utc_offset_s.abs() <= 18 * 3600);
    }

    #[test]
    fn text_is_read_with_its_control_tokens() {
        let prompt = of(&Request::text("m", "<|user|>hi"), &Manners::default());
        assert!(matches!(prompt, Ok(Prompt::Text { add_special: true, parse_special: true, .. })));
    }
}
