use std::time::Duration;

use super::*;

fn own(folder: &Path) -> OwnFiles {
    let file = folder.join("configuration.nix");
    fs::write(&file, "{ a = true; b = [ x ]; }").unwrap();
    OwnFiles::of(&file).unwrap()
}

fn tried(mutant: &Mutant, outcome: Outcome) -> Tried {
    let (mutant, second) = (mutant.clone(), Duration::from_secs(1));
    Tried { mutant, outcome, reason: "why".into(), evaluation: second, run: second }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("mutants.out").join(name)).unwrap()
}

#[test]
fn files_are_kept_up_and_have_every_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let own = own(folder.path());
    let mut output = Output::make(folder.path(), &own, false).unwrap();
    output.baseline(true, 1.0, 2.0).unwrap();
    for (mutant, outcome) in own.mutants.iter().zip(Outcome::ALL) {
        output.diff(mutant, &own).unwrap();
        output.add(tried(mutant, outcome), &own).unwrap();
        assert_eq!(read(folder.path(), &format!("{}.txt", outcome.file())).lines().count(), 1);
    }
    let listed: Vec<Value> = serde_json::from_str(&read(folder.path(), "mutants.json")).unwrap();
    assert_eq!(listed.len(), own.mutants.len());
    let outcomes: Value = serde_json::from_str(&read(folder.path(), "outcomes.json")).unwrap();
    assert_eq!(outcomes["outcomes"][0]["scenario"], "Baseline");
    assert_eq!(outcomes["outcomes"][1]["scenario"]["Mutant"]["change"], "drop a");
    assert_eq!(outcomes["outcomes"][1]["summary"], "CaughtMutant");
    assert_eq!(outcomes["missed"], 1);
    assert_eq!(outcomes["total_mutants"], own.mutants.len());
    let id = &own.mutants[0].id;
    assert!(read(folder.path(), &format!("diff/{id}.diff")).contains("+{           b = [ x ]; }"));
    assert!(read(folder.path(), "caught.txt").ends_with(&format!("configuration.nix:1:3: drop a [{id}]\n")));
}

#[test]
fn a_run_that_goes_on_leaves_out_what_was_caught_even_two_runs_before() {
    let folder = tempfile::tempdir().unwrap();
    let own = own(folder.path());
    let [first, second, third] = [0, 1, 2].map(|at| &own.mutants[at]);
    let mut output = Output::make(folder.path(), &own, false).unwrap();
    output.add(tried(first, Outcome::Caught), &own).unwrap();
    output.add(tried(second, Outcome::Missed), &own).unwrap();
    drop(output);
    let mut output = Output::make(folder.path(), &own, true).unwrap();
    assert!(output.was_caught(first) && !output.was_caught(second));
    output.add(tried(second, Outcome::Caught), &own).unwrap();
    drop(output);
    let output = Output::make(folder.path(), &own, true).unwrap();
    assert!(output.was_caught(first) && output.was_caught(second) && !output.was_caught(third));
    assert_eq!(read(folder.path(), "previously_caught.txt").lines().count(), 2);
    drop(output);
    let output = Output::make(folder.path(), &own, false).unwrap();
    assert!(!output.was_caught(first));
}

#[test]
fn the_run_before_is_set_aside_and_a_foreign_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    let own = own(folder.path());
    let output = Output::make(folder.path(), &own, false).unwrap();
    let error = Output::make(folder.path(), &own, false).unwrap_err();
    assert!(error.to_string().contains("another run writes to"), "{error}");
    drop(output);
    fs::write(folder.path().join("mutants.out/mark"), "").unwrap();
    drop(Output::make(folder.path(), &own, false).unwrap());
    assert!(folder.path().join("mutants.out.old/mark").exists());
    drop(Output::make(folder.path(), &own, false).unwrap());
    assert!(!folder.path().join("mutants.out.old/mark").exists());
    fs::remove_dir_all(folder.path().join("mutants.out")).unwrap();
    fs::create_dir(folder.path().join("mutants.out")).unwrap();
    fs::write(folder.path().join("mutants.out/notes"), "").unwrap();
    let error = Output::make(folder.path(), &own, false).unwrap_err();
    assert!(error.to_string().contains("was not written by"), "{error}");
    assert!(folder.path().join("mutants.out/notes").exists());
}

#[test]
fn what_can_not_be_continued_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let own = own(folder.path());
    // Nothing was run before.
    drop(Output::make(folder.path(), &own, true).unwrap());
    fs::write(folder.path().join("mutants.out/outcomes.json"), "{").unwrap();
    let error = Output::make(folder.path(), &own, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("can't be continued"), "{error}");
    // Another configuration has other mutants, which may have equal identifiers.
    let other = json!({ "configuration": "/elsewhere.nix", "previously_caught": [own.mutants[0].id], "outcomes": [] });
    fs::write(folder.path().join("mutants.out/outcomes.json"), other.to_string()).unwrap();
    assert!(!Output::make(folder.path(), &own, true).unwrap().was_caught(&own.mutants[0]));
}
