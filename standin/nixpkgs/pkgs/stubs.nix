# Packages: one tiny derivation a name of the table, standing in for the Debian package.
#
# The programs themselves are in the machine's image. What the store has is
#   $out/bin             -> /usr/lib/standin/packages/GROUP/bin, a folder of links that the image has
#   $out/standin-debs    GROUP: the Debian packages with commas between, or `base`; for the image
# so `${pkgs.curl}/bin/curl` is a path that works in the machine, and each path that refers to it, at any depth, brings curl
# into the image: Nix itself tracks the references.
{ system, table }:

let
  package = name: { group, main, attributes ? { }, aliases ? { } }:
    let
      self = derivation
        {
          name = "${name}-debian";
          inherit system group;
          aliases = builtins.concatStringsSep "\n" (builtins.attrValues (builtins.mapAttrs (as: program: "${as}=${program}") aliases));
          builder = "/bin/sh";
          args = [ ./stub.sh ];
          PATH = "/usr/bin:/bin";
          preferLocalBuild = true;
          # No binary cache has it: asking one would only wait for the network.
          allowSubstitutes = false;
        } // {
        pname = name;
        version = "debian";
        meta = {
          mainProgram = main;
          description = "Debian's ${group}, standing in for nixpkgs' ${name}";
          available = true;
        };
        override = _: self;
        overrideAttrs = _: self;
        out = self;
        bin = self;
      } // attributes;
    in
    self;

  shellOf = entry: if entry ? shell then { shellPath = entry.shell; } else { };

  inBase = name: entry:
    let e = if entry == null then { } else entry; in
    package name { group = "base"; main = e.main or name; attributes = shellOf e; };

  inLayer = name: entry:
    let
      e = if entry == null then { } else if builtins.isString entry then { debs = [ entry ]; } else entry;
    in
    package name {
      # Also the name of a folder. Debian's names have no comma.
      group = builtins.concatStringsSep "," (e.debs or [ name ]);
      main = e.main or name;
      attributes = shellOf e;
      aliases = e.alias or { };
    };
in
{
  packages = builtins.mapAttrs inBase table.base // builtins.mapAttrs inLayer table.packages;
  services = builtins.mapAttrs inLayer table.services;
}
