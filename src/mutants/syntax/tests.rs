use proptest::prelude::*;

use super::*;

/// Returns each change of `text` as the operator, its words, and the text that it leaves, without superfluous spaces.
fn changes(text: &str) -> Vec<(Operator, String, String)> {
    let found = read(text).unwrap();
    let squeezed = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = found.changes.into_iter().map(|change| {
        let words = [&change.subject, &change.before, &change.after];
        let words: Vec<&str> =
            words.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        (change.operator, words.join(" | "), squeezed(change.applied(text)))
    });
    all.collect()
}

/// Checks the changes of one operator in `text`.
#[track_caller]
fn of(operator: Operator, text: &str, expected: &[(&str, &str)]) {
    let all = changes(text).into_iter().filter(|(its, ..)| *its == operator);
    let all: Vec<(String, String)> = all.map(|(_, words, left)| (words, left)).collect();
    let expected: Vec<(String, String)> =
        expected.iter().map(|(words, left)| ((*words).to_owned(), (*left).to_owned())).collect();
    assert_eq!(all, expected, "{text}");
}

#[test]
fn a_definition_is_left_out() {
    let drop = Operator::DropDefinition;
    of(drop, "{ a = 1; b.c = \"x;\"; }", &[("a", "{ b.c = \"x;\"; }"), ("b.c", "{ a = 1; }")]);
    of(drop, "{ a = { b = x; }; }", &[("a", "{ }"), ("a.b", "{ a = { }; }")]);
    of(drop, "{ a.\"b c\".${d} = x; }", &[("a.\"b c\".${d}", "{ }")]);
    of(drop, "rec { a = x; }", &[("a", "rec { }")]);
    of(drop, "{ pkgs, ... }: { a = x; }", &[("a", "{ pkgs, ... }: { }")]);
    of(drop, "with lib; { a = x; }", &[("a", "with lib; { }")]);
    of(drop, "[ { a = x; } ]", &[("a", "[ { } ]")]);
    of(drop, "{ a = f { b = x; }; }", &[("a", "{ }"), ("a.b", "{ a = f { }; }")]);
    of(drop, "{ a = \"${f { b = x; }}\"; }", &[("a", "{ }"), ("a.b", "{ a = \"${f { }}\"; }")]);
    of(drop, "{ a /* of */ = x; # b = y;\n}", &[("a", "{ # b = y; }")]);
}

#[test]
fn a_name_in_a_let_stays_and_what_is_in_its_value_is_changed() {
    let text = "let a = true; inherit (x) b; in { c = a; }";
    of(Operator::DropDefinition, text, &[("c", "let a = true; inherit (x) b; in { }")]);
    of(Operator::FlipBoolean, text, &[("a | true | false", "let a = false; inherit (x) b; in { c = a; }")]);
}

#[test]
fn an_inherited_name_is_left_out() {
    let drop = Operator::DropDefinition;
    of(drop, "{ inherit a; }", &[("a", "{ }")]);
    of(
        drop,
        "{ x = { inherit (y) a \"b\"; }; }",
        &[("x", "{ }"), ("x.a", "{ x = { inherit (y) \"b\"; }; }"), ("x.b", "{ x = { inherit (y) a ; }; }")]
            .map(|(name, left)| (if name == "x.b" { "x.\"b\"" } else { name }, left)),
    );
    of(drop, "{ inherit; }", &[]);
}

#[test]
fn an_element_of_a_list_is_left_out() {
    let drop = Operator::DropElement;
    of(drop, "{ a = [ b (c d) ]; }", &[("a | b", "{ a = [ (c d) ]; }"), ("a | (c d)", "{ a = [ b ]; }")]);
    of(drop, "[ [ a ] ]", &[("[ a ]", "[ ]"), ("a", "[ [ ] ]")]);
    of(drop, "[ { a = [ b ]; } ]", &[("{ a = [ b ]; }", "[ ]"), ("a | b", "[ { a = [ ]; } ]")]);
    of(drop, "{ a = x ++ [ \"b ]\" ]; }", &[("a | \"b ]\"", "{ a = x ++ [ ]; }")]);
    of(drop, "[ a.b or c ]", &[("a.b or c", "[ ]")]);
}

