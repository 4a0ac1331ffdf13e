//! The bar of a memory: what is held and mapped by each model, reserved, free, and where the soft limit is.

use super::line::{ScreenLine, Tone};

/// What an arena contains, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct ArenaBar {
    pub(super) name: String,
    /// Of each model with its place among all: bytes of its own, and bytes of mapped weights.
    pub(super) models: Vec<(usize, u64, u64)>,
    pub(super) reserved: u64,
    pub(super) budget: u64,
    pub(super) soft: u64,
}

/// What stands for a model in bars; its own bytes in upper case, mapped ones in lower case.
pub(super) fn letter(place: usize) -> char {
    char::from(b'A' + u8::try_from(place % 26).unwrap_or(0))
}

impl ArenaBar {
    /// Bytes of all models.
    pub(super) fn used(&self) -> u64 {
        self.models.iter().map(|(_, held, mapped)| held.saturating_add(*mapped)).fold(0, u64::saturating_add)
    }

    /// The bar in so many columns, its brackets included.
    pub(super) fn line(&self, width: usize) -> ScreenLine {
        let mut line = ScreenLine::of(Tone::Plain, "[");
        let cells = width.saturating_sub(2);
        let whole = self.budget.max(self.used().saturating_add(self.reserved)).max(1);
        let place_of = |bytes: u64| (bytes as f64 / whole as f64 * cells as f64).round() as usize;
        let mut parts: Vec<(char, Tone, u64)> = Vec::new();
        for (place, held, mapped) in &self.models {
            let letter = letter(*place);
            parts.push((letter, Tone::Model(*place), *held));
            parts.push((letter.to_ascii_lowercase(), Tone::Model(*place), *mapped));
        }
        parts.push(('+', Tone::Odd, self.reserved));
        parts.push(('.', Tone::Dim, u64::MAX));
        // The first cell at or after the limit; none where the limit is the budget.
        let mark = (self.soft > 0 && self.soft < whole).then(|| place_of(self.soft)).filter(|at| *at < cells);
        let (mut sum, mut at) = (0_u64, 0);
        for (sign, tone, bytes) in parts {
            sum = sum.saturating_add(bytes);
            let end = place_of(sum.min(whole)).min(cells);
            for cell in at..end {
                if mark == Some(cell) {
                    line.push(Tone::Odd, "|");
                } else {
                    line.push(tone, sign.encode_utf8(&mut [0; 4]));
                }
            }
            at = at.max(end);
        }
        line.push(Tone::Plain, "]");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(models: &[(u64, u64)], reserved: u64, budget: u64, soft: u64) -> String {
        let models =
            models.iter().enumerate().map(|(place, (held, mapped))| (place, *held, *mapped)).collect();
        ArenaBar { name: "memory".into(), models, reserved, budget, soft }.line(22).text()
    }

    #[test]
    fn each_part_has_the_columns_of_its_bytes() {
        assert_eq!(bar(&[(20, 10), (0, 30)], 10, 100, 0), "[AAAAaabbbbbb++......]");
        assert_eq!(bar(&[(20, 10)], 0, 100, 85), "[AAAAaa...........|..]");
        assert_eq!(bar(&[], 0, 100, 0), "[....................]");
        assert_eq!(bar(&[], 0, 0, 0), "[....................]");
    }

    #[test]
    fn more_than_the_budget_fills_the_bar_and_no_more() {
        assert_eq!(bar(&[(150, 0), (50, 0)], 0, 100, 80), "[AAAAAAAA|AAAAAABBBBB]");
        assert_eq!(bar(&[(u64::MAX, u64::MAX)], u64::MAX, 1, 1).chars().count(), 22);
    }

    #[test]
    fn letters_begin_again_after_z() {
        assert_eq!([letter(0), letter(25), letter(26)], ['A', 'Z', 'A']);
    }
}
