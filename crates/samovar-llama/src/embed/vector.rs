//! What a model computed of an input becomes what was asked for: checked, cut, brought to length 1. Pure.

use samovar_core::embedding::EmbedOutput;

/// What llama.cpp makes of a classifier's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    /// Nothing.
    Raw,
    /// Probabilities of the answers "yes" and "no".
    Probabilities,
}

impl Scores {
    /// The raw scores of a row: of two answers the one that says how likely "yes" is, whose sigmoid is its probability.
    fn of(self, row: &[f32]) -> Vec<f32> {
        // A probability that is too small for a number is none the less finite.
        let logarithm = |probability: f32| probability.max(f32::MIN_POSITIVE).ln();
        match (self, row) {
            (Self::Probabilities, [yes, no]) => vec![logarithm(*yes) - logarithm(*no)],
            _ => row.to_vec(),
        }
    }
}

/// The numbers that are told of a row. `None` where not all of them are finite, as those of a damaged model.
pub(crate) fn values(row: &[f32], output: EmbedOutput, scores: Scores) -> Option<Vec<f32>> {
    if !row.iter().all(|number| number.is_finite()) {
        return None;
    }
    let EmbedOutput::Vector { dimensions, normalize } = output else { return Some(scores.of(row)) };
    let count = dimensions.map_or(row.len(), |dimensions| row.len().min(dimensions as usize));
    let mut numbers = row[..count].to_vec();
    let length = numbers.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // A vector without a direction stays as it is.
    if normalize && length > 0.0 {
        for value in &mut numbers {
            *value = (f64::from(*value) / length) as f32;
        }
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(dimensions: Option<u32>, normalize: bool) -> EmbedOutput {
        EmbedOutput::Vector { dimensions, normalize }
    }

    #[test]
    fn a_vector_is_cut_before_it_is_brought_to_length_one() {
        let row = [3.0, 4.0, 12.0];
        assert_eq!(values(&row, vector(None, false), Scores::Raw), Some(row.to_vec()));
        assert_eq!(values(&row, vector(Some(2), false), Scores::Raw), Some(vec![3.0, 4.0]));
        assert_eq!(values(&row, vector(Some(2), true), Scores::Raw), Some(vec![0.6, 0.8]));
        assert_eq!(values(&row, EmbedOutput::Score, Scores::Raw), Some(row.to_vec()));
    }

    #[test]
    fn lengths_are_summed_up_without_overflow() {
        let unit = values(&[f32::MAX, f32::MAX], vector(None, true), Scores::Raw).unwrap();
        assert!(unit.iter().all(|value| (value - 0.5_f32.sqrt()).abs() < 1e-6), "{unit:?}");
        assert_eq!(values(&[0.0, 0.0], vector(None, true), Scores::Raw), Some(vec![0.0, 0.0]));
    }

    #[test]
    fn what_is_no_number_is_not_told() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // Also where it would be cut off.
            assert_eq!(values(&[1.0, wrong], vector(Some(1), true), Scores::Raw), None);
            assert_eq!(values(&[wrong], EmbedOutput::Score, Scores::Raw), None);
        }
    }

    #[test]
    fn of_two_probabilities_the_score_is_that_whose_sigmoid_is_the_first() {
        let score = |row: &[f32]| values(row, EmbedOutput::Score, Scores::Probabilities).unwrap();
        for yes in [0.25_f32, 0.5, 0.9] {
            let [score] = score(&[yes, 1.0 - yes])[..] else { panic!("several") };
            assert!((1.0 / (1.0 + (-score).exp()) - yes).abs() < 1e-6, "{yes}: {score}");
        }
        let certain = score(&[1.0, 0.0])[0];
        assert!(certain.is_finite() && certain > 80.0, "{certain}");
        assert_eq!(score(&[0.5, 0.25, 0.25]).len(), 3, "these are not yes and no");
    }
}