#[test]
fn an_import_is_told_from_other_elements() {
    let text = "{ imports = [ ./a.nix ] ++ [ (import ./b.nix) ]; }";
    of(Operator::DropElement, text, &[]);
    of(
        Operator::DropImport,
        text,
        &[
            ("imports | ./a.nix", "{ imports = [ ] ++ [ (import ./b.nix) ]; }"),
            ("imports | (import ./b.nix)", "{ imports = [ ./a.nix ] ++ [ ]; }"),
        ],
    );
}

#[test]
fn a_boolean_is_flipped_where_it_is_a_value() {
    let flip = Operator::FlipBoolean;
    of(
        flip,
        "{ a = true; b = !false; }",
        &[
            ("a | true | false", "{ a = false; b = !false; }"),
            ("b | false | true", "{ a = true; b = !true; }"),
        ],
    );
    of(flip, "{ a ? true }: a", &[("true | false", "{ a ? false }: a")]);
    for text in [
        "{ \"true\" = \"true\"; } # true",
        "{ true = x; }",
        "x.true",
        "x ? true",
        "{ inherit true; }",
        "{ true, ... }: x",
        "true: x",
        "{ a = ''true''; }",
        "trueish",
    ] {
        of(flip, text, &[]);
    }
}

#[test]
fn one_is_added_to_an_integer() {
    let add = Operator::AddOne;
    of(add, "{ a = 9; }", &[("a | 9 | 10", "{ a = 10; }")]);
    of(add, "[ 1 2 ]", &[("1 | 2", "[ 2 2 ]"), ("2 | 3", "[ 1 3 ]")]);
    of(
        add,
        "{ a = -1; b = - 5; }",
        &[("a | 1 | 0", "{ a = -0; b = - 5; }"), ("b | 5 | 4", "{ a = -1; b = - 4; }")],
    );
    of(
        add,
        "{ a = 9223372036854775807; b = -0; c = 1.5; d = \"1\"; e = x1; f = 99999999999999999999; }",
        &[],
    );
    of(add, "\"${toString 1}\"", &[("1 | 2", "\"${toString 2}\"")]);
}

#[test]
fn a_wrapper_is_left_out_and_its_definition_stays() {
    let unwrap = Operator::Unwrap;
    of(unwrap, "{ a = mkForce x; }", &[("a | mkForce", "{ a = x; }")]);
    of(unwrap, "{ a = lib.mkIf (b && c) { d = e; }; }", &[("a | lib.mkIf (b && c)", "{ a = { d = e; }; }")]);
    of(unwrap, "{ a = pkgs.lib.mkOverride 50 (f x); }", &[("a | pkgs.lib.mkOverride 50", "{ a = (f x); }")]);
    of(unwrap, "mkIf a (mkDefault b)", &[("mkIf a", "(mkDefault b)"), ("mkDefault", "mkIf a ( b)")]);
    of(unwrap, "mkIf a # why\n  b", &[("mkIf a # why", "b")]);
    for text in
        ["map (mkIf a) x", "mkForce", "mkMerge [ x ]", "x.mkIf or y a b", "mkIf a b c", "\"mkForce x\""]
    {
        of(unwrap, text, &[]);
    }
}

