//! Tests of the control channel with simulated guests: good, bad and hostile ones.

mod commands;
mod cost;
mod frames;
mod guest;
mod hostile;
mod input;
mod kernel;
mod losing;
mod native;
mod nested;
mod opening;
