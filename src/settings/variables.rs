//! Environment variables that are no settings.

/// What is chosen by a variable alone: it is needed before there are settings, or is not for everyday use.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        super::FILE_VARIABLE,
        "the nixvm.toml to read, instead of looking for one; empty: as if it were not set",
    ),
    ("NIXVM_ACCELERATOR", "kvm or tcg, instead of finding out what works"),
    (
        "NIXVM_ADMISSION_DIR",
        "the folder in which machines are counted, instead of `admission` in the cache; it has to be yours alone",
    ),
    ("NIXVM_CACHE_DIR", "the folder of what can be made again, instead of ~/.cache/nixvm-test"),
    ("NIXVM_CACHE_SIZE", "how many MiB templates may take together"),
    (
        "NIXVM_CHANNEL",
        "shell: the control channel is served by a shell script, as where a machine can't run the helper",
    ),
    ("NIXVM_LIBRARY", "the folder of the library that scenarios are compiled against"),
    ("NIXVM_LOG", "the filter of the log on standard error, such as nixvm_test=debug"),
    ("NIXVM_RUNS", "the folder of the records of runs, instead of ~/.local/state/nixvm-test/runs"),
    ("NIXVM_STANDIN", "the folder of the stand-in for nixpkgs"),
    (
        "NIXVM_VMS",
        "built VMs by the configurations that scenarios name, where no Nix can run: web.nix=./result,client.nix=./client",
    ),
];
