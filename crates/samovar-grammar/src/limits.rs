//! What grammars may cost: what is read and compiled, one step of an answer, and a whole answer.

use std::time::Duration;

use llguidance::api::ParserLimits;

/// Bytes of one JSON schema.
pub(crate) const SCHEMA_BYTES: usize = 64 << 10;
/// Bytes of a grammar that a client wrote, in Lark or GBNF.
pub(crate) const GRAMMAR_BYTES: usize = 64 << 10;
/// Bytes of a grammar that was written for all the tools of a request.
pub(crate) const TOOLS_BYTES: usize = 2 << 20;
/// Bytes of a regular expression that is the whole grammar.
pub(crate) const REGEX_BYTES: usize = 16 << 10;
/// Bytes of a regular expression in a schema.
pub(crate) const PATTERN_BYTES: usize = 1 << 10;
/// Schemas within schemas.
pub(crate) const DEPTH: usize = 64;
/// Schemas in total, those behind references counted once for each reference's target.
pub(crate) const SCHEMAS: usize = 20_000;
/// Properties in total.
pub(crate) const PROPERTIES: usize = 5_000;
/// Values of one `enum`.
pub(crate) const ENUM_VALUES: usize = 1_000;
/// Choices of one `anyOf`, `oneOf` or `allOf`: `oneOf` compares each with each other.
pub(crate) const CHOICES: usize = 256;
/// What an answer must hold at least, in characters or items: it must be able to end.
pub(crate) const LEAST: u64 = 10_000;
/// What an answer may hold at most, in characters or items. Counting beyond costs more than leaving it open.
pub(crate) const MOST: u64 = 1_000_000;
/// Optional properties of an object that must have one of them, or may have only one: each is a sequence of its own.
pub(crate) const COUNTED_PROPERTIES: usize = 100;

/// Rules of a GBNF grammar.
pub(crate) const GBNF_RULES: usize = 1_000;
/// Parentheses within parentheses of a GBNF grammar, and repetitions of one part behind each other.
pub(crate) const GBNF_DEPTH: usize = 64;
/// Repetitions of one part of a GBNF grammar, as in llama.cpp.
pub(crate) const GBNF_REPETITIONS: u32 = 2_000;
/// Bytes of a part of a GBNF grammar that becomes one terminal.
pub(crate) const GBNF_TERMINAL_BYTES: usize = 16 << 10;
/// Bytes of a GBNF grammar as Lark.
pub(crate) const GBNF_LARK_BYTES: usize = 512 << 10;

/// Tokens of a vocabulary; the largest known has 262,144.
pub(crate) const TOKENS: usize = 2_000_000;
/// Bytes of all tokens together. The tree of tokens has a node for each at most, and room for 4,194,304.
pub(crate) const TOKEN_BYTES_TOTAL: usize = 4_000_000;
/// Bytes of one token; a longer one is never allowed. The longest that models use are spaces, up to 1,024; these answers
/// need none of them.
pub(crate) const TOKEN_BYTES: usize = 512;

/// How long compiling may take. Its fuel usually ends it long before.
pub(crate) const COMPILE_TIME: Duration = Duration::from_secs(5);
/// How often the request's thread looks whether the answer is still wanted.
pub(crate) const COMPILE_LOOK: Duration = Duration::from_millis(20);
/// Stack of a compiling thread. The parser calls itself once for each property of an object.
pub(crate) const COMPILE_STACK_BYTES: usize = 64 << 20;
/// Grammars of one vocabulary that are compiled at the same time, those included that no request waits for any more.
pub(crate) const COMPILES: usize = 8;

/// Lexer states that all steps of one answer may make, in units of the parser's fuel (14 per microsecond).
pub(crate) const ANSWER_FUEL: u64 = 100_000_000;
/// Earley items that all masks of one answer may make (20 per microsecond).
pub(crate) const ANSWER_ITEMS: u64 = 200_000_000;

/// Bytes of all compiled grammars of one vocabulary, with what their lexers remember. One alone may take all of them.
pub(crate) const GRAMMARS_BYTES: usize = 64 << 20;
/// From here on no further grammar is compiled: what is left is for those that are in use, which grow with their answers.
pub(crate) const GRAMMARS_FULL_BYTES: usize = 48 << 20;
/// Memory of a compiled grammar without its lexer, for each byte of its text: its rules and symbols. An estimate: the parser
/// does not count it.
pub(crate) const COMPILED_PER_BYTE: usize = 16;
/// Bytes that the tree of tokens takes for each token: 15 trees, each with a place for every token, six of which have most of
/// the tokens as their nodes. Computed from the parser's structures, for tokens of seven bytes.
pub(crate) const TREE_TOKEN_BYTES: usize = 400;

/// Answers that [`Ahead`](crate::Ahead) computes for at the same time; more are computed by their callers.
pub(crate) const AHEAD_JOBS: usize = 256;

/// The parser's own limits. A state of the lexer takes 1 to 2 KiB, so the default of 250,000 states would be 500 MB.
pub(crate) fn parser_limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}
