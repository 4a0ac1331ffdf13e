//! A call as Python writes it: `name(key="value", …)`. Each argument is said when it is whole.

use super::output::{is_of_name, is_too_long};
use super::python_values::to_json;
use super::raw::quoted;
use super::{HELD_MAX_BYTES, Progress, Scene};

#[derive(Debug, Default)]
pub(super) struct PythonCall {
    name: String,
    /// Behind its opening parenthesis.
    is_open: bool,
    is_said: bool,
    arguments: usize,
    /// The argument that is being read.
    argument: String,
    depth: u32,
    quote: Option<char>,
    is_escaped: bool,
}

impl PythonCall {
    /// From its name on.
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn step(&mut self, c: char, scene: &mut Scene<'_>) -> Progress {
        if !self.is_open {
            let is_first = self.name.is_empty();
            let is_part = is_of_name(c) && !"()[]=,'".contains(c) && !(is_first && c.is_ascii_digit());
            if c == '(' && !is_first {
                self.is_open = true;
            } else if is_part && !is_too_long(&self.name) {
                self.name.push(c);
            } else {
                return Progress::Ended(c.to_string());
            }
            return Progress::More;
        }
        if self.argument.len() > HELD_MAX_BYTES {
            return self.break_off(c, scene);
        }
        if let Some(quote) = self.quote {
            if c == quote && !self.is_escaped {
                self.quote = None;
            }
            self.is_escaped = c == '\\' && !self.is_escaped;
            self.argument.push(c);
            return Progress::More;
        }
        match c {
            '"' | '\'' => self.quote = Some(c),
            '(' | '[' | '{' => self.depth += 1,
            ')' if self.depth == 0 => return self.end(c, scene),
            ')' | ']' | '}' if self.depth == 0 => return self.break_off(c, scene),
            ')' | ']' | '}' => self.depth -= 1,
            ',' if self.depth == 0 => {
                return if self.say_argument(scene) { Progress::More } else { self.break_off(c, scene) };
            }
            _ => {}
        }
        self.argument.push(c);
        Progress::More
    }

    fn end(&mut self, c: char, scene: &mut Scene<'_>) -> Progress {
        let has_argument = !self.argument.trim().is_empty();
        let is_sound = if has_argument { self.say_argument(scene) } else { self.begin(scene) };
        if !is_sound {
            return self.break_off(c, scene);
        }
        close(scene);
        Progress::Whole
    }

    fn begin(&mut self, scene: &mut Scene<'_>) -> bool {
        if !self.is_said && scene.out.begin(scene.tools.meant(&self.name)) {
            self.is_said = true;
            scene.out.arguments("{");
        }
        self.is_said
    }

    /// Says the argument that was read; false where it is none.
    fn say_argument(&mut self, scene: &mut Scene<'_>) -> bool {
        let written = self.argument.trim();
        let named = written.split_once('=').map(|(key, value)| (key.trim_end(), value.trim()));
        let named = named.filter(|(key, value)| is_identifier(key) && !value.starts_with('='));
        let tool = scene.tools.meant(&self.name);
        let (key, value) = match (named, scene.tools.argument_at(tool, self.arguments)) {
            (Some((key, value)), _) => (key.to_owned(), value),
            (None, Some(key)) => (key.to_owned(), written),
            (None, None) => return false,
        };
        if value.is_empty() {
            return false;
        }
        let json = to_json(value).unwrap_or_else(|| quoted(value));
        if !self.begin(scene) {
            return false;
        }
        let comma = if self.arguments == 0 { "" } else { ", " };
        scene.out.arguments(&format!("{comma}{}: {json}", quoted(&key)));
        self.arguments += 1;
        self.argument.clear();
        true
    }

    /// What was read since the last whole argument is no part of the call.
    fn break_off(&mut self, c: char, scene: &mut Scene<'_>) -> Progress {
        if !self.is_said {
            return Progress::Ended(c.to_string());
        }
        close(scene);
        let mut again = std::mem::take(&mut self.argument);
        again.push(c);
        Progress::Ended(again)
    }
}

fn close(scene: &mut Scene<'_>) {
    scene.out.arguments("}");
    scene.out.end_call();
}

fn is_identifier(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
