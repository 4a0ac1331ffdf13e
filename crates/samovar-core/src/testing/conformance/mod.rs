//! What every engine must do: one suite, run against the fake and against each real engine.
//!
//! ```text
//!   Subject { engine, model, options } ─► load ─► ask ─► Answer ─► facts that must hold
//! ```
//!
//! ```
//! use samovar_core::ModelFiles;
//! use samovar_core::testing::{FakeEngine, conformance::Subject};
//!
//! fn subject() -> Subject {
//!     Subject {
//!         engine: std::sync::Arc::new(FakeEngine::new()),
//!         files: ModelFiles::of("any.gguf"),
//!         packed: None,
//!         descriptor: FakeEngine::descriptor("any", 1 << 20),
//!         options: FakeEngine::options(),
//!         tie_gap: 0.0,
//!     }
//! }
//!
//! samovar_core::engine_conformance!(subject());
//! ```
//! gives one `#[test]` for each case; those of vectors and scores are skipped where the engine cannot make them or the
//! options have no pooling. For a model that writes no text, `engine_conformance!(embeddings: subject())` gives these
//! alone. [`run_all`] runs one after another those that the model can do.
//!
//! No case knows the model: prompts are made with the instance's own tokenizer, and answers are
//! compared with other answers of the same model. Every wait has a limit.

mod answers;
mod constraints;
mod embeddings;
mod lifecycle;
mod limits;
mod prefixes;
mod prompts;
mod sampling;
mod slots;
mod subject;

pub use answers::{
    answers_greedily_the_same_each_time, batches_beyond_64_tokens_are_right, cached_prefixes_are_reported,
    reused_prefixes_do_not_change_the_answer, text_survives_its_tokens, usage_adds_up,
};
pub use constraints::an_answer_obeys_its_constraint_or_is_refused;
pub use embeddings::{
    a_pair_too_long_is_refused_or_its_document_cut, an_input_too_long_is_cut_when_asked,
    an_input_too_long_is_refused_with_both_numbers, dropping_the_instance_ends_its_vectors,
    dropping_vectors_cancels_them, every_input_has_one_vector_of_length_one,
    many_requests_for_vectors_at_once_all_finish, no_text_is_read_as_a_special_token,
    parking_keeps_the_vectors, requests_without_a_text_are_refused,
    scores_do_not_depend_on_what_is_beside_them, token_ids_are_embedded_as_they_are,
    unwanted_inputs_are_given_up, vectors_are_cut_to_their_dimensions,
    vectors_do_not_depend_on_what_is_beside_them, what_a_model_was_not_loaded_for_is_refused,
};
pub use lifecycle::{
    a_cancelled_load_is_cancelled_or_complete, dropping_the_instance_ends_its_answers,
    loading_reports_rising_progress, parking_keeps_the_answer, probing_and_measuring_work,
    resuming_with_another_context_keeps_the_answer, what_it_makes_is_known_by_its_name,
};
pub use limits::{
    a_full_context_ends_with_length, a_prompt_nearly_as_long_as_the_context_is_answered,
    a_prompt_too_long_is_refused_with_both_numbers, an_empty_prompt_is_refused, max_tokens_bounds_the_answer,
    tokens_outside_the_vocabulary_are_refused,
};
pub use prefixes::{
    names_of_prefixes_never_repeat, prefixes_are_restored_once_and_again_after_parking,
    prefixes_come_in_the_order_of_their_last_use, private_prefixes_are_of_one_client_alone,
    saved_prefixes_are_as_good_as_computed_ones, what_is_anothers_is_not_told, wrong_state_is_refused,
};
pub use prompts::{
    a_conversation_is_rendered_as_it_is_read, a_count_is_that_of_the_prompt_as_it_is_computed,
    a_gap_has_its_marks_and_no_others,
};
pub use sampling::{
    logit_bias_bans_and_forces, logprobs_are_finite_sorted_and_complete, seeds_make_draws_repeatable,
    stop_strings_begun_but_not_finished_are_text, stop_strings_end_the_answer_and_are_not_in_it,
};
pub use slots::{
    answers_side_by_side_are_as_alone, dropping_a_queued_request_disturbs_nobody,
    dropping_the_receiver_frees_the_slot, equal_prompts_at_once_give_equal_answers,
    more_requests_than_slots_all_finish,
};
pub use subject::{Answer, Subject};

