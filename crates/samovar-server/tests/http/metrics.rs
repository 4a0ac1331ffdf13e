//! `/metrics`.

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
