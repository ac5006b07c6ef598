//! The session's shell: a real one, with NixOS's prompt.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixvm_fake_guest::settings::Settings;

/// NixOS's prompt (programs.bash.promptInit), with the names filled in, since the host's are others.
fn prompt(settings: &Settings, user: &str) -> String {
    if let Some(prompt) = &settings.ps1 {
        return prompt.clone();
    }
    let host = &settings.name;
    let (colour, sign) = if user == "root" { ("1;31m", "#") } else { ("1;32m", "$") };
    if settings.term == "dumb" {
        // bash's own, with the guest's sign.
        return format!("\\s-\\v{sign} ");
    }
    format!(
        "\\n\\[\\033[{colour}\\][\\[\\e]0;{user}@{host}: \\w\\a\\]{user}@{host}:\\w]{sign}\\[\\033[0m\\] "
    )
}

/// The user's home: a folder of the machine's own.
pub fn home(run: &Path, user: &str) -> PathBuf {
    run.join("home").join(user)
}

/// The environment of a session of `user`.
pub fn environment(settings: &Settings, run: &Path, user: &str) -> io::Result<Vec<(String, String)>> {
    let home = home(run, user);
    std::fs::create_dir_all(&home)?;
    let shell = find(&settings.shell).unwrap_or_else(|| PathBuf::from(&settings.shell));
    let host_path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
    let bin = run.join("bin").display().to_string();
    let path = if host_path.starts_with(&bin) {
        host_path
    } else {
        format!("{bin}:{}", without_elevation(&host_path, run)?)
    };
    let mut variables = vec![
        ("FAKE_GUEST_RUN", run.display().to_string()),
        ("FAKE_GUEST_USER", user.into()),
        ("PATH", path),
        ("HOME", home.display().to_string()),
        ("USER", user.into()),
        ("LOGNAME", user.into()),
        ("SHELL", shell.display().to_string()),
        ("TERM", settings.term.clone()),
        ("LANG", "C.UTF-8".into()),
    ];
    let prompt = prompt(settings, user);
    // What an interactive bash started by hand reads.
    std::fs::write(home.join(".bashrc"), format!("PS1='{}'\n", prompt.replace('\'', "'\\''")))?;
    // zsh has its own escapes and no need for bash's; dash and fish have none.
    if settings.shell == "bash" || settings.ps1.is_some() {
        variables.push(("PS1", prompt));
    }
    // readline reads this before the host's own.
    std::fs::write(
        home.join(".inputrc"),
        "set bell-style none\nset meta-flag on\nset input-meta on\nset convert-meta off\nset output-meta on\n\
         set colored-stats on\n",
    )?;
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value));
    Ok(variables.chain(settings.env.iter().cloned()).collect())
}

/// Programs by which a user becomes root. The guest has its own, or none.
const ELEVATION: [&str; 3] = ["sudo", "doas", "run0"];

/// The host's search path without its own such programs: a folder that has one is replaced by links to all else in it.
fn without_elevation(path: &str, run: &Path) -> io::Result<String> {
    let mut folders = Vec::new();
    for (number, folder) in std::env::split_paths(path).enumerate() {
        if !ELEVATION.iter().any(|name| folder.join(name).exists()) {
            folders.push(folder);
            continue;
        }
        let others = run.join(format!("host-{number}"));
        if !others.exists() {
            std::fs::create_dir_all(&others)?;
            for entry in std::fs::read_dir(&folder)? {
                let name = entry?.file_name();
                if !ELEVATION.iter().any(|hidden| name == *hidden) {
                    std::os::unix::fs::symlink(folder.join(&name), others.join(&name))?;
                }
            }
        }
        folders.push(others);
    }
    let path = std::env::join_paths(folders).map_err(io::Error::other)?;
    Ok(path.to_string_lossy().into_owned())
}

/// The login shell's command, without the host's start-up files.
pub fn command(settings: &Settings, run: &Path, user: &str) -> io::Result<Command> {
    let path = find(&settings.shell).ok_or_else(|| {
        io::Error::other(format!("login: failed to execute {}: No such file", settings.shell))
    })?;
    let mut command = Command::new(path);
    command.arg0(format!("-{}", settings.shell)).current_dir({
        let home = home(run, user);
        std::fs::create_dir_all(&home)?;
        home
    });
    let home = home(run, user);
    let variables = environment(settings, run, user)?;
    command.env_clear().envs(variables);
    let reads = |file: &str| std::fs::write(home.join(file), format!("{}\n", settings.startup));
    match (settings.shell.as_str(), settings.startup.is_empty()) {
        ("bash", true) => command.arg("--noprofile"),
        ("bash", false) => {
            reads("startup")?;
            command.arg0("bash").args(["--noprofile", "--rcfile"]).arg(home.join("startup"))
        }
        ("zsh", true) => command.args(["-f", "-d"]),
        ("zsh", false) => {
            reads(".zshrc")?;
            command.arg("-d").env("ZDOTDIR", &home)
        }
        ("fish", true) => command.arg("--no-config"),
        ("fish", false) => {
            std::fs::create_dir_all(home.join(".config/fish"))?;
            reads(".config/fish/config.fish")?;
            command.env("XDG_CONFIG_HOME", home.join(".config"))
        }
        // It has no option against the host's /etc/profile, which sets another PATH.
        ("dash", _) => {
            reads("startup")?;
            command.arg0("dash").env("ENV", home.join("startup"))
        }
        // Its name is that of the file.
        (path, _) if path.starts_with('/') => command.arg0(path),
        _ => {
            reads(".tcshrc")?;
            &mut command
        }
    };
    Ok(command)
}

/// Becomes the login shell; comes back only with an error.
pub fn become_shell(settings: &Settings, run: &Path, user: &str) -> io::Error {
    match command(settings, run, user) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

/// A program of the host, by the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_programs_that_make_root_are_hidden_and_the_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (with, plain) = (folder.path().join("with"), folder.path().join("plain"));
        for place in [&with, &plain] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("cat"), "").unwrap();
        }
        for name in ELEVATION {
            std::fs::write(with.join(name), "").unwrap();
        }
        let path = format!("{}:{}", with.display(), plain.display());
        for _ in 0..2 {
            let seen = without_elevation(&path, folder.path()).unwrap();
            let seen: Vec<_> = std::env::split_paths(&seen).collect();
            assert_eq!(seen[1], plain);
            assert!(seen[0].join("cat").exists());
            assert!(ELEVATION.iter().all(|name| !seen[0].join(name).exists()));
        }
    }
}
