//! `nixvm-test` as its user meets it: files compiled in folders of their own, scenarios without machines,
//! exit codes and texts. The first test of all compiles the library once more, for scenarios.

mod admission;
mod against;
mod alone;
mod attach;
mod attach_foreign;
mod checks;
mod compiling;
mod config;
mod doctor;
mod doctor_kvm;
mod editor;
mod editor_server;
mod failures;
mod full_disk;
mod harness;
mod host_limits;
mod hostile;
mod init;
mod limits;
mod list;
mod lost_output;
mod machines;
mod mutants;
mod never_run;
mod pausing;
mod places;
mod record;
mod repl;
mod runs;
mod sources;
mod suite;
mod terminal;
mod trouble;
mod usage;
mod watching;
