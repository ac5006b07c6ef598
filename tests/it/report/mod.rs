//! What is made of the record of a run: reports, the page in a real browser, replay and diff. The record is made by code.

mod browser;
mod ci;
mod derived;
mod foreign;
mod hostile;
mod page;
mod record;
