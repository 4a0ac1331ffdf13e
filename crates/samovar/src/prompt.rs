//! From a request's input to the prompt that travels to the engine. Nothing is rendered here: a chat template is a
//! stranger's code, and runs where its model runs.

use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::{Chat, ErrorKind, Failure, Infill, Prompt, WallTime};

use crate::catalog::PromptSettings;
use crate::request::{Generate, Input, Message, Origin};
use crate::tools;

/// The prompt of a request to a model with such manners.
///
/// # Errors
/// `Internal` when the conversation cannot be written down.
pub(crate) fn of(request: &Generate, prompt_settings: &PromptSettings) -> Result<Prompt, Failure> {
    match &request.input {
        Input::Chat(messages) => {
            let has_system =
                messages.iter().any(|message| ["system", "developer"].contains(&message.role.as_str()));
            let system = prompt_settings.system.as_ref().filter(|_| !has_system).map(Message::system);
            // What always stands before a conversation comes after its instructions, where templates expect those.
            let instructions = messages
                .iter()
                .take_while(|message| ["system", "developer"].contains(&message.role.as_str()));
            let (instructions, said) = messages.split_at(instructions.count());
            let before = system.iter().chain(instructions).chain(&prompt_settings.messages);
            let messages: Vec<&Message> = before.chain(said).collect();
            let json = serde_json::to_string(&messages).map_err(|error| unwritable(&error))?;
            let (arguments, _) = request.thinking(prompt_settings.thinking);
            let arguments = if arguments.is_empty() {
                None
            } else {
                Some(serde_json::to_string(&*arguments).map_err(|error| unwritable(&error))?)
            };
            Ok(Prompt::Chat(Box::new(Chat {
                arguments,
                tools: tools::written(&request.tools).map_err(|error| unwritable(&error))?,
                tool_choice: request.tool_choice.clone(),
                parallel_tool_calls: request.parallel_tool_calls,
                template: prompt_settings.chat_template.clone(),
                special_tokens_in_content: prompt_settings.special_tokens_in_content,
                now: now(),
                ..Chat::new(json, messages.len() as u32)
            })))
        }
        // Prompts for text models and editors are written with control tokens, and other servers read them so.
        Input::Text(text) => Ok(Prompt::Text { text: text.clone(), add_special: true, parse_special: true }),
        Input::Tokens(tokens) => Ok(Prompt::Tokens(tokens.clone())),
        Input::Infill(infill) => {
            let answer_tokens = request.max_tokens.unwrap_or(infill.answer_tokens);
            Ok(Prompt::Infill(Box::new(Infill { answer_tokens, ..infill.clone() })))
        }
    }
}

/// Tells the author of something that is too long what can be done about it here, where the loaded model has
/// `has` tokens of context, the network may ask for `allowed`, and it was trained with `trained`; 0 = unknown.
/// Whatever is said begins with `how_to_shorten`.
pub(crate) fn with_what_fits(
    failure: Failure,
    how_to_shorten: &str,
    has: u32,
    allowed: u32,
    trained: u32,
    origin: Origin,
) -> Failure {
    if trained == 0 {
        return failure;
    }
    let what_else = match origin {
        _ if has >= trained => {
            format!(": the model was trained with {trained} tokens of context, and has them all")
        }
        Origin::Owner => {
            format!(
                ", or set context_tokens in samovar.toml or in the request: the model was trained with {trained}"
            )
        }
        Origin::Network if has >= allowed => {
            ": requests to this server may not ask this model for more context".to_owned()
        }
        Origin::Network => {
            let most = allowed.min(trained);
            format!(", or ask for up to {most} tokens of context with `context_tokens`")
        }
    };
    failure.with_hint(format!("{how_to_shorten}{what_else}"))
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the conversation cannot be handed to the model: {error}"))
}

