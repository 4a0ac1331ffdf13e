//! What an answer must look like, as requests say it.

use samovar_core::Constraint;
use serde_json::Value;

use crate::request::Request;

impl Request {
    /// The same request, whose answer is JSON that this JSON schema allows. It replaces another constraint, as do the three that
    /// follow. [`Answer::collect_as`](crate::Answer::collect_as) reads such an answer.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "`json!` gives a value that has no other use")]
    pub fn schema(self, schema: Value) -> Self {
        self.grammar(Constraint::JsonSchema(schema.to_string()))
    }

    /// The same request, whose answer is a JSON object.
    #[must_use]
    pub fn json(self) -> Self {
        self.grammar(Constraint::JsonObject)
    }

    /// The same request, whose whole answer matches this regular expression.
    #[must_use]
    pub fn regex(self, pattern: impl Into<String>) -> Self {
        self.grammar(Constraint::Regex(pattern.into()))
    }

    /// The same request, whose answer obeys this constraint. Thoughts before it need not, and calls of tools take its place.
    #[must_use]
    pub fn grammar(self, constraint: Constraint) -> Self {
        self.generating(|generate| generate.constraint = Some(constraint))
    }
}
