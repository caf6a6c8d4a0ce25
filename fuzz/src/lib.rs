//! What both fuzz targets go by.

#[path = "../../tests/it/poison/reading.rs"]
pub mod reading;