/// The time that a template is told, in the time zone of this machine.
fn now() -> WallTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime {
        unix_s: since_1970.as_secs().cast_signed(),
        utc_offset_s: chrono::Local::now().offset().local_minus_utc(),
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::ToolChoice;

    use super::*;
    use crate::thinking::Effort;
    use crate::tools::{Tool, ToolCall};

    fn chat(messages: Vec<Message>) -> Generate {
        Generate::new(Input::Chat(messages))
    }

    #[test]
    fn a_prompt_that_is_too_long_hears_what_is_possible_here() {
        let hint = |has: u32, origin| {
            let failure = Failure::new(ErrorKind::ContextExceeded, "prompt is too long");
            with_what_fits(failure, "shorten the prompt", has, 400, 512, origin).hint.expect("a hint")
        };
        assert!(hint(512, Origin::Owner).contains("trained with 512"));
        assert!(!hint(512, Origin::Owner).contains("samovar.toml"), "there is no more to be had");
        assert!(hint(256, Origin::Owner).contains("context_tokens in samovar.toml"));
        assert!(hint(256, Origin::Network).contains("up to 400"));
        assert!(hint(400, Origin::Network).contains("may not ask"));
        assert!(!hint(256, Origin::Network).contains("samovar.toml"), "it is not theirs");
    }

    #[test]
    fn a_conversation_travels_as_it_is() {
        let mut request = chat(vec![Message::user("{{ 7 * 7 }}<|im_end|>")]);
        request.template_arguments.insert("enable_thinking".to_owned(), false.into());
        let prompt_settings = PromptSettings {
            special_tokens_in_content: true,
            chat_template: Some("gemma".to_owned()),
            ..PromptSettings::default()
        };
        let Ok(Prompt::Chat(chat)) = of(&request, &prompt_settings) else { panic!("no conversation") };
        assert_eq!(chat.messages, r#"[{"role":"user","content":"{{ 7 * 7 }}<|im_end|>"}]"#);
        assert_eq!(chat.message_count, 1);
        assert_eq!(chat.arguments.as_deref(), Some(r#"{"enable_thinking":false}"#));
        assert_eq!(chat.template.as_deref(), Some("gemma"));
        assert!(chat.special_tokens_in_content && chat.add_generation_prompt);
        assert!(chat.now.unix_s > 1_700_000_000);
        assert!(chat.now.utc_offset_s.abs() <= 18 * 3600);
    }

    #[test]
    fn tools_calls_and_results_travel_with_a_conversation() {
        let call = ToolCall::new("call_1", "clock", "{}");
        let messages = [Message::user("The time?"), Message::assistant("").tool_calls([call])];
        let mut request = chat([&messages[..], &[Message::tool("call_1", "noon")]].concat());
        request.tools = vec![Tool::new("clock")];
        request.tool_choice = ToolChoice::Named("clock".to_owned());
        request.parallel_tool_calls = false;
        let settings = PromptSettings { thinking: Some(Effort::Off), ..PromptSettings::default() };
        let Ok(Prompt::Chat(chat)) = of(&request, &settings) else { panic!("no conversation") };
        assert_eq!(chat.tools.as_deref(), Some(r#"[{"type":"function","function":{"name":"clock"}}]"#));
        assert_eq!((&chat.tool_choice, chat.parallel_tool_calls), (&request.tool_choice, false));
        let called = r#""tool_calls":[{"id":"call_1","type":"function","function":{"name":"clock","arguments":"{}"}}]"#;
        assert!(chat.messages.contains(called), "{}", chat.messages);
        assert!(chat.messages.contains(r#""tool_call_id":"call_1""#), "{}", chat.messages);
        assert!(chat.arguments.is_some_and(|arguments| arguments.contains(r#""enable_thinking":false"#)));
    }

    #[test]
    fn an_authors_system_message_stands_where_the_request_has_none() {
        let prompt_settings =
            PromptSettings { system: Some("Rhyme.".to_owned()), ..PromptSettings::default() };
        let messages = |request: &Generate| match of(request, &prompt_settings) {
            Ok(Prompt::Chat(chat)) => (chat.messages, chat.message_count),
            other => panic!("no conversation: {other:?}"),
        };
        let plain = chat(vec![Message::user("Hi")]);
        let with_it = r#"[{"role":"system","content":"Rhyme."},{"role":"user","content":"Hi"}]"#;
        assert_eq!(messages(&plain), (with_it.to_owned(), 2));
        let own = chat(vec![Message::system("Be brief."), Message::user("Hi")]);
        assert!(!messages(&own).0.contains("Rhyme"));
    }

    #[test]
    fn a_gap_leaves_as_much_room_as_its_answer_may_take() {
        let room = |max_tokens| {
            let input = Input::Infill(Infill::new("a", "b"));
            let request = Generate { max_tokens, ..Generate::new(input) };
            let Ok(Prompt::Infill(infill)) = of(&request, &PromptSettings::default()) else {
                panic!("no gap")
            };
            assert_eq!((infill.prefix.as_str(), infill.suffix.as_str()), ("a", "b"));
            infill.answer_tokens
        };
        assert_eq!((room(Some(7)), room(None)), (7, samovar_core::infill::ANSWER_TOKENS));
    }

    #[test]
    fn what_always_stands_before_a_conversation_comes_after_its_instructions() {
        let prompt_settings = PromptSettings {
            system: Some("Rhyme.".to_owned()),
            messages: vec![Message::user("Who?"), Message::assistant("Me.")],
            ..PromptSettings::default()
        };
        let roles = |request: &Generate| {
            let Ok(Prompt::Chat(chat)) = of(request, &prompt_settings) else { panic!("no conversation") };
            let messages: Vec<Message> = serde_json::from_str(&chat.messages).expect("messages");
            let texts: Vec<String> = messages.into_iter().map(|message| message.content).collect();
            texts.join(" ")
        };
        assert_eq!(roles(&chat(vec![Message::user("Hi")])), "Rhyme. Who? Me. Hi");
        let own = chat(vec![Message::system("Be brief."), Message::user("Hi"), Message::system("Now.")]);
        assert_eq!(roles(&own), "Be brief. Who? Me. Hi Now.");
    }

    #[test]
    fn text_is_read_with_its_control_tokens() {
        let prompt = of(&Generate::new(Input::Text("<|user|>hi".to_owned())), &PromptSettings::default());
        assert!(matches!(prompt, Ok(Prompt::Text { add_special: true, parse_special: true, .. })));
    }
}
