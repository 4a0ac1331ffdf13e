//! Which layout the next load takes, and what is missing for a better one: a pure function.
//!
//! ```text
//!   the owner's wish ─┬─ mapped, repacked ───────────────────────────────────────► that
//!                     ├─ packed, hybrid ──► is the file there? ── no ─► mapped, and the file is to be made
//!                     └─ auto ─► measured? ── no ─► mapped, and file and figures are to be made
//!                                   └ yes ─► packed, if it is faster and loses nothing
//!                                            hybrid, if packed loses prefill and that does not, and memory is plenty
//!                                            mapped, else
//!                                   measured while others had the cores: the same, and to be measured again
//! ```

use samovar_core::footprint::{Layout, LayoutWish, Speed};

/// Figures that differ by less say nothing: the same layout measured twice differs by as much.
const TOLERANCE: f64 = 0.03;
/// Memory is plenty where both files take this part of the budget at most.
const HYBRID_PART_OF_BUDGET: u64 = 2;

/// What the choice depends on.
#[derive(Clone, Debug)]
pub(crate) struct LayoutInputs<'a> {
    pub(crate) wish: LayoutWish,
    /// Why no packed file of it can be used or made here.
    pub(crate) disabled_reason: Option<&'a str>,
    /// The packed file is there.
    pub(crate) is_made: bool,
    /// How fast the layouts are here, if that was measured.
    pub(crate) speeds: Option<&'a [Speed]>,
    /// What a load as a hybrid is predicted to cost, all together.
    pub(crate) hybrid_bytes: u64,
    /// What all models may use together.
    pub(crate) budget_bytes: u64,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The layout of the next load.
    pub(crate) layout: Layout,
    /// Why; fit to be shown to people.
    pub(crate) why: String,
    /// A packed file is to be made.
    pub(crate) lacks_file: bool,
    /// The layouts are to be measured, with the packed file.
    pub(crate) lacks_speeds: bool,
}

impl Choice {
    fn of(layout: Layout, why: impl Into<String>) -> Self {
        Self { layout, why: why.into(), lacks_file: false, lacks_speeds: false }
    }

    /// Whether something is to be made before the choice is final.
    pub(crate) const fn lacks_something(&self) -> bool {
        self.lacks_file || self.lacks_speeds
    }
}

/// Chooses.
pub(crate) fn choose(facts: &LayoutInputs<'_>) -> Choice {
    match (facts.wish, facts.disabled_reason) {
        (LayoutWish::Mapped, _) => Choice::of(Layout::Mapped, "its settings say so"),
        (LayoutWish::Repacked, _) => Choice::of(Layout::Repacked, "its settings say so"),
        (_, Some(disabled_reason)) => Choice::of(Layout::Mapped, disabled_reason),
        (LayoutWish::Packed, None) => with_file(facts, Layout::Packed, "its settings say so"),
        (LayoutWish::Hybrid, None) if facts.hybrid_bytes > facts.budget_bytes => {
            with_file(facts, Layout::Packed, "a hybrid does not fit the memory budget")
        }
        (LayoutWish::Hybrid, None) => with_file(facts, Layout::Hybrid, "its settings say so"),
        (LayoutWish::Auto, None) => match facts.speeds {
            None => Choice {
                lacks_file: !facts.is_made,
                lacks_speeds: true,
                ..Choice::of(Layout::Mapped, "its layouts have not been measured on this machine yet")
            },
            Some(speeds) => {
                let (layout, why) = fastest(speeds, facts);
                let choice = with_file(facts, layout, why);
                // Figures from a busy machine serve until there are better ones.
                let lacks_speeds = speeds.iter().any(Speed::is_provisional);
                let lacks_file = choice.lacks_file || lacks_speeds && !facts.is_made;
                Choice { lacks_file, lacks_speeds, ..choice }
            }
        },
    }
}

/// This layout, once the file that it needs is there.
fn with_file(facts: &LayoutInputs<'_>, layout: Layout, why: &str) -> Choice {
    if facts.is_made || !layout.needs_packed_file() {
        return Choice::of(layout, why);
    }
    Choice { lacks_file: true, ..Choice::of(Layout::Mapped, "its packed file has not been made yet") }
}

