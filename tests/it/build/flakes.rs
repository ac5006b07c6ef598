//! Flakes, built by the real Nix. Their hosts are made by hand: `extendModules` evaluates as much of a module as the test
//! is about.

use std::path::Path;
use std::process::Command;

use super::{Place, says};

/// A flake. `host NAME` is a host that can't be extended. Its VM says where its flake is, and of which revision.
const HEAD: &str = "{\n  @CONFIG@\n  inputs.other = { url = \"path:@OTHER@\"; flake = false; };\n  outputs = { self, other }: let\n\
    vmOf = text: derivation { name = \"vm\"; system = \"@SYSTEM@\"; builder = \"/bin/sh\"; PATH = \"/bin:/usr/bin\"; inherit text;\n\
      of = \"${self} ${self.rev or self.dirtyRev or \"no revision\"} ${other}\";\n\
      args = [ \"-c\" ''mkdir -p $out/bin; cd $out/bin; echo '#!/bin/sh' >run-web-vm; chmod +x run-web-vm;\n\
        echo \"$text\" >../text; echo $NIX_BUILD_CORES >../cores; @BUILD@'' ]; };\n\
    host = text: { config.system.build.vm = vmOf text; };\n\
    # What a module defines for the variant.\n\
    defined = module: let\n\
      one = m: if builtins.isFunction m then m { lib = { mkDefault = x: x; mkForce = x: x; mkIf = _: x: x; mkOption = x: x; };\n\
        config.virtualisation.useBootLoader = false; pkgs.writeScript = name: _: name; } else m;\n\
      all = variant: if variant ? imports then builtins.map one variant.imports else [ (one variant) ];\n\
      in builtins.toJSON (builtins.map (m: m.config or m) (all (one module).virtualisation.vmVariant));\n\
    extensible = text: host text // { extendModules = { modules }: extensible (text + builtins.concatStringsSep \"\" (map defined modules)); };\n\
    # A host on which no module has an effect.\n\
    unmoved = text: host text // { extendModules = _: unmoved text; };\n  in {\n";

/// Puts a flake with these outputs into the folder, and a flake's input beside it.
fn flake(place: &Place, folder: &str, outputs: &str) {
    flake_with(place, folder, "", "", outputs);
}

