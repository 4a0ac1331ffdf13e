//! The machine that was measured on, so that a figure can be judged by a reader who has another.

use serde::Serialize;

use crate::process;

/// Features that decide which kernels run.
const KERNEL_FEATURES: [&str; 11] = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
];

/// What speed and memory depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    /// Family, model and stepping: virtual machines often hide the name.
    cpu_signature: String,
    cpu_features: Vec<String>,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    huge_pages: String,
}

impl Machine {
    /// Reads what Linux says of itself; what it does not say is left empty.
    pub(crate) fn read() -> Self {
        let cpu = file("/proc/cpuinfo");
        let flags = field(&cpu, "flags");
        let kernel_features = flags.split_whitespace().filter(|flag| KERNEL_FEATURES.contains(flag));
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 =
            memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Self {
            cpu: field(&cpu, "model name"),
            cpu_signature: ["cpu family", "model", "stepping"].map(|name| field(&cpu, name)).join("/"),
            cpu_features: kernel_features.map(str::to_owned).collect(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory_kib / 1024,
            kernel: process::output("uname", &["-sr"]).unwrap_or_default().trim().to_owned(),
            system: quoted(&file("/etc/os-release"), "PRETTY_NAME"),
            huge_pages: file("/sys/kernel/mm/transparent_hugepage/enabled").trim().to_owned(),
        }
    }
}

/// How busy the machine is with other things: a noisy run must show.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Noise {
    /// Processes that wanted to run, averaged over the last minute.
    load_average: f64,
    /// The group in which the kernel weighs what is measured against everything else, and the group's niceness.
    scheduling: String,
    /// Ticks that the hypervisor took, and all ticks, since the machine started.
    #[serde(skip)]
    ticks: Option<(u64, u64)>,
}

impl Noise {
    /// Reads it now.
    pub(crate) fn read() -> Self {
        let load = file("/proc/loadavg");
        Self {
            load_average: load
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
            scheduling: file("/proc/self/autogroup").trim().to_owned(),
            ticks: ticks(&file("/proc/stat")),
        }
    }

    /// The share of processor time that the hypervisor gave to others between two readings, 0..=1.
    pub(crate) fn stolen_since(&self, before: &Self) -> Option<f64> {
        let ((stolen, all), (stolen_before, all_before)) = (self.ticks?, before.ticks?);
        Some((stolen - stolen_before) as f64 / (all - all_before).max(1) as f64)
    }
}

fn ticks(stat: &str) -> Option<(u64, u64)> {
    let numbers: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    Some((*numbers.get(7)?, numbers.iter().take(8).sum()))
}

fn file(path: &str) -> String {
    fs_err::read_to_string(path).unwrap_or_default()
}

/// The value of `name : value`, first occurrence.
fn field(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The value of `NAME="value"`.
fn quoted(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or_else(String::new, |(_, value)| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let cpu = "model\t\t: 1\nmodel name\t: AMD EPYC\n";
        assert_eq!(field(cpu, "model name"), "AMD EPYC");
        assert_eq!(field(cpu, "model"), "1");
    }

    #[test]
    fn stolen_time_is_a_share_of_the_time_between() {
        let at = |ticks| Noise { load_average: 0.0, scheduling: String::new(), ticks };
        let before = at(ticks("cpu  10 0 0 80 0 0 0 10 0 0\n"));
        let after = at(ticks("cpu  60 0 0 110 0 0 0 30 0 0\n"));
        assert_eq!(after.stolen_since(&before), Some(0.2));
    }
}