fn fastest(speeds: &[Speed], facts: &LayoutInputs<'_>) -> (Layout, &'static str) {
    let speed_of = |layout| speeds.iter().find(|speed| speed.layout == layout);
    let (Some(mapped), Some(packed)) = (speed_of(Layout::Mapped), speed_of(Layout::Packed)) else {
        return (Layout::Mapped, "the packed layout could not be measured on this machine");
    };
    if !keeps_answers(packed, mapped)
        || !(wins_answers(packed, mapped) || packed.prefill > beyond(mapped.prefill))
    {
        return (Layout::Mapped, "packing makes it no faster on this machine");
    }
    if keeps(packed.prefill, mapped.prefill) {
        return (Layout::Packed, "it was measured to be the fastest on this machine");
    }
    let is_best = |hybrid: &Speed| {
        keeps(hybrid.prefill, mapped.prefill) && keeps_answers(hybrid, mapped) && wins_answers(hybrid, mapped)
    };
    if speed_of(Layout::Hybrid).is_none_or(|hybrid| !is_best(hybrid)) {
        (Layout::Mapped, "packing makes its answers faster and its prompts slower on this machine")
    } else if facts.hybrid_bytes > facts.budget_bytes / HYBRID_PART_OF_BUDGET {
        (Layout::Mapped, "packing makes its prompts slower, and a hybrid takes too much of the memory budget")
    } else {
        (Layout::Hybrid, "it was measured to be the fastest on this machine")
    }
}

/// No slower in answers, one or eight at a time.
fn keeps_answers(one: &Speed, other: &Speed) -> bool {
    keeps(one.decode, other.decode) && keeps(one.decode_eight, other.decode_eight)
}

/// Faster in some of them.
fn wins_answers(one: &Speed, other: &Speed) -> bool {
    one.decode > beyond(other.decode) || one.decode_eight > beyond(other.decode_eight)
}

fn beyond(figure: f64) -> f64 {
    figure * (1.0 + TOLERANCE)
}

