# <nixpkgs/lib> of the stand-in: the functions that NixOS configurations use, under nixpkgs' names.
let
  parts = {
    trivial = import ./trivial.nix;
    lists = import ./lists.nix lib;
    attrsets = import ./attrsets.nix lib;
    strings = import ./strings.nix lib;
    meta = import ./meta.nix lib;
    options = import ./options.nix lib;
    modules = import ./modules.nix lib;
    generators = import ./generators.nix lib;
  };

  lib = parts.trivial // parts.lists // parts.attrsets // parts.strings // parts.meta // parts.options // parts.modules // parts // {
    types = import ./types.nix lib;
    customisation = { };
    maintainers = { };
    licenses = { };
    platforms = { all = [ "x86_64-linux" ]; linux = [ "x86_64-linux" ]; };
    version = "23.11-standin";
  };
in
lib
