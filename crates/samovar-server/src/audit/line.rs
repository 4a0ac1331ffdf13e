//! One line of the audit log.

use serde::Serialize;

use crate::moment;
use crate::request_record::EndedRequest;

/// A request that has ended. The order of the fields is that of the line.
#[derive(Debug, Serialize)]
struct AuditLine<'a> {
    time: String,
    id: &'a str,
    client: &'a str,
    address: &'a str,
    method: &'a str,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    prompt_tokens: u64,
    cached_tokens: u64,
    answer_tokens: u64,
    status: u16,
    outcome: &'a str,
    ms: u64,
}

/// Lines that are missing here.
#[derive(Debug, Serialize)]
struct DroppedLines {
    time: String,
    dropped: u64,
}

/// The line of a request; `time` is when it began.
pub(super) fn of(ended: &EndedRequest) -> String {
    text(&AuditLine {
        time: moment::written(ended.began),
        id: &ended.id,
        client: &ended.client,
        address: &ended.address,
        method: ended.method.as_str(),
        route: ended.route,
        model: ended.model.as_deref(),
        prompt_tokens: ended.prompt_tokens,
        cached_tokens: ended.cached_tokens,
        answer_tokens: ended.answer_tokens,
        status: ended.status,
        outcome: ended.outcome(),
        ms: ended.took.as_millis() as u64,
    })
}

/// The line that says how many are missing before it.
pub(super) fn of_dropped(dropped: u64) -> String {
    text(&DroppedLines { time: moment::now(), dropped })
}

fn text(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("invariant: words and numbers");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::request_record::tests::ended;

    #[test]
    fn a_line_says_who_asked_for_what_and_how_it_ended() {
        let mut request = ended("alice\n{}", "demo", 7);
        request.route = "/v1/completions";
        let line = of(&request);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let object: Value = serde_json::from_str(&line).expect("JSON");
        let names: Vec<&str> = object.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "time",
                "id",
                "client",
                "address",
                "method",
                "route",
                "model",
                "prompt_tokens",
                "cached_tokens",
                "answer_tokens",
                "status",
                "outcome",
                "ms"
            ]
        );
        assert_eq!(object["client"], "alice\n{}");
        assert_eq!(object["address"], "10.0.0.7");
        assert_eq!(object["prompt_tokens"], 7);
        assert_eq!(object["answer_tokens"], 14);
        assert_eq!(object["status"], 200);
        assert_eq!(object["outcome"], "ok");
    }
}
