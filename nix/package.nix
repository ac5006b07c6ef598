# The program, with what it calls on its PATH, and the library that scenarios are compiled against.
{
  lib,
  rustPlatform,
  makeWrapper,
  installShellFiles,
  cargo,
  nix,
  qemu,
  rustc,
  stdenv,
}:

let
  src = lib.cleanSource ../.;
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;
  inherit src;
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    makeWrapper
    installShellFiles
  ];

  # Most of them boot machines, and build those with Nix.
  doCheck = false;

  # What the user has goes before what comes along.
  postInstall = ''
    $out/bin/nixvm-test man --dir man
    installManPage man/*
    for shell in bash zsh fish; do
      $out/bin/nixvm-test completions $shell >nixvm-test.$shell
      installShellCompletion --cmd nixvm-test --$shell nixvm-test.$shell
    done
    wrapProgram $out/bin/nixvm-test \
      --suffix PATH : ${
        lib.makeBinPath [
          cargo
          nix
          qemu
          rustc
          stdenv.cc
        ]
      } \
      --set-default NIXVM_LIBRARY ${src}
  '';

  meta = {
    inherit (manifest.package) description;
    homepage = manifest.package.repository;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "nixvm-test";
    platforms = [ "x86_64-linux" ];
  };
}