fn keeps(one: f64, other: f64) -> bool {
    one >= other * (1.0 - TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn facts(wish: LayoutWish) -> LayoutInputs<'static> {
        LayoutInputs {
            wish,
            disabled_reason: None,
            is_made: true,
            speeds: None,
            hybrid_bytes: GIB,
            budget_bytes: 8 * GIB,
        }
    }

    fn speed(layout: Layout, prefill: f64, decode: f64, decode_eight: f64) -> Speed {
        Speed { layout, prefill, decode, decode_eight, lacked: 0.0 }
    }

    /// What `auto` takes when mapped has 100 in everything.
    fn auto(packed: [f64; 3], hybrid: Option<[f64; 3]>, hybrid_bytes: u64) -> Layout {
        let mut speeds = vec![speed(Layout::Mapped, 100.0, 100.0, 100.0)];
        speeds.push(speed(Layout::Packed, packed[0], packed[1], packed[2]));
        speeds.extend(hybrid.map(|[prefill, one, eight]| speed(Layout::Hybrid, prefill, one, eight)));
        let choice = choose(&LayoutInputs { speeds: Some(&speeds), hybrid_bytes, ..facts(LayoutWish::Auto) });
        assert!(!choice.lacks_something());
        choice.layout
    }

    #[test]
    fn auto_takes_what_wins_in_answers_without_losing_in_prompts() {
        use Layout::{Hybrid, Mapped, Packed};
        let table = [
            // packed: prompts, answers, eight answers; hybrid; its bytes; what is taken
            ([120.0, 130.0, 180.0], None, GIB, Packed),
            ([98.0, 128.0, 100.0], None, GIB, Packed),
            ([100.0, 102.0, 102.0], None, GIB, Mapped),
            ([140.0, 100.0, 100.0], None, GIB, Packed),
            ([110.0, 130.0, 90.0], None, GIB, Mapped),
            ([69.0, 148.0, 138.0], None, GIB, Mapped),
            ([69.0, 148.0, 138.0], Some([101.0, 140.0, 137.0]), GIB, Hybrid),
            ([69.0, 148.0, 138.0], Some([101.0, 140.0, 137.0]), 5 * GIB, Mapped),
            ([69.0, 148.0, 138.0], Some([80.0, 140.0, 137.0]), GIB, Mapped),
            ([69.0, 148.0, 138.0], Some([101.0, 100.0, 101.0]), GIB, Mapped),
            ([120.0, 130.0, 180.0], Some([130.0, 140.0, 190.0]), GIB, Packed),
        ];
        for (packed, hybrid, hybrid_bytes, taken) in table {
            assert_eq!(auto(packed, hybrid, hybrid_bytes), taken, "{packed:?} {hybrid:?} {hybrid_bytes}");
        }
    }

    #[test]
    fn auto_maps_until_it_was_measured_and_says_what_it_lacks() {
        let lacks = |is_made| choose(&LayoutInputs { is_made, ..facts(LayoutWish::Auto) });
        let (without, with) = (lacks(false), lacks(true));
        assert_eq!((without.layout, without.lacks_file, without.lacks_speeds), (Layout::Mapped, true, true));
        assert_eq!((with.layout, with.lacks_file, with.lacks_speeds), (Layout::Mapped, false, true));
        let only_mapped = [speed(Layout::Mapped, 1.0, 1.0, 1.0)];
        let choice = choose(&LayoutInputs { speeds: Some(&only_mapped), ..facts(LayoutWish::Auto) });
        assert_eq!((choice.layout, choice.lacks_something()), (Layout::Mapped, false));
    }

    #[test]
    fn a_file_that_was_collected_is_made_again_only_where_it_is_the_faster_one() {
        let mapped = speed(Layout::Mapped, 100.0, 100.0, 100.0);
        let lacks_file = |decode| {
            let speeds = [mapped, speed(Layout::Packed, 100.0, decode, 100.0)];
            let facts = LayoutInputs { is_made: false, speeds: Some(&speeds), ..facts(LayoutWish::Auto) };
            let choice = choose(&facts);
            assert_eq!(choice.layout, Layout::Mapped);
            choice.lacks_file
        };
        assert!(lacks_file(130.0));
        assert!(!lacks_file(100.0));
    }

    #[test]
    fn figures_from_a_busy_machine_serve_until_it_is_measured_again() {
        let mapped = speed(Layout::Mapped, 100.0, 100.0, 100.0);
        let packed = speed(Layout::Packed, 100.0, 130.0, 100.0);
        for (lacked, is_missing) in [(0.0, false), (0.05, false), (0.4, true)] {
            let speeds = [mapped, Speed { lacked, ..packed }];
            let choice = choose(&LayoutInputs { speeds: Some(&speeds), ..facts(LayoutWish::Auto) });
            assert_eq!((choice.layout, choice.lacks_speeds), (Layout::Packed, is_missing), "{lacked}");
        }
    }

    #[test]
    fn what_the_owner_wants_is_done_as_soon_as_it_can_be() {
        use LayoutWish::{Hybrid, Mapped, Packed, Repacked};
        let layout = |wish, is_made| {
            let choice = choose(&LayoutInputs { is_made, ..facts(wish) });
            (choice.layout, choice.lacks_file, choice.lacks_speeds)
        };
        assert_eq!(layout(Mapped, true), (Layout::Mapped, false, false));
        assert_eq!(layout(Repacked, false), (Layout::Repacked, false, false));
        assert_eq!(layout(Packed, false), (Layout::Mapped, true, false));
        assert_eq!(layout(Packed, true), (Layout::Packed, false, false));
        assert_eq!(layout(Hybrid, false), (Layout::Mapped, true, false));
        assert_eq!(layout(Hybrid, true), (Layout::Hybrid, false, false));
        let tight = choose(&LayoutInputs { hybrid_bytes: 9 * GIB, ..facts(Hybrid) });
        assert_eq!(tight.layout, Layout::Packed);
    }

    #[test]
    fn a_disabled_reason_maps_and_is_kept() {
        for wish in [LayoutWish::Auto, LayoutWish::Packed, LayoutWish::Hybrid] {
            let choice = choose(&LayoutInputs { disabled_reason: Some("no room"), ..facts(wish) });
            assert_eq!(choice, Choice::of(Layout::Mapped, "no room"));
        }
    }
}
