//! terminated
