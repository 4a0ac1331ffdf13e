//! GGUF models of a listing: one file or numbered parts each, with the quantization that their name says.

use std::collections::BTreeMap;

use super::{
    Choice, MIXTURE, NamedChoice, PARTS, file_name, folder, has_extension, list, part, preferred, quant,
};
use crate::artifact::manifest::Role;
use crate::error::Error;

/// The quantizations of a projector in the order in which they are taken.
const PROJECTORS: [&str; 4] = ["F16", "BF16", "F32", "Q8_0"];

/// A model among the files: whole, or with parts missing.
pub(super) struct Model<'a> {
    /// Its name without part numbers and extension.
    stem: &'a str,
    folder: &'a str,
    quant: String,
    parts: u32,
    /// Places in the listing, by part number; a whole file is part 1.
    places: BTreeMap<u32, usize>,
}

/// All models of a listing that a user may want to run.
pub(super) fn models<'a>(names: &[&'a str]) -> Vec<Model<'a>> {
    let mut models: BTreeMap<(&str, &str, u32), Model<'a>> = BTreeMap::new();
    for (place, &name) in names.iter().enumerate() {
        if !has_extension(name, "gguf") || is_side_file(name) {
            continue;
        }
        let Split { stem, number, total } = split(name);
        if total > PARTS {
            continue;
        }
        let folder = folder(name);
        let model = models.entry((folder, stem, total)).or_insert_with(|| Model {
            stem,
            folder,
            quant: quant_of(folder, stem),
            parts: total.max(1),
            places: BTreeMap::new(),
        });
        model.places.entry(number).or_insert(place);
    }
    models.into_values().collect()
}

/// The quantization of each model, as its name says it.
pub(super) fn quants(names: &[&str]) -> Vec<String> {
    models(names).into_iter().map(|model| model.quant).collect()
}

struct Split<'a> {
    stem: &'a str,
    number: u32,
    /// 0 for a file that is whole.
    total: u32,
}

fn split(name: &str) -> Split<'_> {
    let stem = file_name(name).rsplit_once('.').map_or(name, |(stem, _)| stem);
    match part(stem) {
        Some((stem, number, total)) => Split { stem, number, total },
        None => Split { stem, number: 1, total: 0 },
    }
}

/// What the name says, else the innermost folder that says it.
fn quant_of(folder: &str, stem: &str) -> String {
    let folders = folder.trim_end_matches('/').rsplit('/');
    std::iter::once(stem).chain(folders).find_map(quant::of_stem).unwrap_or_default()
}

/// Files in this format that are no model by themselves.
fn is_side_file(name: &str) -> bool {
    let name = file_name(name).to_ascii_lowercase();
    name.contains("mmproj") || name.contains("imatrix") || name.starts_with("ggml-vocab")
}

/// The model with the wanted quantization, or with the one that is taken when none is named.
pub(super) fn choose(
    subject: &str,
    names: &[&str],
    models: &[Model<'_>],
    wanted: Option<&str>,
) -> Result<Choice, Error> {
    let quants = || models.iter().map(|model| model.quant.as_str());
    let quant = match wanted {
        Some(wanted) => with_name(quants(), &quant::normal(wanted)),
        None => preferred(quants()),
    };
    let Some(quant) = quant else {
        let named: Vec<_> = quants().filter(|quant| !quant.is_empty()).collect();
        let first = named.first().copied().unwrap_or("Q4_K_M");
        return Err(Error::Choice {
            message: match wanted {
                Some(wanted) => format!("{subject}: no file has the quantization {wanted}"),
                None => format!("{subject}: several quantizations are there and none was named"),
            },
            hint: if named.is_empty() {
                "leave the quantization out".to_owned()
            } else {
                format!("there are: {}; write organisation/name:{first}", list(named.iter().copied()))
            },
        });
    };
    let model = single(subject, names, models.iter().filter(|model| model.quant == quant).collect())?;
    let mut files = model.weights(subject, names)?;
    let projector = projector(names, model.folder);
    files.extend(projector.map(|place| (place, Role::Projector)));
    let modality = if projector.is_some() { "vision" } else { "text" };
    Ok(Choice { quant: quant.to_owned(), modality, files })
}

/// All that a user may choose: by quantization where that names one model, else by file.
pub(super) fn variants(names: &[&str], models: &[Model<'_>]) -> Vec<NamedChoice> {
    let mut quants: Vec<&str> = models.iter().map(|model| model.quant.as_str()).collect();
    quants.sort_unstable();
    quants.dedup();
    let mut variants = Vec::new();
    for quant in &quants {
        let wanted = Some(*quant).filter(|quant| !quant.is_empty());
        // Without a quantization in its name a model goes by its file, unless there is no other.
        let by_quant = (wanted.is_some() || quants.len() == 1).then(|| choose("", names, models, wanted));
        if let Some(Ok(choice)) = by_quant {
            variants.push(NamedChoice { choice, file: None });
        } else {
            let same = models.iter().filter(|model| model.quant == *quant);
            variants.extend(same.filter_map(|model| {
                let place = *model.places.values().next()?;
                let choice = with_parts("", names, place).ok()?;
                Some(NamedChoice { choice, file: Some(names[place].to_owned()) })
            }));
        }
    }
    variants
}

/// The quantization of this name; a mixture of Unsloth's where only that has it.
pub(crate) fn with_name<'a>(
    mut quants: impl Iterator<Item = &'a str> + Clone,
    wanted: &str,
) -> Option<&'a str> {
    let is_dynamic = |quant: &str| quant.strip_prefix(MIXTURE) == Some(wanted);
    quants.clone().find(|quant| *quant == wanted).or_else(|| quants.find(|quant| is_dynamic(quant)))
}

