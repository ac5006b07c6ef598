//! Paths of services' state that a switch moves.

use std::collections::BTreeSet;

use super::survey::{Survey, UnitState};

/// Folders that belong to the system, or whose loss does not matter.
const OF_THE_SYSTEM: [&str; 14] = [
    "/nix/",
    "/etc/",
    "/run/",
    "/usr/",
    "/bin/",
    "/sbin/",
    "/lib/",
    "/proc/",
    "/sys/",
    "/dev/",
    "/tmp/",
    "/var/tmp/",
    "/var/log/",
    "/var/cache/",
];

/// Returns the paths of state that units had before and the ones that they have now, by unit.
pub(super) fn moved(before: &Survey, after: &Survey) -> Vec<(String, String, String)> {
    let mut moved = Vec::new();
    for (unit, was) in &before.units {
        let Some(is) = after.units.get(unit) else { continue };
        let (was, is) = (paths(was), paths(is));
        let own = |these: &BTreeSet<String>, others: &BTreeSet<String>| -> Vec<String> {
            these.difference(others).cloned().collect()
        };
        let (gone, new) = (own(&was, &is), own(&is, &was));
        // A path that comes or goes alone has not moved.
        match (gone.as_slice(), new.as_slice()) {
            ([], _) | (_, []) => {}
            (gone, new) if gone.len() == new.len() => {
                let pairs = gone.iter().zip(new);
                moved.extend(pairs.map(|(was, is)| (unit.clone(), was.clone(), is.clone())));
            }
            (gone, new) => moved.push((unit.clone(), gone.join(", "), new.join(", "))),
        }
    }
    moved
}

/// Returns the paths of state in a unit's command and variables.
fn paths(unit: &UnitState) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in unit.environment.lines().chain(unit.command.lines()) {
        if let Some(folders) = line.strip_prefix("StateDirectory=") {
            found.extend(folders.split_ascii_whitespace().map(|folder| format!("/var/lib/{folder}")));
            continue;
        }
        let words = line.split(|c: char| c.is_whitespace() || "\"'=:,;()".contains(c));
        // `//` is a part of an address such as `https://host/path`.
        let paths = words.filter(|word| word.starts_with('/') && !word.starts_with("//") && word.len() > 1);
        let paths =
            paths.filter(|path| !OF_THE_SYSTEM.iter().any(|folder| format!("{path}/").starts_with(folder)));
        found.extend(paths.map(|path| path.trim_end_matches('/').to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(units: &[(&str, &str, &str)]) -> Survey {
        let unit = |(name, environment, command): &(&str, &str, &str)| {
            let state = UnitState {
                environment: (*environment).to_owned(),
                command: (*command).to_owned(),
                ..UnitState::default()
            };
            ((*name).to_owned(), state)
        };
        Survey { units: units.iter().map(unit).collect(), ..Survey::default() }
    }

    #[test]
    fn a_database_whose_folder_moves_is_named_with_both_folders() {
        let before = survey(&[
            (
                "postgresql.service",
                "Environment=PATH=/bin PGDATA=/var/lib/postgresql/15\n",
                "/nix/store/a/bin/postgres",
            ),
            ("mysql.service", "", "/nix/store/a/bin/mysqld --datadir=/var/lib/mysql --x=/nix/store/a"),
            ("app.service", "StateDirectory=app\n", "/bin/app -d /var/lib/app/"),
            ("web.service", "", "/bin/web /srv/www"),
        ]);
        let after = survey(&[
            (
                "postgresql.service",
                "Environment=\"PGDATA=/var/lib/postgresql/17\"\n",
                "/nix/store/b/bin/postgres",
            ),
            ("mysql.service", "", "/nix/store/b/bin/mysqld --datadir=/srv/mysql --x=/nix/store/b"),
            ("app.service", "StateDirectory=app2\n", "/bin/app -d /var/lib/app2"),
            ("web.service", "", "/bin/web"),
        ]);
        let moved = moved(&before, &after);
        let moved: Vec<_> = moved.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let expected = [
            ("app.service", "/var/lib/app", "/var/lib/app2"),
            ("mysql.service", "/var/lib/mysql", "/srv/mysql"),
            ("postgresql.service", "/var/lib/postgresql/15", "/var/lib/postgresql/17"),
        ];
        assert_eq!(moved, expected);
    }

    #[test]
    fn other_versions_of_programs_and_caches_are_no_moved_state() {
        let before = survey(&[(
            "a.service",
            "Environment=X=/run/a/1:/usr/lib/a API=https://old.example/v1\n",
            "/nix/store/1/bin/a /var/cache/1",
        )]);
        let after = survey(&[(
            "a.service",
            "Environment=X=/run/a/2:/usr/lib/b API=https://new.example/v1\n",
            "/nix/store/2/bin/a /var/cache/2",
        )]);
        assert_eq!(moved(&before, &after), []);
    }
}
