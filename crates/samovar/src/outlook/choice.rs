//! Which variant of a model is taken when its name leaves that open: the largest that fits, and why. Pure.

use samovar_core::units::ByteSize;

/// A variant larger than this part of the largest, in percent, is as large.
const AS_LARGE_PERCENT: u64 = 97;
/// Fewer bits for each weight are taken only where nothing else fits.
const BITS_LEAST: u32 = 4;

/// A variant as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RatedVariant<'a> {
    /// Its quantization; empty where its name does not say.
    pub(crate) quantization: &'a str,
    /// Bytes of its weights.
    pub(crate) bytes: u64,
    /// Memory that it takes with the context of its name; `None` while that is unknown.
    pub(crate) memory_bytes: Option<u64>,
}

/// How a quantization is preferred: the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Preference {
    /// Quantized, with as many bits as answers need.
    Quantized,
    /// 16-bit floats: twice the bytes of `Q8_0` and half its speed, for answers that hardly differ. Or unknown.
    Float,
    /// Larger floats than authors train with.
    Wide,
    /// Fewer bits than answers need.
    Coarse,
}

impl Preference {
    fn of(quantization: &str) -> Self {
        match bits(quantization) {
            Some(bits) if bits < BITS_LEAST => Self::Coarse,
            Some(bits) if bits < 16 => Self::Quantized,
            Some(bits) if bits > 16 => Self::Wide,
            _ => Self::Float,
        }
    }
}

/// The place of the variant to take: the largest that fits the budget. Where it is in one of the older formats, one of the K
/// formats of the same size. `None` where no variant's memory is known, or none fits.
pub(crate) fn best(variants: &[RatedVariant<'_>], budget_bytes: u64) -> Option<usize> {
    let fits = |place: &usize| variants[*place].memory_bytes.is_some_and(|bytes| bytes <= budget_bytes);
    let fitting: Vec<usize> = (0..variants.len()).filter(fits).collect();
    let preference = |place: usize| Preference::of(variants[place].quantization);
    let wanted = fitting.iter().map(|place| preference(*place)).min()?;
    let fitting: Vec<usize> = fitting.into_iter().filter(|place| preference(*place) == wanted).collect();
    let largest = fitting.iter().copied().max_by_key(|place| variants[*place].bytes)?;
    if !is_older(variants[largest].quantization) {
        return Some(largest);
    }
    let is_as_large =
        |place: &usize| variants[*place].bytes >= variants[largest].bytes / 100 * AS_LARGE_PERCENT;
    let newer = fitting.into_iter().filter(|place| variants[*place].quantization.contains("_K"));
    let newer = newer.filter(is_as_large);
    Some(newer.max_by_key(|place| variants[*place].bytes).unwrap_or(largest))
}

/// Why it is taken, as a sentence that begins with its quantization.
pub(crate) fn reason(
    variants: &[RatedVariant<'_>],
    chosen: usize,
    budget_bytes: u64,
    context_tokens: u32,
) -> String {
    let RatedVariant { quantization, bytes, .. } = variants[chosen];
    let name = if quantization.is_empty() { "the file" } else { quantization };
    let fits = |variant: &&RatedVariant<'_>| variant.memory_bytes.is_some_and(|bytes| bytes <= budget_bytes);
    let larger: Vec<_> = variants.iter().filter(fits).filter(|variant| variant.bytes > bytes).collect();
    let is_float = |variant: &&RatedVariant<'_>| {
        matches!(Preference::of(variant.quantization), Preference::Float | Preference::Wide)
    };
    let preference = Preference::of(quantization);
    let which =
        if preference == Preference::Quantized && larger.iter().any(is_float) { "quantized " } else { "" };
    let and_why = match preference {
        Preference::Coarse => ", and none with more bits fits",
        Preference::Quantized if larger.iter().any(|variant| is_older(variant.quantization)) => {
            ", and better than an older format of its size"
        }
        _ => "",
    };
    let budget = ByteSize::from_bytes(budget_bytes);
    let context = grouped(context_tokens);
    let count = variants.len();
    if count == 1 {
        return format!("{name}: the only variant, and it fits in {budget} with {context} tokens");
    }
    format!(
        "{name}: the largest {which}of {count} variants that fits in {budget} with {context} tokens{and_why}"
    )
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u32) -> String {
    match number / 1_000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1_000),
    }
}

