//! The log of requests: one line a request, and lines that say what a model costs.
//!
//! ```text
//!   {"time_ms":1763724545000,"model":"qwen2.5:7b","client":"4f1c","hold_ms":820}     a request
//!   {"model":"qwen2.5:7b","bytes":5100000000,"load_ms":3200}                         facts of a model
//!   1200 qwen2.5:7b 820                                                              a request, by hand
//!   # remarks and empty lines are passed over
//! ```
//!
//! The daemon writes it, people and programs may; fields that are not known here are passed over. Prompts and
//! answers are in no line.

use std::collections::BTreeMap;

use samovar_core::Arena;
use samovar_core::port::Millis;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests that are read of one log at most.
const REQUESTS_MAX: usize = 5_000_000;
/// Characters of a line that an error repeats at most.
const SHOWN: usize = 60;

/// One request, as a line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it came, in milliseconds since any moment that the whole log has in common.
    #[serde(alias = "timestamp_ms", alias = "t")]
    pub time_ms: u64,
    /// The model.
    pub model: String,
    /// Stands for who asked; never a name or a key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// How its instance came to be ready (`hit`, `parked`, `joined`, `cold`, `fetched`), or `refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Milliseconds that it waited for a slot or for memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<u64>,
    /// Milliseconds that it waited for a load or a resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// Milliseconds for which it had its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// Tokens of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// What a model costs, as a line of the log. Whatever is left out is taken from the model itself if it is on this
/// machine, else assumed (see [`Costs`](super::Costs)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCosts {
    /// The model.
    pub model: String,
    /// Memory of it in all, where nothing tells held from mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Memory of one instance alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_bytes: Option<u64>,
    /// Weights as page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped_bytes: Option<u64>,
    /// Memory of one instance on each device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_bytes: BTreeMap<Arena, u64>,
    /// What is left of it when it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_bytes: Option<u64>,
    /// What a load takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// What resuming it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_ms: Option<u64>,
    /// Requests that it serves at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

/// A line that can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads a log line by line.
#[derive(Debug, Default)]
pub struct Reader {
    lines: usize,
    torn: usize,
    asked: Vec<Asked>,
    facts: BTreeMap<String, ModelCosts>,
}

impl Reader {
    /// What follows are the lines of another file; errors count from its first.
    pub fn begin_file(&mut self) {
        self.lines = 0;
    }

    /// Lines that end in their midst, as a process that dies while writing leaves them: they are passed over.
    pub fn torn(&self) -> usize {
        self.torn
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// When it is neither a request, nor facts of a model, nor a remark, nor the beginning of one.
    pub fn take(&mut self, line: &str) -> Result<(), Error> {
        self.lines += 1;
        let number = self.lines;
        self.read(line.trim()).map_err(|what| Error { line: number, what })
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        match line.chars().next() {
            None | Some('#') => Ok(()),
            Some('{') => self.object(line),
            Some(_) => words(line).and_then(|asked| self.request(asked)),
        }
    }

    fn object(&mut self, line: &str) -> Result<(), String> {
        let object: Value = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(error) if error.is_eof() => {
                self.torn += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("not JSON: {error}")),
        };
        let has = |names: &[&str]| names.iter().any(|name| object.get(name).is_some());
        if has(&["time_ms", "timestamp_ms", "t"]) {
            let asked = serde_json::from_value(object).map_err(|error| format!("not a request: {error}"))?;
            return self.request(asked);
        }
        if !has(&["bytes", "held_bytes", "mapped_bytes", "load_ms"]) {
            return Err(
                "neither a request (`time_ms` and `model`) nor facts of a model (`model`, `bytes` and \
                        `load_ms`)"
                    .to_owned(),
            );
        }
        let facts: ModelCosts =
            serde_json::from_value(object).map_err(|error| format!("not facts of a model: {error}"))?;
        if facts.model.is_empty() {
            return Err("it names no model".to_owned());
        }
        self.facts.insert(facts.model.clone(), facts);
        Ok(())
    }

    fn request(&mut self, asked: Asked) -> Result<(), String> {
        if asked.model.is_empty() {
            return Err("it names no model".to_owned());
        }
        if self.asked.len() >= REQUESTS_MAX {
            return Err(format!("more than {REQUESTS_MAX} requests; replay a part of the log"));
        }
        self.asked.push(asked);
        Ok(())
    }

    /// The requests of all lines, in the order of their times.
    pub fn finish(self) -> Trace {
        let mut trace = Trace::default();
        let mut asked = self.asked;
        asked.sort_by_key(|asked| asked.time_ms);
        let begin = asked.first().map_or(0, |first| first.time_ms);
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for Asked { time_ms, model, client, hold_ms, tokens, .. } in asked {
            let number = *numbers.entry(model).or_insert_with_key(|name| {
                let facts = self.facts.get(name).cloned();
                trace.models.push(Named { name: name.clone(), facts });
                trace.models.len() - 1
            });
            let at = Millis(time_ms - begin);
            trace.requests.push(Request { at, model: number, client, hold_ms, tokens });
        }
        trace
    }
}

/// `TIME MODEL [HOLD]`, as people write it.
fn words(line: &str) -> Result<Asked, String> {
    let mut words = line.split_whitespace();
    let (time, model) = (words.next().unwrap_or_default(), words.next());
    let number = |text: &str, what: &str| {
        text.parse::<u64>().map_err(|_| format!("{:?} is no {what} in milliseconds", shown(text)))
    };
    let time_ms = number(time, "time")?;
    let model = model.ok_or_else(|| "a time and no model".to_owned())?.to_owned();
    let hold_ms = words.next().map(|word| number(word, "length of time")).transpose()?;
    match words.next() {
        Some(word) => Err(format!("{:?} is too much: a line is TIME MODEL, or TIME MODEL HOLD", shown(word))),
        None => Ok(Asked { time_ms, model, hold_ms, ..Asked::default() }),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Requests in the order of their times, which begin at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The models, in the order in which they are asked for.
    pub models: Vec<Named>,
    /// The requests.
    pub requests: Vec<Request>,
}

/// A model of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What requests call it.
    pub name: String,
    /// What the log says that it costs.
    pub facts: Option<ModelCosts>,
}

