//! panicked
