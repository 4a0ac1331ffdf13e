//! `/_…`: driving the hub from another process.
//!
//! | request | does |
//! |---|---|
//! | `GET /_counts` | answers with [`Counts`](crate::Counts) |
//! | `POST /_counts` | forgets what was counted |
//! | `POST /_lies` | tells one [`Rule`] more, or each of a list |
//! | `DELETE /_lies` | speaks the truth again |
//! | `POST /_hold` | `{"file": "org/name/path", "after": bytes}`: stops there |
//! | `POST /_release` | `{"file": …}`, or nothing for all |
//! | `GET /_held?file=…` | `{"held": whether a request waits there}` |

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::count::Counts;
use crate::gate::Gates;
use crate::reply::Reply;
use crate::request::Request;
use crate::rule::Rule;
use crate::state::State;

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    One(Rule),
    Many(Vec<Rule>),
}

#[derive(Deserialize)]
struct Hold {
    file: String,
    after: u64,
}

#[derive(Deserialize)]
struct Release {
    file: Option<String>,
}

pub(super) fn answer(state: &mut State, gates: &Gates, request: &Request) -> Reply {
    let done = || Reply::json(200, &json!({"done": true}));
    match (request.method.as_str(), request.path()) {
        ("GET", "/_counts") => match serde_json::to_value(counts(state)) {
            Ok(counts) => Reply::json(200, &counts),
            Err(error) => refuse(&error),
        },
        ("POST", "/_counts") => {
            state.counts = Counts::default();
            done()
        }
        ("POST", "/_lies") => match serde_json::from_slice(&request.body) {
            Ok(rules) => {
                let rules = match rules {
                    Rules::One(rule) => vec![rule],
                    Rules::Many(rules) => rules,
                };
                let given = state.addresses_given;
                for rule in rules {
                    state.rules.add(rule, given);
                }
                done()
            }
            Err(error) => refuse(&error),
        },
        ("DELETE", "/_lies") => {
            state.rules.clear();
            done()
        }
        ("POST", "/_hold") => match serde_json::from_slice::<Hold>(&request.body) {
            Ok(hold) => {
                gates.close(&hold.file, hold.after);
                done()
            }
            Err(error) => refuse(&error),
        },
        ("POST", "/_release") => {
            match serde_json::from_slice::<Release>(&request.body) {
                Ok(Release { file: Some(file) }) => gates.open(&file),
                _ => gates.open_all(),
            }
            done()
        }
        ("GET", "/_held") => {
            let file = request.query("file").unwrap_or_default();
            Reply::json(200, &json!({"held": gates.wait_until_reached(&file, Duration::ZERO)}))
        }
        _ => Reply::text(404, "text/plain", "Not Found"),
    }
}

/// All that is counted, as of now.
pub(crate) fn counts(state: &State) -> Counts {
    Counts { told: state.rules.told(), ..state.counts.clone() }
}

fn refuse(error: &serde_json::Error) -> Reply {
    Reply::json(400, &json!({"error": error.to_string()}))
}
