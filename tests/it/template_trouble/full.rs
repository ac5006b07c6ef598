//! The disk with the templates is full, or gets full while one is written.

use super::case::Case;
use crate::again::count;

#[test]
fn a_disk_that_is_full_or_gets_full_means_a_cold_boot_with_one_line_and_no_rest() {
    let cases = [
        ("40m", None, ""),
        ("80m", Some("FILL_BEFORE"), "QEMU ended while a template was made"),
        ("150m", Some("FILL_IN_STEP"), "saving the machine failed"),
    ];
    for (size, variable, why) in cases {
        let said = Case::new().on_a_disk_of(size, variable);
        let cold: Vec<&String> =
            said.iter().filter(|line| line.starts_with("note: guest boots cold: ")).collect();
        let (first, second) = said.split_at(said.iter().position(|line| line.starts_with("left:")).unwrap());
        assert_eq!((count(first, "note: guest"), count(first, "works")), (1, 1), "{size}: {said:#?}");
        assert!(cold[0].contains(why), "{cold:?}");
        assert!(cold[0].contains("a template needs 64 MiB of disk, "), "{cold:?}");
        let left = &second[0];
        assert!(!left.contains("making"), "{left}");
        assert_eq!(count(second, "works"), 1, "{said:#?}");
        // Where there is room again, the templates are made.
        let again = usize::from(variable.is_none());
        assert_eq!(count(second, "note: guest boots cold"), again, "{size}: {said:#?}");
        assert!(!second.last().unwrap().contains("making"), "{said:#?}");
    }
}
