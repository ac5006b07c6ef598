# <nixpkgs/nixos> of the stand-in: the interface of nixpkgs' nixos/default.nix.
#
#   nix-build '<nixpkgs/nixos>' -A vm -I nixpkgs=standin/nixpkgs -I nixos-config=./configuration.nix
{ configuration ? import ./from-environment.nix
, system ? builtins.currentSystem
}:

let
  evaluated = import ./evaluate.nix { inherit system; modules = [ configuration ]; };
in
{
  inherit (evaluated) pkgs config options;
  # Either boots its kernel directly, with or without the boot loader that the configuration asks for.
  inherit (evaluated.config.system.build) vm vmWithBootLoader;
  system = evaluated.config.system.build.toplevel;
}
