use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A folder with files: each name, and its text.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn read(folder: &tempfile::TempDir, name: &str) -> OwnFiles {
    OwnFiles::of(&folder.path().join(name)).unwrap()
}

fn names(own: &OwnFiles) -> Vec<String> {
    own.files().map(|file| file.display().to_string()).collect()
}

fn needed(own: &OwnFiles, folder: &tempfile::TempDir) -> Vec<String> {
    let root = folder.path().canonicalize().unwrap();
    own.needed.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect()
}

#[test]
fn the_files_are_those_that_are_imported_beneath_the_folder() {
    let folder = folder(&[
        (
            "etc/configuration.nix",
            "{ imports = [ ./a.nix ./web ../shared.nix ]; x = ./page.html; } # ./old.nix",
        ),
        ("etc/a.nix", "{ imports = [ ./deep/b.nix ./configuration.nix ]; a = 1; }"),
        ("etc/deep/b.nix", "{ b = 1; }"),
        ("etc/web/default.nix", "{ c = import ./host.nix; }"),
        ("etc/web/host.nix", "{ d = 1; }"),
        ("etc/page.html", "<p>"),
        ("etc/old.nix", "{ }"),
        ("shared.nix", "{ imports = [ ./more.nix ]; e = 1; }"),
        ("more.nix", "{ f = 1; }"),
    ]);
    let own = read(&folder, "etc/configuration.nix");
    assert_eq!(names(&own), ["a.nix", "configuration.nix", "deep/b.nix", "web/default.nix", "web/host.nix"]);
    assert_eq!(
        needed(&own, &folder),
        [
            "etc/a.nix",
            "etc/configuration.nix",
            "etc/deep/b.nix",
            "etc/page.html",
            "etc/web",
            "etc/web/host.nix",
            "more.nix",
            "shared.nix",
        ]
    );
    assert!(own.mutants.iter().all(|mutant| !mutant.change.contains("drop e")), "{:?}", own.mutants);
    let root = folder.path().canonicalize().unwrap();
    let outside = |name: &str| {
        format!("{} is not changed: it is not in {}", root.join(name).display(), root.join("etc").display())
    };
    assert_eq!(own.left_out, [outside("shared.nix"), outside("more.nix")]);
}

#[test]
fn all_files_of_the_repository_are_the_users_own() {
    let folder = folder(&[
        ("hosts/web/configuration.nix", "{ imports = [ ../../modules/ssh.nix ]; a = 1; }"),
        ("modules/ssh.nix", "{ imports = [ ../../outside.nix ]; b = 1; }"),
    ]);
    fs::create_dir(folder.path().join(".git")).unwrap();
    let own = read(&folder, "hosts/web/configuration.nix");
    assert_eq!(names(&own), ["hosts/web/configuration.nix", "modules/ssh.nix"]);
    assert!(own.mutants.iter().any(|mutant| mutant.change == "drop b"), "{:?}", own.mutants);
}

#[test]
fn a_path_that_goes_on_stands_for_what_begins_with_it() {
    let folder = folder(&[
        ("configuration.nix", "{ imports = [ (./hosts/web + \".nix\") ./modules/${x}.nix ]; }"),
        ("hosts/web.nix", "{ }"),
        ("hosts/other.nix", "{ }"),
        ("modules/y.nix", "{ }"),
    ]);
    let own = read(&folder, "configuration.nix");
    assert_eq!(needed(&own, &folder), ["configuration.nix", "hosts/web.nix", "modules"]);
}

#[test]
fn a_link_is_followed_and_what_it_leads_to_is_changed_only_in_the_folder() {
    let folder = folder(&[
        ("etc/real/configuration.nix", "{ imports = [ ./in.nix ./out.nix ]; }"),
        ("etc/real/target.nix", "{ a = 1; }"),
        ("elsewhere.nix", "{ b = 1; }"),
    ]);
    let path = |name: &str| folder.path().join(name);
    symlink("real/configuration.nix", path("etc/link.nix")).unwrap();
    symlink("target.nix", path("etc/real/in.nix")).unwrap();
    symlink(path("elsewhere.nix").canonicalize().unwrap(), path("etc/real/out.nix")).unwrap();
    let own = read(&folder, "etc/link.nix");
    assert_eq!(names(&own), ["configuration.nix", "target.nix"]);
    assert!(needed(&own, &folder).contains(&"elsewhere.nix".to_owned()));
    assert!(needed(&own, &folder).contains(&"etc/real/in.nix".to_owned()));
    // A link that leads to itself ends.
    symlink("round.nix", path("etc/real/round.nix")).unwrap();
    fs::write(path("etc/real/configuration.nix"), "{ imports = [ ./round.nix ]; }").unwrap();
    assert_eq!(names(&read(&folder, "etc/link.nix")), ["configuration.nix"]);
}

#[test]
fn a_file_that_is_not_understood_is_named_and_left_out() {
    let folder = folder(&[
        ("configuration.nix", "{ imports = [ ./bad.nix ./binary.nix ./missing.nix ]; }"),
        ("bad.nix", "{ a = ; }"),
    ]);
    fs::write(folder.path().join("binary.nix"), b"{ a = \"\xff\"; }").unwrap();
    let own = read(&folder, "configuration.nix");
    assert_eq!(names(&own), ["configuration.nix"]);
    let said = own.left_out.join("\n");
    assert!(said.contains("bad.nix is not changed: it is not understood"), "{said}");
    assert!(said.contains("binary.nix is not changed: "), "{said}");
}

#[test]
fn a_configuration_that_is_not_understood_is_an_error() {
    for (text, kind, expected) in [
        (&b"{\n  a = ;\n}"[..], ErrorKind::Build, "is not understood: line 2, column 7: unexpected `;`"),
        (b"{ a = 1;", ErrorKind::Build, "is not understood: the text ends too early, at line 1"),
        (b"\xef\xbb\xbf{ }", ErrorKind::Build, "is not understood: line 1, column 1: unexpected"),
        (b"{\n# \xff\n}", ErrorKind::Usage, "can't be changed: line 2 is not UTF-8"),
        (&[b' '; 300_000], ErrorKind::Usage, "can't be changed: it has 300000 bytes"),
    ] {
        let folder = folder(&[]);
        fs::write(folder.path().join("x.nix"), text).unwrap();
        let error = OwnFiles::of(&folder.path().join("x.nix")).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.summary().contains(expected), "{error}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let folder = folder(&[]);
    let error = OwnFiles::of(&folder.path().join("x.nix")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error = OwnFiles::of(folder.path()).unwrap_err();
    assert!(error.to_string().contains("is not a file"), "{error}");
}