/// A request of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it comes.
    pub at: Millis,
    /// Which of the trace's models it asks for.
    pub model: usize,
    /// Stands for who asks.
    pub client: String,
    /// For how long it has its slot, if the log knows.
    pub hold_ms: Option<u64>,
    /// Tokens of its answer, if the log knows.
    pub tokens: Option<u64>,
}

/// What a token takes where the log knows tokens and no time.
const TOKEN_MS: u64 = 50;

impl Trace {
    /// From the first request to the last, in milliseconds.
    pub fn span_ms(&self) -> u64 {
        self.requests.last().map_or(0, |last| last.at.0)
    }

    /// Gives every request that does not know for how long it has its slot one: 50 ms a token where it knows its
    /// tokens, else `hold_ms`. Returns how many there were.
    pub fn assume_holds(&mut self, hold_ms: u64) -> usize {
        let mut assumed = 0;
        for request in self.requests.iter_mut().filter(|request| request.hold_ms.is_none()) {
            request.hold_ms = Some(request.tokens.map_or(hold_ms, |tokens| tokens.saturating_mul(TOKEN_MS)));
            assumed += 1;
        }
        assumed
    }

    /// Keeps the models that `is_known` and the requests for them. Returns the names of the others, each with the
    /// number of its requests.
    pub fn retain(&mut self, is_known: impl Fn(usize) -> bool) -> Vec<(String, usize)> {
        let (mut numbers, mut models, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for (number, model) in std::mem::take(&mut self.models).into_iter().enumerate() {
            if is_known(number) {
                numbers.push(Ok(models.len()));
                models.push(model);
            } else {
                numbers.push(Err(dropped.len()));
                dropped.push((model.name, 0));
            }
        }
        self.requests.retain_mut(|request| match numbers[request.model] {
            Ok(number) => {
                request.model = number;
                true
            }
            Err(number) => {
                dropped[number].1 += 1;
                false
            }
        });
        self.models = models;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trace, Error> {
        let mut reader = Reader::default();
        text.lines().try_for_each(|line| reader.take(line))?;
        Ok(reader.finish())
    }

    #[test]
    fn both_forms_and_remarks_are_read_and_put_in_order() {
        let trace = read(
            "# of a Monday\n\n{\"model\":\"a\",\"bytes\":5,\"load_ms\":7}\n\
             {\"time_ms\":1500,\"model\":\"b\",\"client\":\"c\",\"hold_ms\":20,\"brand_new\":true}\n\
             1000 a\n1200 a 30\n",
        )
        .expect("reads");
        assert_eq!(trace.models[0].name, "a");
        assert_eq!(trace.models[0].facts.as_ref().and_then(|facts| facts.bytes), Some(5));
        assert_eq!(trace.models[1].facts, None);
        let seen: Vec<_> =
            trace.requests.iter().map(|request| (request.at.0, request.model, request.hold_ms)).collect();
        assert_eq!(seen, [(0, 0, None), (200, 0, Some(30)), (500, 1, Some(20))]);
        assert_eq!(trace.span_ms(), 500);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (line, words) in [
            ("{\"time_ms\":}", "line 2: not JSON"),
            ("{\"time_ms\":-3,\"model\":\"a\"}", "line 2: not a request"),
            ("{\"model\":\"a\"}", "line 2: neither a request"),
            ("{\"model\":\"\",\"bytes\":3}", "line 2: it names no model"),
            ("soon a", "line 2: \"soon\" is no time in milliseconds"),
            ("12", "line 2: a time and no model"),
            ("12 a 3 4", "line 2: \"4\" is too much"),
        ] {
            let error = read(&format!("1 a\n{line}")).expect_err(line);
            assert!(error.to_string().starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let mut reader = Reader::default();
        for line in ["1 a", "{\"time_ms\":3,\"mod", "{", "2 a"] {
            reader.take(line).expect(line);
        }
        assert_eq!(reader.torn(), 2);
        assert_eq!(reader.finish().requests.len(), 2);
    }

    #[test]
    fn a_written_request_is_read_again() {
        let asked = Asked {
            time_ms: 7,
            model: "m".into(),
            client: "c".into(),
            tier: Some("hit".into()),
            hold_ms: Some(3),
            ..Asked::default()
        };
        let line = serde_json::to_string(&asked).expect("serializes");
        assert_eq!(line, r#"{"time_ms":7,"model":"m","client":"c","tier":"hit","hold_ms":3}"#);
        assert_eq!(read(&line).expect("reads").requests[0].hold_ms, Some(3));
    }

    #[test]
    fn models_of_which_nothing_is_known_are_left_out_with_their_requests() {
        let mut trace = read("1 a\n2 b\n3 c\n4 b\n").expect("reads");
        assert_eq!(trace.retain(|number| number != 1), [("b".to_owned(), 2)]);
        let models: Vec<_> = trace.requests.iter().map(|request| request.model).collect();
        assert_eq!((models, trace.models.len()), (vec![0, 1], 2));
        assert_eq!(trace.assume_holds(1_000), 2);
        assert!(trace.requests.iter().all(|request| request.hold_ms == Some(1_000)));
    }
}
