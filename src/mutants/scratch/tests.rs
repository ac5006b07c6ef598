use std::os::unix::fs::symlink;

use super::*;

/// Returns the configuration in a folder of its own, and its copy.
fn copied(make: impl FnOnce(&Path)) -> (tempfile::TempDir, OwnFiles, Result<Scratch>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    make(&root);
    let own = OwnFiles::of(&root.join("etc/configuration.nix")).unwrap();
    let scratch = Scratch::of(&own);
    (folder, own, scratch)
}

fn put(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn what_the_configuration_names_is_copied_and_nothing_else() {
    let (folder, own, scratch) = copied(|root| {
        put(root.join("etc/configuration.nix"), "{ imports = [ ./a.nix ../shared ]; x = ./run.sh; }");
        put(root.join("etc/a.nix"), "{ }");
        put(root.join("etc/secret.key"), "secret");
        put(root.join("etc/run.sh"), "");
        fs::set_permissions(root.join("etc/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        put(root.join("shared/default.nix"), "{ }");
        put(root.join("shared/more.txt"), "more");
        put(root.join("shared/mutants.out/mutants.json"), "[]");
    });
    let scratch = scratch.unwrap();
    let root = folder.path().canonicalize().unwrap();
    let is_copied = |name: &str| scratch.path_of(&root.join(name)).is_file();
    for name in ["etc/configuration.nix", "etc/a.nix", "etc/run.sh", "shared/default.nix", "shared/more.txt"]
    {
        assert!(is_copied(name), "{name}");
    }
    for name in ["etc/secret.key", "shared/mutants.out/mutants.json"] {
        assert!(!is_copied(name), "{name}");
    }
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.path_of(&root.join("etc/run.sh"))), 0o700);
    assert_eq!(mode(&scratch.path_of(&own.configuration)), 0o600);
    assert_eq!(mode(&scratch.folder), 0o700);
    scratch.put(&own.configuration, "changed").unwrap();
    assert_eq!(
        fs::read_to_string(&own.configuration).unwrap(),
        "{ imports = [ ./a.nix ../shared ]; x = ./run.sh; }"
    );
    let place = scratch.folder.clone();
    drop(scratch);
    assert!(!place.exists());
}

#[test]
fn one_process_has_the_copy_at_a_time() {
    let (_folder, own, scratch) = copied(|root| put(root.join("etc/configuration.nix"), "{ }"));
    let scratch = scratch.unwrap();
    let error = Scratch::of(&own).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("under way"), "{error}");
    let place = scratch.folder.clone();
    drop(scratch);
    assert!(!place.exists() && !lock_of(&place).exists());
    // What a killed process left is removed.
    put(place.join("files/left"), "");
    let scratch = Scratch::of(&own).unwrap();
    assert!(!scratch.folder.join("files/left").exists());
    assert_eq!(scratch.folder, place, "the place is always the same");
}

#[test]
fn copies_that_killed_processes_left_are_pruned_and_those_in_use_stay() {
    // A folder of this test's own: other tests have copies in the cache.
    let base = tempfile::tempdir().unwrap();
    let (left, used) = (base.path().join("left"), base.path().join("used"));
    for folder in [&left, &used] {
        put(folder.join("files/configuration.nix"), "{ }");
        file_lock::open(&lock_of(folder)).unwrap();
    }
    let _lock = locked(&lock_of(&used)).unwrap().unwrap();
    assert_eq!(prune_in(base.path()), 1);
    assert!(!left.exists() && !lock_of(&left).exists());
    assert!(used.exists() && lock_of(&used).exists());
}

#[test]
fn links_lead_to_the_copy_where_their_target_has_one() {
    let (folder, own, scratch) = copied(|root| {
        put(
            root.join("etc/configuration.nix"),
            "{ imports = [ ./link.nix ./absolute.nix ./folder ]; x = ./all; }",
        );
        put(root.join("real/target.nix"), "{ imports = [ ./beside.nix ]; }");
        put(root.join("real/beside.nix"), "{ }");
        put(root.join("real/modules/default.nix"), "{ }");
        put(root.join("outside.txt"), "outside");
        put(root.join("etc/all/file"), "");
        symlink("../real/target.nix", root.join("etc/link.nix")).unwrap();
        symlink(root.join("real/target.nix"), root.join("etc/absolute.nix")).unwrap();
        symlink("../real/modules", root.join("etc/folder")).unwrap();
        symlink("file", root.join("etc/all/inside")).unwrap();
        symlink("../../outside.txt", root.join("etc/all/outside")).unwrap();
        symlink("nowhere", root.join("etc/all/dangling")).unwrap();
    });
    let scratch = scratch.unwrap();
    let root = folder.path().canonicalize().unwrap();
    let real = |name: &str| scratch.path_of(&root.join(name)).canonicalize().unwrap();
    let copies = scratch.folder.canonicalize().unwrap();
    for name in
        ["etc/link.nix", "etc/absolute.nix", "etc/folder/default.nix", "etc/all/inside", "real/beside.nix"]
    {
        assert!(real(name).starts_with(&copies), "{name}: {:?}", real(name));
    }
    assert_eq!(real("etc/all/outside"), root.join("outside.txt"));
    assert!(scratch.path_of(&root.join("etc/all/dangling")).is_symlink());
    assert_eq!(own.files().count(), 1);
}

#[test]
fn a_folder_with_too_much_in_it_is_refused_by_name() {
    let (_folder, _own, scratch) = copied(|root| {
        put(root.join("etc/configuration.nix"), "{ x = ./big; }");
        put(root.join("etc/big/disk"), "");
        let disk = File::options().write(true).open(root.join("etc/big/disk")).unwrap();
        // It has a hole of this size.
        disk.set_len(MOST + 1).unwrap();
    });
    let error = scratch.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("etc/big, which is too much to copy"), "{error}");
}
