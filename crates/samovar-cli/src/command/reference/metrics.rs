//! The page of metrics, from the server's own table of them.

use samovar_server::METRICS;

use super::{code, head, row};

pub(super) fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics` answers in Prometheus' text format. Histograms have `_bucket`, `_sum` and `_count` after their name. \
         Metrics of the disk appear once the store was used, those of workers if models run in their own processes.\n\n",
    );
    page.push_str(&head(&["metric", "type", "labels", "means"]));
    let mut families: Vec<_> = METRICS.iter().map(|family| (family.name(), family)).collect();
    families.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, family) in families {
        let labels: Vec<String> = family.labels().iter().map(|label| code(label)).collect();
        page.push_str(&row([code(&name).as_str(), family.kind(), &labels.join(", "), family.help()]));
    }
    page
}
