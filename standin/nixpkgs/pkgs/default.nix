# `pkgs`: the stand-in's packages, and the functions that make files of them.
{ system ? builtins.currentSystem, overlays ? [ ], config ? { }, ... }:

let
  lib = import ../lib;
  table = import ./table.nix;
  stubs = import ./stubs.nix { inherit system table; };
  builders = import ./builders.nix { inherit lib system; };

  needsNixpkgs = name: throw "pkgs.${name} builds from source, and the stand-in only has Debian's packages: it needs a real nixpkgs (--nixpkgs).";

  base = final: stubs.packages // builders // {
    inherit lib config system;
    inherit (lib) callPackageWith recurseIntoAttrs;
    pkgs = final;
    path = ../.;
    callPackage = lib.callPackageWith final;
    runtimeShell = "/bin/bash";
    runtimeShellPackage = final.bash;
    emptyFile = builders.writeText "empty-file" "";
    stdenv = {
      inherit system;
      hostPlatform = { inherit system; config = "x86_64-unknown-linux-gnu"; isLinux = true; isx86_64 = true; is64bit = true; isDarwin = false; isAarch64 = false; };
      isLinux = true;
      isDarwin = false;
      isx86_64 = true;
      mkDerivation = _: needsNixpkgs "stdenv.mkDerivation";
    };
    inherit (final.stdenv) hostPlatform;
    fetchurl = _: needsNixpkgs "fetchurl";
    fetchFromGitHub = _: needsNixpkgs "fetchFromGitHub";
    fetchgit = _: needsNixpkgs "fetchgit";
    fetchzip = _: needsNixpkgs "fetchzip";
    linuxPackages = { kernel = null; };
    linuxPackages_latest = { kernel = null; };
    unixtools = { ping = final.iputils; netstat = final.nettools; ifconfig = final.nettools; xxd = final.xxd; };
    # As older releases of nixpkgs call them.
    xorg = { inherit (final) xauth xwininfo; xorgserver = final.xorg-server; };
    libressl = { nc = final.netcat; };
    # The names that the table has, for messages and for the documentation.
    standinNames = builtins.attrNames stubs.packages;
    standinServices = stubs.services;
    extend = overlay: import ./. { inherit system config; overlays = overlays ++ [ overlay ]; };
    appendOverlays = more: import ./. { inherit system config; overlays = overlays ++ more; };
  };
in
lib.fix (builtins.foldl' (f: overlay: lib.extends overlay f) base overlays)