fn flake_with(place: &Place, folder: &str, nix_config: &str, build: &str, outputs: &str) {
    let other = place.at("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("file"), "an input\n").unwrap();
    let head = HEAD
        .replace("@SYSTEM@", &format!("{}-linux", std::env::consts::ARCH))
        .replace("@OTHER@", other.canonicalize().unwrap().to_str().unwrap())
        .replace("@CONFIG@", nix_config)
        .replace("@BUILD@", build);
    let folder = place.at(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("flake.nix"), format!("{head}{outputs}  }};\n}}\n")).unwrap();
}

/// Commits what is in the folder `work`.
fn commit(place: &Place) {
    for words in [
        &["init", "--quiet", "."][..],
        &["add", "."],
        &["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "a"],
    ] {
        assert!(place.command(Path::new("git")).args(words).status().unwrap().success(), "git {words:?}");
    }
}

/// What `nix build` makes of an attribute.
fn nix_build(place: &Place, installable: &str) -> String {
    let mut nix: Command = place.command(Path::new("nix"));
    nix.args(["build", "--extra-experimental-features", "nix-command flakes", "--no-write-lock-file"]);
    nix.args(["--option", "build-users-group", "", "--no-link", "--json", installable]);
    let output = nix.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    built[0]["outputs"]["out"].as_str().unwrap().to_owned()
}

/// A file of the VM that was built, beside its `bin`.
fn made(script: &str, file: &str) -> String {
    std::fs::read_to_string(Path::new(script).ancestors().nth(2).unwrap().join(file)).unwrap()
}

fn notes(events: &[&str]) -> Vec<String> {
    events.iter().filter_map(|event| event.strip_prefix("note: ")).map(str::to_owned).collect()
}

#[test]
fn a_host_is_extended_by_what_clones_need_unless_there_are_none() {
    let mut place = Place::new();
    flake(&place, "work", "nixosConfigurations.web = extensible \"its own\";");
    place.set("NIXVM_FLAKE", ".#web");
    let seen = place.build();
    let text = made(seen.script(), "text");
    says(&text, &["its own", r#""useNixStoreImage":true"#, "nixvm-no-boot-loader"]);
    assert_eq!(notes(&seen.events()), [] as [&str; 0]);
    assert_eq!(seen.events().iter().filter(|event| event.starts_with("started")).count(), 1);
    assert!(!place.at("work/flake.lock").exists(), "a run changes no file of the flake");

    place.set("NIXVM_TEMPLATES", "0");
    let unchanged = place.build();
    assert_eq!(made(unchanged.script(), "text"), "its own\n");
    assert!(!place.at("work/flake.lock").exists());

    place.set("NIXVM_FLAKE", ".#mail");
    says(place.build().error("Build"), &["nixosConfigurations.mail", "next: name one of the flake's hosts"]);
    place.set("NIXVM_TEMPLATES", "1");
    says(place.build().error("Build"), &["nixosConfigurations.mail", "next: name one of the flake's hosts"]);
}

#[test]
fn the_flake_that_is_extended_is_the_one_that_nix_builds() {
    let mut place = Place::new();
    let hosts = "nixosConfigurations = { web = unmoved \"web\"; \"a.example\" = unmoved \"dots\"; };";
    flake(&place, "work", hosts);
    flake(&place, "work/below", hosts);
    commit(&place);
    let folder = place.at("work").canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let same = |place: &mut Place, reference: &str, installable: &str| {
        place.set("NIXVM_FLAKE", reference);
        let built = place.build();
        let built = Path::new(built.script()).ancestors().nth(2).unwrap().to_owned();
        assert_eq!(built, Path::new(&nix_build(place, installable)), "{reference}");
        std::fs::read_to_string(built.join("text")).unwrap()
    };
    let vm = "nixosConfigurations.web.config.system.build.vm";
    assert_eq!(same(&mut place, ".#web", &format!(".#{vm}")), "web\n");
    let dots = ".#nixosConfigurations.\"a.example\".config.system.build.vm";
    assert_eq!(same(&mut place, ".#a.example", dots), "dots\n");
    for flake in [
        "./below".to_owned(),
        format!("path:{folder}"),
        format!("git+file://{folder}"),
        format!("git+file://{folder}?dir=below"),
        format!("git+file://{folder}?ref=HEAD"),
    ] {
        same(&mut place, &format!("{flake}#web"), &format!("{flake}#{vm}"));
    }
    // What is not committed counts as well.
    let clean = nix_build(&place, &format!(".#{vm}"));
    std::fs::write(place.at("work/more.nix"), "{ }").unwrap();
    assert!(place.command(Path::new("git")).args(["add", "more.nix"]).status().unwrap().success());
    same(&mut place, ".#web", &format!(".#{vm}"));
    assert_ne!(nix_build(&place, &format!(".#{vm}")), clean);
}

#[test]
fn what_can_not_be_extended_is_built_as_it_is_and_one_line_says_so() {
    let mut place = Place::new();
    let system = format!("{}-linux", std::env::consts::ARCH);
    flake(
        &place,
        "work",
        &format!("nixosConfigurations.web = host \"as it is\"; packages.{system}.vm = vmOf \"a package\";"),
    );
    let package = format!(".#packages.{system}.vm");
    for (reference, text, note) in [
        (".#web", "as it is\n", "web has no `extendModules`, so it is built without what clones need"),
        (
            &package,
            "a package\n",
            "is an attribute that can't be extended, so it is built without what clones need",
        ),
    ] {
        place.set("NIXVM_FLAKE", reference);
        place.set("NIXVM_TEMPLATES", "1");
        let seen = place.build();
        assert_eq!(made(seen.script(), "text"), text);
        let notes = notes(&seen.events());
        assert!(notes.len() == 1 && notes[0].contains(note), "{notes:?}");
        // Where nothing would be added, nothing is lacking.
        place.set("NIXVM_TEMPLATES", "0");
        let seen = place.build();
        assert_eq!(made(seen.script(), "text"), text);
        assert!(seen.events().iter().all(|event| !event.starts_with("note: ")), "{:?}", seen.events());
    }
}

#[test]
fn a_host_that_can_not_be_built_for_clones_is_built_as_it_is() {
    let mut place = Place::new();
    let broken = |message: &str| {
        format!(
            "nixosConfigurations.web = host \"as it is\" // {{ extendModules = _: throw \"{message}\"; }};"
        )
    };
    flake(&place, "work", &broken("The option `virtualisation.useNixStoreImage' does not exist."));
    place.set("NIXVM_FLAKE", ".#web");
    let seen = place.build();
    assert_eq!(made(seen.script(), "text"), "as it is\n");
    let notes = notes(&seen.events());
    let because = "machines boot cold, because the VM can't be built for clones: ";
    assert!(notes.len() == 1 && notes[0].starts_with(because), "{notes:?}");

    // Another error is the flake's own.
    flake(&place, "work", &broken("out of luck"));
    let seen = place.build();
    says(seen.error("Build"), &["#web failed: out of luck", "the whole output"]);
    assert!(!seen.events().iter().any(|event| event.starts_with("note: ")), "{:?}", seen.events());
}

#[test]
fn a_builder_that_fails_is_run_once_and_its_last_lines_are_shown() {
    let mut place = Place::new();
    flake_with(
        &place,
        "work",
        "",
        "echo out of luck >&2; exit 3",
        "nixosConfigurations.web = extensible \"\";",
    );
    place.set("NIXVM_FLAKE", ".#web");
    let seen = place.build();
    says(seen.error("Build"), &["#web failed: builder for", "exit code 3", "out of luck"]);
    assert!(!seen.error("Build").contains("«string»"), "{}", seen.error("Build"));
    let started = seen.events().iter().filter(|event| event.contains("building '")).count();
    assert_eq!(started, 1, "{:?}", seen.events());
}

#[test]
fn an_extended_host_is_built_with_the_settings_of_its_flake() {
    let mut place = Place::new();
    flake_with(&place, "work", "nixConfig.cores = 7;", "", "nixosConfigurations.web = extensible \"\";");
    place.set("NIXVM_FLAKE", ".#web");
    let settings = "sandbox = false\nsubstitute = false\naccept-flake-config = true\n";
    place.set("NIX_CONFIG", settings);
    assert_eq!(made(place.build().script(), "cores"), "7\n");

    // Nothing of it holds where Nix may not build while it evaluates, and the host is built all the same.
    flake_with(
        &place,
        "work",
        "nixConfig.cores = 7;",
        "",
        "nixosConfigurations.web = extensible \"another\";",
    );
    place.set("NIX_CONFIG", format!("{settings}allow-import-from-derivation = false\n"));
    says(&made(place.build().script(), "text"), &["another"]);
}

#[test]
fn an_answer_that_names_no_store_path_is_refused() {
    let mut place = Place::new();
    let odd = "nixosConfigurations.web = host \"\" // { extendModules = _: { config.system.build.vm = { drvPath = \"--help\"; outPath = \"/x\"; }; }; };";
    flake(&place, "work", odd);
    place.set("NIXVM_FLAKE", ".#web");
    says(place.build().error("Build"), &["did not answer with the paths of a derivation", "--help"]);
}

#[test]
fn a_host_on_the_stand_in_is_built_like_its_configuration_and_extended() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sample = std::fs::read_to_string(root.join("configuration.nix")).unwrap();
    let mut place = super::with_stand_in();
    place.configuration(&sample);
    let configuration = place.build();

    place.unset("NIXVM_NIXPKGS");
    place.set("NIX_CONFIG", "sandbox = false\nfilter-syscalls = false\nsubstitute = false\n");
    let flake = format!(
        "{{ inputs.standin = {{ url = \"path:{}\"; flake = false; }};\n outputs = {{ self, standin }}: {{ nixosConfigurations.web =\n\
         import \"${{standin}}/nixos/evaluate.nix\" {{ system = \"{}-linux\"; modules = [ ./configuration.nix ]; }}; }}; }}",
        root.join("standin/nixpkgs").display(),
        std::env::consts::ARCH,
    );
    std::fs::write(place.at("work/flake.nix"), flake).unwrap();
    place.set("NIXVM_FLAKE", ".#web");
    place.set("NIXVM_TEMPLATES", "0");
    let unchanged = place.build();
    assert_eq!(unchanged.script(), configuration.script());

    place.set("NIXVM_TEMPLATES", "1");
    let extended = place.build();
    assert_ne!(extended.script(), unchanged.script());
    let option = "virtualisation.useNixStoreImage";
    assert!(extended.events().iter().any(|event| event.contains(option)), "{:?}", extended.events());
}
