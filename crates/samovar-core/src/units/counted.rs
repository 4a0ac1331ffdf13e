//! Numbers of things, as people say them.

/// So many of a thing whose plural ends in s: `1 model`, `3 models`.
pub fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// So many requests that wait, with their verb: `1 request waits`, `3 requests wait`.
pub fn waiting_requests(number: impl TryInto<u64>) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let verb = if number == 1 { "waits" } else { "wait" };
    format!("{} {verb}", counted(number, "request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_several() {
        assert_eq!(counted(0_usize, "model"), "0 models");
        assert_eq!(counted(1_u32, "model"), "1 model");
        assert_eq!(counted(3_u64, "saved prompt"), "3 saved prompts");
        assert_eq!(waiting_requests(1_u32), "1 request waits");
        assert_eq!(waiting_requests(2_usize), "2 requests wait");
    }
}
