//! How much of what is set aside could come back, and how much will.

use samovar_core::Bytes;

use crate::decide::view::View;

impl View<'_> {
    /// Bytes that have not been asked back yet.
    pub(in crate::decide) fn could_be_asked_back(&self) -> Bytes {
        let background_reservations =
            self.state.background_reservations.values().filter(|background| !background.is_wanted_back);
        background_reservations.map(|background| Bytes::host(background.bytes)).sum()
    }

    /// Bytes that have been asked for and are not back.
    pub(in crate::decide) fn coming_back(&self) -> Bytes {
        let background_reservations =
            self.state.background_reservations.values().filter(|background| background.is_wanted_back);
        background_reservations.map(|background| Bytes::host(background.bytes)).sum()
    }
}
