//! Conversations as trees, lists and documents, one client's apart from another's.

use samovar_chat::{
    AnswerRecord, ChatError, ChatHistory, ChatQuestion, ConversationChange, Conversations, ExportFormat,
    ReplyTo, SNIPPET_BEGIN,
};

fn say(history: &ChatHistory, question: &ChatQuestion) -> (i64, i64) {
    let turn = history.begin(question).expect("begins");
    let conversation = turn.conversation();
    let answer = AnswerRecord { text: format!("re: {}", question.text), ..AnswerRecord::by("demo") };
    (conversation, turn.keep(&answer).expect("keeps"))
}

fn texts(history: &ChatHistory, conversation: i64) -> Vec<String> {
    let detail = history.open(conversation).expect("opens");
    detail.branch().into_iter().map(|message| message.text.clone()).collect()
}

fn history() -> ChatHistory {
    Conversations::in_memory().expect("memory").of("")
}

#[test]
fn a_question_asked_again_is_a_branch_and_both_are_kept() {
    let history = history();
    let (conversation, first) = say(&history, &ChatQuestion::new("one"));
    say(&history, &ChatQuestion::new("two").within(conversation));
    let edited =
        ChatQuestion { reply_to: ReplyTo::Message(first), ..ChatQuestion::new("zwei").within(conversation) };
    let (_, other) = say(&history, &edited);
    assert_eq!(texts(&history, conversation), ["one", "re: one", "zwei", "re: zwei"]);
    let again = ChatQuestion { reply_to: ReplyTo::Nothing, ..ChatQuestion::new("eins").within(conversation) };
    say(&history, &again);
    assert_eq!(texts(&history, conversation), ["eins", "re: eins"]);
    let change = ConversationChange { leaf: Some(other), ..ConversationChange::default() };
    history.change(conversation, &change).expect("changes");
    assert_eq!(texts(&history, conversation), ["one", "re: one", "zwei", "re: zwei"]);
    assert_eq!(history.open(conversation).expect("opens").messages.len(), 8);
    let foreign = ChatQuestion { reply_to: ReplyTo::Message(first), ..ChatQuestion::new("x") };
    let error = history.begin(&foreign).err().expect("it is of another conversation");
    assert!(matches!(error, ChatError::NoMessage { .. }), "{error}");
    assert_eq!(history.list(10, None).expect("lists").len(), 1, "nothing is left of it");
}

#[test]
fn a_question_that_is_taken_back_or_dropped_leaves_the_conversation_as_it_was() {
    let history = history();
    let (conversation, first) = say(&history, &ChatQuestion::new("one"));
    say(&history, &ChatQuestion::new("two").within(conversation));
    let before = texts(&history, conversation);
    for reply_to in [ReplyTo::Latest, ReplyTo::Nothing, ReplyTo::Message(first)] {
        let question = ChatQuestion { reply_to, ..ChatQuestion::new("never answered").within(conversation) };
        history.begin(&question).expect("begins").take_back().expect("takes back");
        assert_eq!(texts(&history, conversation), before, "{reply_to:?}");
        drop(history.begin(&question).expect("begins"));
        assert_eq!(texts(&history, conversation), before, "{reply_to:?}");
    }
    assert_eq!(history.open(conversation).expect("opens").head.messages, 4);
    // One that another answer has overtaken changes nothing of the branch that goes on since.
    let late = ChatQuestion { reply_to: ReplyTo::Nothing, ..ChatQuestion::new("late").within(conversation) };
    let late = history.begin(&late).expect("begins");
    let edited =
        ChatQuestion { reply_to: ReplyTo::Message(first), ..ChatQuestion::new("zwei").within(conversation) };
    say(&history, &edited);
    drop(late);
    assert_eq!(texts(&history, conversation), ["one", "re: one", "zwei", "re: zwei"]);
    drop(history.begin(&ChatQuestion::new("a conversation of nothing")).expect("begins"));
    assert_eq!(history.list(10, None).expect("lists").len(), 1);
}

#[test]
fn a_conversation_goes_on_with_the_name_by_which_its_model_was_asked() {
    let history = history();
    let turn = history.begin(&ChatQuestion::new("Hello")).expect("begins");
    let conversation = turn.conversation();
    let answer =
        AnswerRecord { model: "tiny".into(), text: "Hi".into(), ..AnswerRecord::by("/models/tiny.gguf") };
    turn.keep(&answer).expect("keeps");
    let detail = history.open(conversation).expect("opens");
    assert_eq!(detail.head.model.as_deref(), Some("/models/tiny.gguf"));
    assert_eq!(detail.messages[1].model.as_deref(), Some("tiny"));
}

