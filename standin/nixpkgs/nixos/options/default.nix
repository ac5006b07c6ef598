# The options that the stand-in knows, one file a group. ../../../OPTIONS.md lists them.
[
  ./boot.nix
  ./environment.nix
  ./locale.nix
  ./networking.nix
  ./programs.nix
  ./security.nix
  ./system.nix
  ./systemd.nix
  ./users.nix
  ./virtualisation.nix
  ./accepted.nix
  ./services/getty.nix
  ./services/nginx.nix
  ./services/openssh.nix
  ./services/postgresql.nix
]
