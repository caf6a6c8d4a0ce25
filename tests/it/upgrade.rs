//! From the last release to this one: the schema, the old program's statements on it, and both programs side by side.
//! `scripts/keep-release` keeps in `tests/upgrade` what this needs of the last release.

mod catalog;
mod contract;
mod kept;
mod migrating;
mod partitioning;
mod preparing;
mod schema;
mod side_by_side;