#[test]
fn the_latest_questions_are_those_of_one_client_and_go_with_their_conversation() {
    let conversations = Conversations::in_memory().expect("memory");
    let (alice, bob) = (conversations.of("key alice"), conversations.of("key bob"));
    let asked = ["one", "two", "three"].map(|text| say(&alice, &ChatQuestion::new(text)).0);
    say(&bob, &ChatQuestion::new("of bob"));
    say(&alice, &ChatQuestion::new("long ".repeat(1_000)));
    assert_eq!(alice.questions(2).expect("lists"), ["two", "three"]);
    alice.forget(asked[1]).expect("forgets");
    assert_eq!(alice.questions(10).expect("lists"), ["one", "three"]);
}

#[test]
fn a_client_sees_its_own_conversations_and_facts_alone() {
    let conversations = Conversations::in_memory().expect("memory");
    let (alice, bob) = (conversations.of("key alice"), conversations.of("key bob"));
    let (conversation, answer) = say(&alice, &ChatQuestion::new("a secret of alice"));
    let fact = alice.remember("alice likes tea").expect("remembers");
    assert!(bob.list(10, None).expect("lists").is_empty());
    assert!(bob.search("secret", 10).expect("searches").is_empty());
    assert!(bob.facts().expect("lists").is_empty());
    let gone = |error: ChatError| matches!(error, ChatError::NoConversation(_));
    assert!(bob.open(conversation).is_err_and(gone));
    assert!(bob.named("a secret of alice").is_err_and(gone));
    assert!(bob.forget(conversation).is_err_and(gone));
    assert!(bob.export(conversation, ExportFormat::Json).is_err_and(gone));
    assert!(bob.change(conversation, &ConversationChange::default()).is_err_and(gone));
    assert!(bob.begin(&ChatQuestion::new("hi").within(conversation)).is_err_and(gone));
    let reply = ChatQuestion { reply_to: ReplyTo::Message(answer), ..ChatQuestion::new("hi") };
    assert!(bob.begin(&reply).is_err());
    assert!(bob.forget_fact(fact).is_err() && bob.correct_fact(fact, "no").is_err());
    assert_eq!(bob.forget_all().expect("forgets"), 0);
    let turn = bob.begin(&ChatQuestion::new("hi")).expect("begins");
    assert!(turn.memory().is_plain(), "no fact of alice");
    assert_eq!(texts(&alice, conversation).len(), 2);
}

#[test]
fn titles_come_from_the_first_message_until_they_are_given() {
    let history = history();
    let (conversation, _) = say(&history, &ChatQuestion::new("Hello there\nand more"));
    assert_eq!(history.named("hello THERE").expect("finds").id, conversation);
    let title =
        |title: &str| ConversationChange { title: Some(title.to_owned()), ..ConversationChange::default() };
    let changed = history.change(conversation, &title(" Good\n  day ")).expect("changes");
    assert_eq!(changed.title, "Good day", "it has one line");
    history.change(conversation, &title("Greetings")).expect("changes");
    assert_eq!(history.named("greetings").expect("finds").title, "Greetings");
    assert_eq!(history.named(&conversation.to_string()).expect("finds").title, "Greetings");
    let (other, _) = say(&history, &ChatQuestion::new("Greetings"));
    assert!(matches!(history.named("Greetings"), Err(ChatError::Ambiguous { .. })));
    history.change(conversation, &title("")).expect("changes");
    assert_eq!(history.named("Greetings").expect("finds").id, other);
    assert!(history.change(conversation, &title(&"x".repeat(201))).is_err());
}

#[test]
fn the_list_goes_on_behind_the_last_one_that_was_seen() {
    let history = history();
    let all: Vec<i64> =
        (0..7).map(|number| say(&history, &ChatQuestion::new(format!("n{number}"))).0).collect();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = history.list(3, before).expect("lists");
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|head| head.id));
    }
    seen.sort_unstable();
    assert_eq!(seen, all);
}

