//! The control channel against guests that are made here: good ones, bad ones and hostile ones.

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
