//! Ids that an action did not find.

use std::collections::HashSet;

use uuid::Uuid;

use crate::cli::failure::Failure;
use crate::cli::output;

/// Names each id that was asked for and not found.
///
/// # Errors
/// When none was found.
pub(super) fn report(asked: &[Uuid], found: &[Uuid], what: &str) -> Result<(), Failure> {
    let found: HashSet<_> = found.iter().collect();
    let mut named = HashSet::new();
    for id in asked.iter().filter(|id| !found.contains(id)) {
        if named.insert(id) {
            output::remark(&format!("feather-sync: {id} {what}"));
        }
    }
    if found.is_empty() {
        return Err(Failure::Failed(
            "nothing was done; `feather-sync show ID` tells where a connection stands".to_owned(),
        ));
    }
    Ok(())
}