#[test]
fn words_are_found_with_what_stands_around_them() {
    let history = history();
    say(&history, &ChatQuestion::new("The quick brown fox"));
    let (conversation, _) = say(&history, &ChatQuestion::new("A long talk"));
    say(&history, &ChatQuestion::new("about Äpfel and pears").within(conversation));
    let hits = history.search("apfel pea", 10).expect("searches");
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].conversation.id, conversation);
    assert!(hits[0].snippet.contains(&format!("{SNIPPET_BEGIN}Äpfel")), "{}", hits[0].snippet);
    for nothing in ["apfel fox", "\"", "* NOT (", "", "zebra"] {
        assert!(history.search(nothing, 10).expect("searches").is_empty(), "{nothing}");
    }
    assert!(history.search(&"x".repeat(100_000), 10).expect("searches").is_empty());
    assert_eq!(history.search("long", 10).expect("searches")[0].conversation.id, conversation);
}

#[test]
fn an_export_is_read_again_with_all_its_branches() {
    let history = history();
    let question = ChatQuestion { system: Some("Be brief.".into()), ..ChatQuestion::new("one") };
    let (conversation, first) = say(&history, &question);
    say(&history, &ChatQuestion::new("two").within(conversation));
    let edited =
        ChatQuestion { reply_to: ReplyTo::Message(first), ..ChatQuestion::new("zwei").within(conversation) };
    say(&history, &edited);
    let json = history.export(conversation, ExportFormat::Json).expect("exports");
    let other = Conversations::in_memory().expect("memory").of("key other");
    let taken = other.import(&json).expect("imports");
    assert_eq!(texts(&other, taken[0]), texts(&history, conversation));
    let detail = other.open(taken[0]).expect("opens");
    assert_eq!((detail.messages.len(), detail.system.as_deref()), (6, Some("Be brief.")));
    assert_eq!(other.import(&format!("[{json},{json}]")).expect("imports").len(), 2);
    let markdown = history.export(conversation, ExportFormat::Markdown).expect("exports");
    assert!(markdown.starts_with("# one\n\n**system:**\n\nBe brief.\n\n**user:**\n\none\n\n"), "{markdown}");
    assert!(markdown.contains("zwei") && !markdown.contains("two"), "{markdown}");
}

#[test]
fn what_is_no_conversation_is_refused_and_nothing_of_it_is_kept() {
    let history = history();
    let plain = r#"[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;
    assert_eq!(history.import(plain).expect("imports").len(), 1);
    let message = |id: i64, parent: &str, role: &str| {
        format!(r#"{{"id":{id},"parent":{parent},"role":"{role}","text":"x","created_ms":0}}"#)
    };
    let document = |messages: &[String]| {
        let messages = messages.join(",");
        format!(r#"{{"format":"samovar.conversation/1","title":"t","messages":[{messages}]}}"#)
    };
    let sound = document(&[message(1, "null", "user"), message(2, "1", "assistant")]);
    for wrong in [
        "",
        "{}",
        "[]",
        "[3]",
        r#"[{"role":"assistant","content":"a"}]"#,
        r#"[{"role":"user","content":"q"}]"#,
        document(&[]).as_str(),
        document(&[message(1, "null", "assistant")]).as_str(),
        document(&[message(1, "null", "user"), message(2, "1", "user")]).as_str(),
        document(&[message(1, "2", "user"), message(2, "null", "user")]).as_str(),
        document(&[message(1, "null", "user"), message(1, "1", "assistant")]).as_str(),
        format!("[{sound},{}]", document(&[])).as_str(),
    ] {
        let error = history.import(wrong).err().unwrap_or_else(|| panic!("{wrong} was taken"));
        assert!(matches!(error, ChatError::Invalid { .. }), "{wrong}: {error}");
    }
    assert_eq!(history.list(10, None).expect("lists").len(), 1);
    assert_eq!(history.import(&sound).expect("imports").len(), 1);
}

#[test]
fn facts_are_said_only_where_they_are_wanted_and_named_then() {
    let history = history();
    let fact = history.remember(" I live in Turku ").expect("remembers");
    let turn = history.begin(&ChatQuestion::new("Where do I live?")).expect("begins");
    assert_eq!(turn.memory().facts[0].text, "I live in Turku");
    assert!(turn.messages()[0].content.contains("I live in Turku"));
    let conversation = turn.conversation();
    let off = ConversationChange { uses_facts: Some(false), ..ConversationChange::default() };
    history.change(conversation, &off).expect("changes");
    let turn = history.begin(&ChatQuestion::new("And now?").within(conversation)).expect("begins");
    assert!(turn.memory().is_plain() && turn.messages().iter().all(|said| !said.content.contains("Turku")));
    history.forget_fact(fact).expect("forgets");
    assert!(history.forget_fact(fact).is_err() && history.remember(" ").is_err());
}
