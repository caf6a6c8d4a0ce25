//! The name of an account: one API key and one rate budget.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Name of an account, as in `[accounts.NAME]`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AccountName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for AccountName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for AccountName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
