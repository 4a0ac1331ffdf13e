//! `samovar ps`: what the daemon holds in memory.

use samovar_core::units::ByteSize;
use serde_json::{Value, json};

use super::Context;
use super::answer::{ms, roughly};
use crate::client::{Figures, ModelFigures};
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let stats = match context.client().connect().await? {
        Some(connection) => Some(connection.stats().await?),
        None => None,
    };
    let figures = stats.as_ref().map(Figures::read).transpose()?.unwrap_or_default();
    if context.report.is_json() {
        let models: Vec<Value> = stats
            .as_ref()
            .and_then(|stats| stats["models"].as_array())
            .map(|models| models.iter().filter(|model| model["state"] != "absent").cloned().collect())
            .unwrap_or_default();
        let daemon = stats.as_ref().map(|stats| {
            json!({ "pid": stats["pid"], "version": stats["version"], "listen": stats["listen"],
                    "socket": stats["socket"], "uptime_ms": stats["uptime_ms"] })
        });
        return context.report.json(&json!({ "daemon": daemon, "models": models }));
    }
    context.report.table(table(&figures))?;
    for line in figures.models.iter().flat_map(why_fewer_threads) {
        context.report.note(&line);
    }
    if stats.is_none() {
        context.report.note("no daemon is running");
    }
    Ok(())
}

/// The models that are in memory, on their way there, or kept from it.
pub(super) fn table(figures: &Figures) -> Columns {
    // Told only where there is something to tell.
    let shows_capabilities =
        figures.models.iter().any(|model| model.capabilities.iter().any(|work| work != "generate"));
    let mut heads = vec![("MODEL", Align::Left)];
    heads.extend(shows_capabilities.then_some(("CAPABILITIES", Align::Left)));
    heads.extend([
        ("STATE", Align::Left),
        ("MEMORY", Align::Right),
        ("LAYOUT", Align::Left),
        ("INSTANCES", Align::Right),
        ("BUSY", Align::Right),
        ("THREADS", Align::Right),
        ("QUEUED", Align::Right),
        ("AGE", Align::Right),
        ("HITS", Align::Right),
        ("LOADS", Align::Right),
        ("LOAD", Align::Right),
        ("UNTIL", Align::Left),
    ]);
    let mut columns = Columns::new(&heads);
    for model in figures.models.iter().filter(|model| model.state != "absent") {
        let mut cells = vec![model.name.clone()];
        cells.extend(shows_capabilities.then(|| model.capabilities.join(", ")));
        cells.extend([
            state(model),
            ByteSize::from_bytes(model.held_bytes + model.mapped_bytes).to_string(),
            model.options.as_ref().map_or_else(|| "-".to_owned(), |options| options.layout.clone()),
            format!("{}/{}", model.instances, model.instances_max),
            format!("{}/{}", model.busy_slots, model.slots),
            threads_of(model),
            model.queued.to_string(),
            model.age_ms.map_or_else(|| "-".to_owned(), roughly),
            model.hits.to_string(),
            model.loads.to_string(),
            if model.loads > 0 { ms(model.load_ms_p50) } else { "-".to_owned() },
            until(model),
        ]);
        columns.row(cells);
    }
    columns
}

/// Places for requests of everything in memory: free ones, all, and those in use.
pub(super) fn availability(figures: &Figures) -> String {
    let loaded = figures.models.iter().filter(|model| model.state != "absent");
    let (slots, busy) =
        loaded.fold((0, 0), |(slots, busy), model| (slots + model.slots, busy + model.busy_slots));
    format!("Available: {}/{slots}, In use: {busy}", slots.saturating_sub(busy))
}

fn state(model: &ModelFigures) -> String {
    match model.progress {
        // Others of its instances may serve, while this one comes.
        Some(progress) if model.state == "loading" => format!("loading {:.0} %", progress * 100.0),
        _ => model.state.clone(),
    }
}

/// Threads of its steps, and how many they may be, of all its instances together.
fn threads_of(model: &ModelFigures) -> String {
    let most: u32 = model.threads.iter().map(|threads| threads.most).sum();
    let used: u32 = model.threads.iter().map(|threads| threads.used).sum();
    match (used, most) {
        (_, 0) => "-".to_owned(),
        (0, most) => most.to_string(),
        (used, most) => format!("{used}/{most}"),
    }
}

/// Why its steps have fewer threads than they may have.
fn why_fewer_threads(model: &ModelFigures) -> impl Iterator<Item = String> {
    let fewer = model.threads.iter().filter(|threads| (1..threads.most).contains(&threads.used));
    fewer.map(|threads| format!("{}: threads {threads}", model.name))
}

fn until(model: &ModelFigures) -> String {
    if model.is_pinned {
        return "pinned".to_owned();
    }
    match (model.retry_in_ms, model.expires_in_ms, model.idle_ms) {
        (Some(retry), ..) => format!("tried again in {}", roughly(retry)),
        (_, Some(left), _) => format!("{} from now", roughly(left)),
        (_, _, Some(_)) => "memory is needed".to_owned(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::{ThreadUse, ThreadsWhy};

    use super::*;

    #[test]
    fn threads_are_told_with_the_reason_why_they_are_fewer() {
        let told = |used, most, why| {
            let threads = vec![ThreadUse { used, most, why }];
            let model = ModelFigures { name: "m".to_owned(), threads, ..ModelFigures::default() };
            (threads_of(&model), why_fewer_threads(&model).collect::<Vec<_>>())
        };
        assert_eq!(told(0, 2, ThreadsWhy::All), ("2".to_owned(), vec![]));
        assert_eq!(told(2, 2, ThreadsWhy::All), ("2/2".to_owned(), vec![]));
        assert_eq!(
            told(1, 2, ThreadsWhy::OtherPrograms),
            ("1/2".to_owned(), vec!["m: threads 2 → 1: another program has a core".to_owned()])
        );
        assert_eq!(threads_of(&ModelFigures::default()), "-");
    }

    #[test]
    fn capabilities_are_told_where_a_model_does_more_than_write() {
        let model = |words: &[&str]| ModelFigures {
            name: "m".to_owned(),
            state: "ready".to_owned(),
            capabilities: words.iter().map(|word| (*word).to_owned()).collect(),
            ..ModelFigures::default()
        };
        let shown =
            |models: Vec<ModelFigures>| format!("{:?}", table(&Figures { models, ..Figures::default() }));
        assert!(!shown(vec![model(&["generate"]), model(&[])]).contains("CAPABILITIES"));
        let both = shown(vec![model(&["generate"]), model(&["embed", "rerank"])]);
        assert!(both.contains("CAPABILITIES") && both.contains("embed, rerank"), "{both}");
    }

    #[test]
    fn places_are_told_free_in_all_and_in_use() {
        let model = |slots, busy_slots| ModelFigures { slots, busy_slots, ..ModelFigures::default() };
        let figures = Figures { models: vec![model(2, 1), model(1, 0)], ..Figures::default() };
        assert_eq!(availability(&figures), "Available: 2/3, In use: 1");
        assert_eq!(availability(&Figures::default()), "Available: 0/0, In use: 0");
    }

    #[test]
    fn each_model_says_how_long_it_stays() {
        let model = |change: fn(&mut ModelFigures)| {
            let mut model = ModelFigures::default();
            change(&mut model);
            until(&model)
        };
        assert_eq!(model(|model| model.is_pinned = true), "pinned");
        assert_eq!(model(|model| model.expires_in_ms = Some(90_000)), "1m30s from now");
        assert_eq!(model(|model| model.idle_ms = Some(5)), "memory is needed");
        assert_eq!(model(|_| ()), "-");
    }
}
