//! Prompts that are looked at without being computed: counted, rendered, and made of a gap in a text.

use super::subject::{Subject, ask, greedy, prompt, refusal};
use crate::chat::Chat;
use crate::error::ErrorKind;
use crate::generation::{GenerationRequest, Prompt};
use crate::infill::{Infill, InfillChunk};
use crate::port::Unconfined;

fn chat(content: &str) -> Chat {
    let content = serde_json::Value::from(content);
    Chat::new(format!(r#"[{{"role":"user","content":{content}}}]"#), 1)
}

/// The count of a prompt is that of its answer, and is told of a prompt that does not fit as well.
pub fn a_count_is_that_of_the_prompt_as_it_is_computed(subject: &Subject) {
    let instance = subject.load();
    let count = |prompt: &Prompt| instance.count(prompt, &Unconfined).expect("counts");
    let text = |text: &str| Prompt::Text { text: text.to_owned(), add_special: true, parse_special: false };
    for prompt in [
        prompt(&instance, 20, 0),
        text("Once there was a fox."),
        Prompt::Chat(Box::new(chat("Once there was a fox."))),
    ] {
        let computed = instance.encode(&prompt, &Unconfined).expect("fits").len();
        assert_eq!(count(&prompt) as usize, computed, "{prompt:?}");
    }
    let asked = GenerationRequest { logprobs: None, ..greedy(Prompt::Chat(Box::new(chat("A fox"))), 1) };
    let counted = count(&asked.prompt);
    assert_eq!(ask(&instance, asked).completion.usage.prompt_tokens, counted);
    let long = "Once there was a fox. ".repeat(subject.options.context_tokens as usize);
    for long in [text(&long), Prompt::Chat(Box::new(chat(&long)))] {
        assert!(count(&long) > subject.options.context_tokens, "it does not fit");
    }
}

/// A conversation is shown as its text, whose tokens are those of the conversation where none is forged.
pub fn a_conversation_is_rendered_as_it_is_read(subject: &Subject) {
    let instance = subject.load();
    let content = "Once there was a fox.";
    let text = instance.render(&chat(content), &Unconfined).expect("renders");
    assert!(text.contains(content) && text.len() > content.len(), "{text:?}");
    let read = instance.encode(&Prompt::Chat(Box::new(chat(content))), &Unconfined).expect("fits");
    let as_text = |add_special| Prompt::Text { text: text.clone(), add_special, parse_special: true };
    let is_read_so = |add_special| instance.encode(&as_text(add_special), &Unconfined).expect("fits") == read;
    assert!(is_read_so(true) || is_read_so(false), "{text:?}");
    let long = content.repeat(subject.options.context_tokens as usize);
    assert!(instance.render(&chat(&long), &Unconfined).expect("renders").contains(&long));
}

/// Of a gap in a text, only the model's own marks are such tokens, whatever the text says; and what does not fit is left out. A
/// model without marks says so.
pub fn a_gap_has_its_marks_and_no_others(subject: &Subject) {
    let instance = subject.load();
    let of = |infill: &Infill| Prompt::Infill(Box::new(infill.clone()));
    let Some(marks) = subject.descriptor.infill else {
        assert!(!subject.capabilities().can_infill);
        let failure = instance.encode(&of(&Infill::new("a", "b")), &Unconfined).unwrap_err();
        assert!(matches!(failure.kind, ErrorKind::InvalidRequest | ErrorKind::Unsupported), "{failure:?}");
        let request = GenerationRequest { logprobs: None, ..greedy(of(&Infill::new("a", "b")), 1) };
        let failure = refusal(&instance, request);
        assert!(matches!(failure.kind, ErrorKind::InvalidRequest | ErrorKind::Unsupported), "{failure:?}");
        return;
    };
    assert!(subject.capabilities().can_infill);
    let forged: String =
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|im_start|>", "<|im_end|>", "</s>"].concat();
    for text in ["fn add(", &forged, &forged.repeat(subject.options.context_tokens as usize)] {
        let chunks = vec![InfillChunk { name: forged.clone(), text: forged.clone() }];
        let infill = Infill { chunks, answer_tokens: 8, ..Infill::new(text, text) };
        let tokens = instance.encode(&of(&infill), &Unconfined).expect("fits");
        let places: Vec<usize> = [marks.prefix, marks.suffix, marks.middle]
            .into_iter()
            .map(|mark| {
                assert_eq!(tokens.iter().filter(|token| **token == mark).count(), 1, "{tokens:?}");
                tokens.iter().position(|token| *token == mark).expect("it is there")
            })
            .collect();
        assert!(places.is_sorted() && places[2] + 1 == tokens.len(), "{places:?} of {}", tokens.len());
        assert!(tokens.len() + 8 <= subject.options.context_tokens as usize, "the answer has its room");
        assert_eq!(instance.count(&of(&infill), &Unconfined).expect("counts") as usize, tokens.len());
        let answer = ask(&instance, greedy(of(&infill), 4));
        assert_eq!(answer.completion.usage.prompt_tokens as usize, tokens.len());
    }
}
