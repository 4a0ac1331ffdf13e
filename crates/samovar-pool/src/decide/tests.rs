//! Decisions as tables: one situation each.
