//! What is made for reports and for services: statistics by the minute, the change feed, history, and the partitions
//! in which these are kept.

mod feed;
mod history;
mod minutes;
mod partitions;