#[test]
fn a_syntax_error_has_its_line_and_column_and_no_password() {
    for (text, expected) in [
        ("{\n  a = 1\n  b = 2;\n}", "line 3, column 5: unexpected `=`"),
        ("{ é = 1; ] }", "line 1, column 3: unexpected text"),
        ("{ a = 1;\n\n", "the text ends too early, at line 1"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
    for text in ["{ password = hunter2 = x; }", "{ password = \"hunter2\" hunter2 }", "{ } ] hunter2"] {
        let why = read(text).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }
}

#[test]
fn a_text_that_is_not_understood_has_no_changes() {
    for text in ["{ a = ; }", "{ a = 1 }", "[ 1", "\"", "", "{ a = 1; } }"] {
        assert!(read(text).is_err(), "{text}");
    }
    for deep in ["[", "{ a = ", "(", "\"${"] {
        assert_eq!(read(&deep.repeat(40_000)), Err(TOO_DEEP.to_owned()), "{deep}");
    }
    assert!(read(&format!("[{}]", " a".repeat(LARGEST))).unwrap_err().contains("are read"));
    // A tree that is deep on its left side.
    assert!(read(&format!("f{}", " a".repeat(2_000))).is_ok());
}

#[test]
fn relative_paths_are_found() {
    let text =
        "[ ./a.nix ../b ./c/${d}/e.nix ./${f} /abs ~/home <nixpkgs/x> \"./text\" https://x/y ] # ./comment";
    let paths = read(text).unwrap().paths;
    let shown: Vec<(&str, bool)> = paths.iter().map(|path| (path.text.as_str(), path.goes_on)).collect();
    assert_eq!(shown, [("./a.nix", false), ("../b", false), ("./c/", true), ("./", true)]);
}

#[test]
fn passwords_are_known_by_the_names_of_their_options() {
    let text = "{ users.users.alice = { initialPassword = \"geheim\"; hashedPassword = ''$6$x''; name = \"alice\"; };
        wifi.psk = \"psk ${x}\"; passwordFile = ./x; }";
    assert_eq!(read(text).unwrap().secrets, ["geheim", "$6$x", "psk "]);
}

/// A generator of expressions.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        (0_i64..1000).prop_map(|number| number.to_string()),
        Just("-7".to_owned()),
        Just("x".to_owned()),
        Just("./x.nix".to_owned()),
        Just("\"a # ; ]\"".to_owned()),
        Just("''\n  two ''${ lines\n''".to_owned()),
        Just("lib.mkForce (x)".to_owned()),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let space =
            prop_oneof![Just(" "), Just("\n"), Just("\r\n"), Just(" # note ü\n"), Just(" /* n\n */ ")];
        let list = (prop::collection::vec(inner.clone(), 0..4), space.clone()).prop_map(|(items, space)| {
            format!(
                "[{space}{}{space}]",
                items.iter().map(|item| format!("({item})")).collect::<Vec<_>>().join(space)
            )
        });
        let set = (prop::collection::vec(inner.clone(), 0..4), space.clone()).prop_map(|(values, space)| {
            let definitions =
                values.iter().enumerate().map(|(at, value)| format!("n{at}.\"ü\" ={space}{value};"));
            format!("{{ inherit (x) a{space}b;{space}{} }}", definitions.collect::<Vec<_>>().join(space))
        });
        prop_oneof![
            list,
            set,
            inner.clone().prop_map(|value| format!("let v = {value}; in {{ inherit v; }}")),
            inner.clone().prop_map(|value| format!("{{ p ? ({value}), ... }}: p")),
            inner.clone().prop_map(|value| format!("with x; ({value})")),
            (inner.clone(), space).prop_map(|(value, space)| format!("lib.mkIf (x){space}({value})")),
            inner.prop_map(|value| format!("\"${{({value})}}\"")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_mutant_parses_again_and_changes_no_other_line(value in expression()) {
        let text = format!("{{ top = {value}; }}\n");
        for change in read(&text).unwrap().changes {
            let changed = change.applied(&text);
            prop_assert_ne!(&changed, &text);
            prop_assert!(read(&changed).is_ok(), "{:?}:\n{}\n{}", change, text, changed);
            let first = text[..change.range.start].matches('\n').count();
            let last = text[..change.range.end].matches('\n').count();
            let (before, after): (Vec<&str>, Vec<&str>) = (text.split('\n').collect(), changed.split('\n').collect());
            prop_assert_eq!(before.len(), after.len());
            for (number, (before, after)) in before.iter().zip(&after).enumerate() {
                prop_assert!((first..=last).contains(&number) || before == after, "line {}: {}", number + 1, changed);
            }
        }
    }

    #[test]
    fn no_text_makes_it_fail(text in "\\PC{0,60}") {
        if let Ok(found) = read(&text) {
            for change in found.changes {
                prop_assert_eq!(change.applied(&text).matches('\n').count(), text.matches('\n').count());
            }
        }
    }

    #[test]
    fn blanks_keep_the_ends_of_lines(text in "[ a-zü\t\r\n\"#]{0,40}") {
        let blanked = blank(&text);
        prop_assert_eq!(text.chars().count(), blanked.chars().count());
        for (before, after) in text.chars().zip(blanked.chars()) {
            let expected = if matches!(before, '\n' | '\r') { before } else { ' ' };
            prop_assert_eq!(after, expected);
        }
    }
}
