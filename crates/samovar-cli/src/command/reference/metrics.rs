//! The page of metrics: what a server that has just opened its doors tells about itself.

use samovar::Builder;
use samovar::worker::WorkerConfig;
use samovar_core::{ErrorKind, Failure};
use samovar_server::{ServeConfig, Server};

use super::{head, row};
use crate::client::Client;

pub(super) async fn page() -> Result<String, Failure> {
    let text = scrape().await?;
    let mut page = String::from("# Metrics\n\n`GET /metrics` answers in Prometheus' text format.\n\n");
    page.push_str(&head(&["metric", "type", "means"]));
    for family in families(&text) {
        page.push_str(&row([format!("`{}`", family.name).as_str(), family.kind, family.help]));
    }
    Ok(page)
}

struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
}

/// Reads the `# HELP` and `# TYPE` lines.
fn families(text: &str) -> Vec<Family<'_>> {
    let lines = |prefix: &'static str| {
        text.lines().filter_map(move |line| line.strip_prefix(prefix)?.split_once(' '))
    };
    let mut families: Vec<Family<'_>> = lines("# TYPE ")
        .map(|(name, kind)| Family {
            name,
            kind,
            help: lines("# HELP ").find(|(of, _)| *of == name).map_or("", |(_, help)| help),
        })
        .collect();
    families.sort_by_key(|family| family.name);
    families
}

/// Asks a server of our own, on a socket that nobody else knows.
async fn scrape() -> Result<String, Failure> {
    let folder = std::env::temp_dir().join(format!("samovar-reference-{}", std::process::id()));
    let socket = folder.join("s");
    let runtime = Builder::default().cache_dir(folder.join("cache")).workers(no_workers()).build()?;
    // Its numbers are told once it was needed.
    runtime.store().await?;
    let server =
        Server::bind(runtime, ServeConfig { socket: Some(socket.clone()), ..ServeConfig::default() }).await?;
    let asked = async {
        let connection = Client::new(socket).connect_or_fail().await?;
        connection.text("/metrics").await
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server.run(async {
        stopped.await.ok();
    });
    let (text, ()) = tokio::join!(
        async {
            let text = asked.await;
            stop.send(()).ok();
            text
        },
        serving
    );
    std::fs::remove_dir_all(&folder).ok();
    text.and_then(|text| {
        if text.contains("# TYPE ") {
            return Ok(text);
        }
        Err(Failure::new(ErrorKind::Internal, "the server told no metrics"))
    })
}

/// Workers that are never started, so that their numbers are told.
fn no_workers() -> WorkerConfig {
    WorkerConfig::new("/nonexistent", [""; 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_with_type_and_help() {
        let text = "# HELP b Second.\n# TYPE b counter\nb 1\n# TYPE a gauge\n# HELP a First one.\na 2\n";
        let families = families(text);
        assert_eq!(families.iter().map(|family| family.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((families[0].kind, families[0].help), ("gauge", "First one."));
    }
}
