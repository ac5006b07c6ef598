use std::fs;

use super::super::OwnFiles;
use super::*;

const TEXT: &str = "{\n  a = {\n    b = true;\n    c = 1;\n  };\n  d = [\n    x\n    y\n  ];\n}\n";

/// Returns the changes of `TEXT`, in the file `etc/a.nix`, that a diff touches.
fn touched(diff: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/a.nix"), TEXT).unwrap();
    let own = OwnFiles::of(&folder.path().join("etc/a.nix")).unwrap();
    let bases = [folder.path().to_owned()];
    let touched = Diff::read(diff).touched(own.mutants, &own.folder, &bases);
    touched.into_iter().map(|mutant| mutant.change).collect()
}

#[test]
fn only_mutants_on_changed_lines_are_left() {
    let of = |name: &str| {
        format!(
            "diff --git a/x b/x\n--- a/{name}\n+++ b/{name}\n@@ -3 +3 @@ head\n-    b = false;\n+    b = true;\n"
        )
    };
    assert_eq!(touched(&of("etc/a.nix")), ["drop a.b", "change true to false in a.b"]);
    assert_eq!(touched(&of("etc/other.nix")), [""; 0]);
    let plain = "--- etc/a.nix\t2026-11-30\n+++ etc/a.nix\t2026-11-30\n@@ -8,0 +8,1 @@\n+    y\n";
    assert_eq!(touched(plain), ["drop y of d"]);
}

#[test]
fn a_definition_with_others_in_it_counts_on_its_own_lines() {
    let head = "--- a/etc/a.nix\n+++ b/etc/a.nix\n@@ -6,1 +6,1 @@\n-  e = [\n+  d = [\n";
    assert_eq!(touched(head), ["drop d"]);
}

#[test]
fn lines_are_counted_over_context_and_several_parts() {
    let diff = "--- a/etc/a.nix\n+++ b/etc/a.nix\n@@ -2,3 +2,3 @@\n   a = {\n-    b = false;\n+    b = true;\n     c = 1;\n\
                @@ -6,3 +6,3 @@\n   d = [\n     x\n-    z\n+    y\n\\ No newline at end of file\n";
    assert_eq!(touched(diff), ["drop a.b", "change true to false in a.b", "drop y of d"]);
}

#[test]
fn lines_that_are_gone_and_texts_that_are_no_diff_touch_nothing() {
    for diff in [
        "",
        "hello\n+++ \n@@ -x +y @@\n+a\n",
        "--- a/etc/a.nix\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n",
        "--- a/etc/a.nix\n+++ b/etc/a.nix\n@@ -3,2 +2,0 @@\n-a\n-b\n",
        "+++ b/etc/a.nix\n@@ -1,1 +99999999999999999999,1 @@\n+a\n",
        // A line of the file that looks like the head of another one.
        "--- a/x\n+++ b/x\n@@ -0,0 +1,2 @@\n+++ b/etc/a.nix\n+@@ -0,0 +1,9 @@\n",
    ] {
        assert_eq!(touched(diff), [""; 0], "{diff}");
    }
}