/// Bits for each weight, by the name of a quantization: the first number in it.
fn bits(quantization: &str) -> Option<u32> {
    let digits = quantization.trim_start_matches(|character: char| !character.is_ascii_digit());
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// Whether it is one of the older formats, of which the K formats are better ones of the same size.
fn is_older(quantization: &str) -> bool {
    ["Q4_0", "Q4_1", "Q5_0", "Q5_1"].iter().any(|older| quantization.starts_with(older))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// Variants of an 8B model by quantization, with their bytes in units of 10 MB; each takes 1 GB more of memory.
    fn variants<'a>(sizes: &[(&'a str, u64)]) -> Vec<RatedVariant<'a>> {
        let variant = |&(quantization, size): &(&'a str, u64)| {
            let bytes = size * GB / 100;
            RatedVariant { quantization, bytes, memory_bytes: Some(bytes + GB) }
        };
        sizes.iter().map(variant).collect()
    }

    const USUAL: [(&str, u64); 8] = [
        ("F16", 1607),
        ("Q8_0", 854),
        ("Q6_K", 660),
        ("Q5_K_M", 573),
        ("Q4_K_M", 492),
        ("IQ4_XS", 445),
        ("Q3_K_M", 402),
        ("Q2_K", 318),
    ];

    #[test]
    fn the_largest_that_fits_is_taken_and_coarse_ones_and_floats_only_where_nothing_else_fits() {
        type Row<'a> = (&'a [(&'a str, u64)], u64, Option<&'a str>);
        let table: [Row<'_>; 12] = [
            (&USUAL, 64, Some("Q8_0")),
            (&USUAL, 9, Some("Q6_K")),
            (&USUAL, 7, Some("Q5_K_M")),
            (&USUAL, 6, Some("Q4_K_M")),
            (&USUAL, 5, Some("Q2_K")),
            (&USUAL, 4, None),
            (&[("F32", 400), ("BF16", 200)], 64, Some("BF16")),
            (&[("F32", 400), ("F16", 200), ("Q2_K", 50)], 4, Some("F16")),
            (&[("", 400), ("Q4_0", 100)], 64, Some("Q4_0")),
            (&[("MXFP4", 400), ("UD-Q4_K_XL", 390), ("UD-IQ1_S", 100)], 64, Some("MXFP4")),
            (&[("UD-IQ1_S", 100), ("TQ2_0", 120)], 64, Some("TQ2_0")),
            (&[], 64, None),
        ];
        for (sizes, budget_gb, expected) in table {
            let variants = variants(sizes);
            // 5.02 GB for Q3_K_M: just too large for five.
            let chosen = best(&variants, budget_gb * GB).map(|place| variants[place].quantization);
            assert_eq!(chosen, expected, "{sizes:?} in {budget_gb} GB");
        }
    }

    #[test]
    fn a_k_format_is_taken_rather_than_an_older_one_of_its_size() {
        let table: [(&[(&str, u64)], &str); 4] = [
            (&[("Q5_0", 560), ("Q5_K_S", 559), ("Q4_K_M", 492)], "Q5_K_S"),
            (&[("Q5_1", 607), ("Q5_K_M", 573)], "Q5_1"),
            (&[("Q8_0", 854), ("Q8_K_XL", 850)], "Q8_0"),
            (&[("Q4_1", 513), ("IQ4_NL", 512), ("Q4_K_M", 505), ("Q4_K_S", 500)], "Q4_K_M"),
        ];
        for (sizes, expected) in table {
            let variants = variants(sizes);
            let chosen = best(&variants, 64 * GB).expect("one fits");
            assert_eq!(variants[chosen].quantization, expected, "{sizes:?}");
        }
    }

    #[test]
    fn nothing_is_chosen_where_no_memory_is_known() {
        let mut variants = variants(&USUAL);
        for variant in &mut variants {
            variant.memory_bytes = None;
        }
        assert_eq!(best(&variants, u64::MAX), None);
        variants[4].memory_bytes = Some(1);
        assert_eq!(best(&variants, u64::MAX), Some(4), "what is not known does not count");
    }

    #[test]
    fn a_choice_says_why() {
        let said = |sizes: &[(&str, u64)], budget_gb: u64| {
            let variants = variants(sizes);
            let chosen = best(&variants, budget_gb * GB).expect("one fits");
            reason(&variants, chosen, budget_gb * GB, 4_096)
        };
        assert_eq!(
            said(&USUAL, 6),
            "Q4_K_M: the largest of 8 variants that fits in 6.0 GB with 4,096 tokens"
        );
        let with_floats = "Q8_0: the largest quantized of 8 variants that fits in 64.0 GB with 4,096 tokens";
        assert_eq!(said(&USUAL, 64), with_floats);
        assert!(said(&USUAL, 5).ends_with("4,096 tokens, and none with more bits fits"));
        let only = "Q8_0: the only variant, and it fits in 64.0 GB with 4,096 tokens";
        assert_eq!(said(&[("Q8_0", 854)], 64), only);
        let older = said(&[("Q5_0", 560), ("Q5_K_S", 559)], 64);
        assert!(older.starts_with("Q5_K_S: ") && older.ends_with("an older format of its size"), "{older}");
        assert_eq!(["1", "999", "1,000", "131,072"].map(String::from), [1, 999, 1_000, 131_072].map(grouped));
    }
}
