//! What was measured, and its middle.

/// Values of one thing, in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// No values.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds the values of another measurement of the same thing.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// The values as measured.
    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle value; NaN when nothing was measured.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which this share (0..=1) lies, between neighbours by proportion; NaN without values.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let place = share * last as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
    }

    /// All values together.
    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().sum()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Samples::from_iter([4.0, 1.0, 3.0, 2.0]).median().to_bits(), 2.5_f64.to_bits());
        assert_eq!(Samples::from_iter([9.0, 1.0, 2.0]).median().to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn nothing_measured_is_no_number() {
        assert!(Samples::default().median().is_nan());
    }
}
