//! Environment variables that are not settings.

/// Choices that exist only as a variable, because they are needed before there are settings, or are not for
/// everyday use.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        super::FILE_VARIABLE,
        "the nixvm.toml to read, instead of searching for one; an empty value counts as unset",
    ),
    ("NIXVM_ACCELERATOR", "kvm or tcg, instead of finding out what works"),
    (
        "NIXVM_ADMISSION_DIR",
        "the folder in which machines are counted, instead of `admission` in the cache; it must belong to you alone",
    ),
    ("NIXVM_CACHE_DIR", "the folder of the cache, instead of ~/.cache/nixvm-test"),
    ("NIXVM_CACHE_SIZE", "the limit for all templates together, in MiB"),
    (
        "NIXVM_CHANNEL",
        "shell: serve the control channel by a shell script, as in a machine that can't run the helper",
    ),
    ("NIXVM_LIBRARY", "the folder of the library that scenarios are compiled with"),
    ("NIXVM_LOG", "the filter of the log on standard error, such as nixvm_test=debug"),
    ("NIXVM_RUNS", "the folder of the records of runs, instead of ~/.local/state/nixvm-test/runs"),
    ("NIXVM_STANDIN", "the folder of the stand-in for nixpkgs"),
    (
        "NIXVM_VMS",
        "built VMs for the configurations that scenarios name, for places where Nix can't run: web.nix=./result,client.nix=./client",
    ),
];
