//! What a template may use: steps, depth, and bytes of output.

/// Steps of the template engine for a conversation of ordinary length; the longest published templates use a few
/// thousand a message.
pub(crate) const FUEL: u64 = 2_000_000;
/// What every message may take.
const FUEL_A_MESSAGE: u64 = 4_000;
/// Steps for a short conversation that a template is tried with: some ten of them take less than one rendering may.
pub(crate) const PROBE_FUEL: u64 = 100_000;
/// Bytes of what a template makes of one.
pub(crate) const PROBE_OUTPUT_LIMIT_BYTES: usize = 256 << 10;
/// How deep a template may call itself: a macro and its loops take about 7, and schemas of tools nest a dozen deep.
pub(crate) const RECURSION_LIMIT: usize = 320;
/// Bytes of rendered prompt: what a context of a million tokens could hold.
pub(crate) const OUTPUT_LIMIT_BYTES: usize = 8 << 20;

/// Steps for a conversation of so many messages.
pub(crate) fn fuel(message_count: u32) -> u64 {
    FUEL.max(u64::from(message_count) * FUEL_A_MESSAGE)
}

/// A writer that stops at [`OUTPUT_LIMIT_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_full: bool,
}

impl std::io::Write for Output {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + buffer.len() > OUTPUT_LIMIT_BYTES {
            self.is_full = true;
            return Err(std::io::Error::other("the rendered prompt is too long"));
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