/// The one model of those that fit: the same in one file rather than in parts, and the outermost.
fn single<'m, 'a>(
    subject: &str,
    names: &[&str],
    mut fitting: Vec<&'m Model<'a>>,
) -> Result<&'m Model<'a>, Error> {
    let depth = |model: &Model<'_>| model.folder.matches('/').count();
    let least = fitting.iter().map(|model| depth(model)).min().unwrap_or_default();
    fitting.retain(|model| depth(model) == least);
    if fitting.len() > 1 && fitting.iter().all(|model| model.stem.eq_ignore_ascii_case(fitting[0].stem)) {
        let fewest = fitting.iter().map(|model| model.parts).min().unwrap_or_default();
        fitting.retain(|model| model.parts == fewest);
    }
    if let [model] = fitting[..] {
        return Ok(model);
    }
    let first = fitting.iter().filter_map(|model| model.places.values().next());
    let first: Vec<_> = first.map(|&place| names[place]).collect();
    let example = first.first().copied().unwrap_or("model.gguf");
    let there = list(first.iter().copied());
    Err(Error::Choice {
        message: format!("{subject}: several models have this quantization"),
        hint: format!("name the file, as hf://organisation/name/{example}; there are: {there}"),
    })
}

/// The projector beside a model: in its folder, else at the top.
fn projector(names: &[&str], beside: &str) -> Option<usize> {
    let in_folder = |wanted: &str| {
        let fits = |name: &str| {
            has_extension(name, "gguf")
                && folder(name) == wanted
                && file_name(name).to_ascii_lowercase().contains("mmproj")
                && split(name).total == 0
        };
        let mut places: Vec<_> = (0..names.len()).filter(|&place| fits(names[place])).collect();
        places.sort_by_key(|&place| {
            let quant = quant::of_stem(split(names[place]).stem).unwrap_or_default();
            let rank = PROJECTORS.iter().position(|wanted| *wanted == quant);
            (rank.unwrap_or(PROJECTORS.len()), names[place])
        });
        places.first().copied()
    };
    in_folder(beside).or_else(|| in_folder(""))
}

/// Exactly this file, with its other parts.
pub(super) fn with_parts(subject: &str, names: &[&str], place: usize) -> Result<Choice, Error> {
    let name = names[place];
    let Split { stem, total, .. } = split(name);
    let folder_of = folder(name);
    let quant = quant_of(folder_of, stem);
    let mut places = BTreeMap::from([(1, place)]);
    if total > 0 {
        let others = names.iter().enumerate().filter(|(_, other)| {
            let other_split = split(other);
            has_extension(other, "gguf")
                && folder(other) == folder_of
                && other_split.stem == stem
                && other_split.total == total
        });
        places = others.map(|(place, other)| (split(other).number, place)).collect();
    }
    let model = Model { stem, folder: folder_of, quant, parts: total.max(1), places };
    let files = model.weights(subject, names)?;
    Ok(Choice { quant: model.quant, modality: "text", files })
}

impl Model<'_> {
    /// All parts in order.
    fn weights(&self, subject: &str, names: &[&str]) -> Result<Vec<(usize, Role)>, Error> {
        let part = |number| self.places.get(&number).map(|&place| (place, Role::Weights)).ok_or(number);
        (1..=self.parts).map(part).collect::<Result<_, u32>>().map_err(|number| Error::Missing {
            subject: format!("{subject}: part {number} of {} of {}{}", self.parts, self.folder, self.stem),
            where_: "",
            hint: format!(
                "the publisher must complete it; there are: {}",
                list(self.places.values().map(|&place| names[place]))
            ),
        })
    }
}
