//! What is made for reports.

mod minutes;