/// A case and its name.
pub type Case = (&'static str, fn(&Subject));

/// Makes one `#[test]` for each conformance case, run on the [`Subject`] that the expression gives.
#[macro_export]
macro_rules! engine_conformance {
    (@tests {$subject:expr} $($case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                $crate::testing::conformance::$case(&$subject);
            }
        )*
    };
    (@table {} $($case:ident,)*) => {
        &[$((stringify!($case), $crate::testing::conformance::$case)),*]
    };
    (@all $arm:ident {$($context:tt)*}) => {
        $crate::engine_conformance! { @$arm {$($context)*}
            answers_greedily_the_same_each_time,
            usage_adds_up,
            text_survives_its_tokens,
            batches_beyond_64_tokens_are_right,
            reused_prefixes_do_not_change_the_answer,
            cached_prefixes_are_reported,
            an_answer_obeys_its_constraint_or_is_refused,
            a_count_is_that_of_the_prompt_as_it_is_computed,
            a_conversation_is_rendered_as_it_is_read,
            a_gap_has_its_marks_and_no_others,
            max_tokens_bounds_the_answer,
            a_prompt_too_long_is_refused_with_both_numbers,
            a_prompt_nearly_as_long_as_the_context_is_answered,
            a_full_context_ends_with_length,
            an_empty_prompt_is_refused,
            tokens_outside_the_vocabulary_are_refused,
            stop_strings_end_the_answer_and_are_not_in_it,
            stop_strings_begun_but_not_finished_are_text,
            seeds_make_draws_repeatable,
            logit_bias_bans_and_forces,
            logprobs_are_finite_sorted_and_complete,
            dropping_the_receiver_frees_the_slot,
            dropping_a_queued_request_disturbs_nobody,
            answers_side_by_side_are_as_alone,
            equal_prompts_at_once_give_equal_answers,
            more_requests_than_slots_all_finish,
            what_it_makes_is_known_by_its_name,
            loading_reports_rising_progress,
            a_cancelled_load_is_cancelled_or_complete,
            parking_keeps_the_answer,
            resuming_with_another_context_keeps_the_answer,
            dropping_the_instance_ends_its_answers,
            probing_and_measuring_work,
            saved_prefixes_are_as_good_as_computed_ones,
            prefixes_are_restored_once_and_again_after_parking,
            names_of_prefixes_never_repeat,
            prefixes_come_in_the_order_of_their_last_use,
            private_prefixes_are_of_one_client_alone,
            what_is_anothers_is_not_told,
            wrong_state_is_refused,
        }
    };
    (@embeddings $arm:ident {$($context:tt)*}) => {
        $crate::engine_conformance! { @$arm {$($context)*}
            every_input_has_one_vector_of_length_one,
            vectors_do_not_depend_on_what_is_beside_them,
            vectors_are_cut_to_their_dimensions,
            an_input_too_long_is_refused_with_both_numbers,
            an_input_too_long_is_cut_when_asked,
            token_ids_are_embedded_as_they_are,
            no_text_is_read_as_a_special_token,
            requests_without_a_text_are_refused,
            what_a_model_was_not_loaded_for_is_refused,
            dropping_vectors_cancels_them,
            unwanted_inputs_are_given_up,
            parking_keeps_the_vectors,
            many_requests_for_vectors_at_once_all_finish,
            dropping_the_instance_ends_its_vectors,
            scores_do_not_depend_on_what_is_beside_them,
            a_pair_too_long_is_refused_or_its_document_cut,
        }
    };
    (embeddings: $subject:expr) => {
        $crate::engine_conformance! { @embeddings tests {$subject} }
    };
    ($subject:expr) => {
        $crate::engine_conformance! { @all tests {$subject} }
        $crate::engine_conformance! { @embeddings tests {$subject} }
    };
}

/// Every case of a model that writes text.
pub const CASES: &[Case] = crate::engine_conformance! { @all table {} };

/// Every case of vectors and scores.
pub const EMBEDDING_CASES: &[Case] = crate::engine_conformance! { @embeddings table {} };

/// Runs every case of what the model can do; panics at the first fact that does not hold.
pub fn run_all(subject: &Subject) {
    let of_text: &[Case] = if subject.capabilities().can_generate { CASES } else { &[] };
    for (_, case) in of_text.iter().chain(EMBEDDING_CASES) {
        case(subject);
    }
}
