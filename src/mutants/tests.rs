use super::*;

fn mutants(text: &str) -> Vec<Mutant> {
    Mutant::all_of(Path::new("a.nix"), text, syntax::read(text).unwrap().changes)
}

#[test]
fn a_mutant_says_where_it_is_and_what_it_changes() {
    let text =
        "{\n  \"é\" = 1; ports = [\n    22\n  ];\n  x = lib.mkForce true;\n  imports = [ ./b.nix ];\n}\n";
    let shown: Vec<String> = mutants(text)
        .iter()
        .map(|mutant| format!("{}:{}-{} {}", mutant.line, mutant.column, mutant.end_line, mutant.change))
        .collect();
    assert_eq!(
        shown,
        [
            "2:3-2 drop \"é\"",
            "2:9-2 change 1 to 2 in \"é\"",
            "2:12-4 drop ports",
            "3:5-3 drop 22 of ports",
            "3:5-3 change 22 to 23 in ports",
            "5:3-5 drop x",
            "5:7-5 unwrap lib.mkForce in x",
            "5:19-5 change true to false in x",
            "6:3-6 drop imports",
            "6:15-6 drop the import ./b.nix",
        ]
    );
}

#[test]
fn an_identifier_stays_when_lines_are_added_and_tells_equal_definitions_apart() {
    let ids = |text: &str| -> Vec<String> { mutants(text).into_iter().map(|mutant| mutant.id).collect() };
    let before = ids("{ a = [ x x ]; }");
    assert_eq!(ids("# more\n\n{ a =\n [ x x ]; }").len(), before.len());
    assert_eq!(ids("# more\n\n{ a = [ x x ]; }"), before);
    let unique: std::collections::BTreeSet<&String> = before.iter().collect();
    assert_eq!((unique.len(), before.len()), (3, 3));
    assert!(before.iter().all(|id| id.len() == 8));
}

#[test]
fn a_difference_has_the_lines_of_the_change_alone() {
    let text = "{\n  a = {\n    b = 1;\n  };\n  c = 2;\n}\n";
    let all = mutants(text);
    assert_eq!(
        all[0].diff(text),
        "--- a/a.nix\n+++ b/a.nix\n@@ -2,3 +2,3 @@ drop a\n-  a = {\n-    b = 1;\n-  };\n+\n+\n+\n"
    );
    assert_eq!(
        all.last().unwrap().diff(text),
        "--- a/a.nix\n+++ b/a.nix\n@@ -5,1 +5,1 @@ change 2 to 3 in c\n-  c = 2;\n+  c = 3;\n"
    );
}

#[test]
fn nothing_hostile_in_a_configuration_and_no_password_gets_out() {
    let text = "{ a.\"\u{1b}]0;x\u{7}\u{202e}b\" = [ \"\u{1b}[2J\" ]; initialPassword = \"geheim\"; }";
    let found = syntax::read(text).unwrap();
    found.secrets.iter().for_each(|secret| secrets::know(secret));
    for mutant in Mutant::all_of(Path::new("a.nix"), text, found.changes) {
        let shown = format!("{}{}{}{}", mutant.change, mutant.before, mutant.after, mutant.diff(text));
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        assert!(!shown.contains("geheim"), "{shown}");
    }
}
