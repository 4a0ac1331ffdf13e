//! `/metrics`.

use samovar_server::{METRICS, MetricFamily};
use serde_json::json;

use crate::fixture::Fixture;
use crate::raw::{get, post};

#[tokio::test]
async fn counts_what_happened_under_the_names_of_the_reference() {
    let fixture = Fixture::new().await;
    let chat = json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 5,
                       "ignore_eos": true });
    for _ in 0..3 {
        assert_eq!(post(&fixture, "/v1/chat/completions", &chat).await.status, 200);
    }
    let missing = json!({ "model": "nobody", "prompt": "x" });
    assert_eq!(post(&fixture, "/v1/completions", &missing).await.status, 404);
    get(&fixture, "/wp-login.php").await;

    let scrape = get(&fixture, "/metrics").await;
    assert_eq!(scrape.status, 200);
    assert!(scrape.header("content-type").expect("type").starts_with("application/openmetrics-text"));
    let text = &scrape.body;
    for line in [
        "samovar_cache_hits_total{tier=\"l1\",model=\"demo\"} 2",
        "samovar_cache_misses_total{tier=\"l1\",model=\"demo\"} 1",
        "samovar_cache_loads_total{tier=\"l1\",model=\"demo\"} 1",
        "samovar_cache_load_duration_seconds_count{tier=\"l1\",model=\"demo\"} 1",
        "samovar_http_responses_total{route=\"/v1/chat/completions\",status=\"200\"} 3",
        "samovar_http_responses_total{route=\"/v1/completions\",status=\"404\"} 1",
        "samovar_http_responses_total{route=\"other\",status=\"404\"} 1",
        "samovar_requests_finished_total{reason=\"length\"} 3",
        "samovar_request_errors_total{kind=\"model_not_found\"} 1",
        "samovar_tokens_total{kind=\"completion\"} 15",
        "samovar_tokens_total{kind=\"thinking\"} 0",
        "samovar_request_first_token_seconds_count{model=\"demo\"} 3",
        "samovar_request_inter_token_seconds_count{model=\"demo\"} 3",
        "samovar_requests_in_flight 0",
        "samovar_pool_requests_total 3",
        "samovar_pool_queued 0",
        "samovar_pool_slots 2",
        "samovar_store_hits_total 1",
        "samovar_store_artifacts 1",
        "samovar_source_fetches_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line || found == format!("{line}.0")), "{line} in\n{text}");
    }
    for name in [
        "samovar_cache_size_bytes{tier=\"l1\"}",
        "samovar_pool_budget_bytes",
        "samovar_pool_resident_bytes",
        "samovar_pool_reserved_bytes",
        "samovar_pool_models{state=\"ready\"}",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
    let home = fixture.home.path().to_str().expect("UTF-8");
    assert!(!text.contains(home));
}

#[tokio::test]
async fn a_scrape_has_the_names_types_and_labels_of_the_reference() {
    let fixture = Fixture::new().await;
    let chat = json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 5,
                       "ignore_eos": true });
    assert_eq!(post(&fixture, "/v1/chat/completions", &chat).await.status, 200);
    let missing = json!({ "model": "nobody", "prompt": "x" });
    assert_eq!(post(&fixture, "/v1/completions", &missing).await.status, 404);
    let text = get(&fixture, "/metrics").await.body;

    let told: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let base = |family: &MetricFamily| family.name().trim_end_matches("_total").to_owned();
    for (name, kind) in &told {
        let family = METRICS.iter().find(|family| base(family) == *name);
        assert_eq!(family.map(MetricFamily::kind), Some(*kind), "{name}");
    }
    for family in METRICS {
        // No model runs in a process of its own here, no connection had to go, and there are no keys and no TLS.
        let absent = ["samovar_worker", "samovar_http_connections_dismissed", "samovar_key_", "samovar_tls_"];
        let is_absent = absent.iter().any(|beginning| family.name().starts_with(beginning));
        let is_told = told.iter().any(|(name, _)| *name == base(family));
        assert_eq!(is_told, !is_absent, "{}", family.name());
    }
    for (name, labels) in text.lines().filter_map(sample) {
        let family = METRICS.iter().find(|family| is_sample_of(name, family));
        assert_eq!(family.map(|family| family.labels().to_vec()), Some(labels), "{name}");
    }
}

/// The name and the labels of a sample. No value here has a comma or a brace in it.
fn sample(line: &str) -> Option<(&str, Vec<&str>)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let labels =
        rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
    let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
    Some((name, labels.filter(|label| *label != "le").collect()))
}

fn is_sample_of(name: &str, family: &MetricFamily) -> bool {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let name = if family.kind() == "histogram" { of_histogram.unwrap_or(name) } else { name };
    family.name() == name
}
