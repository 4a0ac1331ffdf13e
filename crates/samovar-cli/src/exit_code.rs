//! The exit code of each kind of failure: sysexits.h where one fits.

use samovar_core::ErrorKind;

/// What stands for a fault of ours, and for a kind that has no row.
const INTERNAL: u8 = 70;

const EXIT_CODES: [(ErrorKind, u8); ErrorKind::ALL.len()] = [
    (ErrorKind::InvalidRequest, 64),
    (ErrorKind::ContextExceeded, 65),
    (ErrorKind::NotFound, 66),
    (ErrorKind::InvalidModel, 65),
    (ErrorKind::TooLarge, 71),
    (ErrorKind::Unsupported, 69),
    (ErrorKind::Forbidden, 77),
    (ErrorKind::Unauthenticated, 77),
    (ErrorKind::RateLimited, 75),
    (ErrorKind::Busy, 75),
    (ErrorKind::DeadlineExceeded, 75),
    (ErrorKind::Cancelled, 130),
    (ErrorKind::Unavailable, 69),
    (ErrorKind::EngineFailed, 70),
    (ErrorKind::Upstream, 76),
    (ErrorKind::Storage, 74),
    (ErrorKind::InsufficientStorage, 74),
    (ErrorKind::Internal, INTERNAL),
];

/// The exit code of a command that ends with a failure of this kind.
pub(crate) fn of(kind: ErrorKind) -> u8 {
    EXIT_CODES.iter().find(|(of, _)| *of == kind).map_or(INTERNAL, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_none_exits_with_success() {
        for kind in ErrorKind::ALL {
            assert_eq!(EXIT_CODES.iter().filter(|(of, _)| *of == kind).count(), 1, "{kind:?}");
            assert_ne!(of(kind), 0, "{kind:?}");
        }
    }
}
