//! feather
