//! How long a command takes from its frame to its answer; shown with `--nocapture`.

use crate::guest::{Guest, Way};
use std::time::{Duration, Instant};

fn median(guest: &mut Guest, text: &str, options: &str) -> Duration {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(guest.run_with(text, options).status, Some(0));
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{text:12} {:10} {:?} median, {:?} at most", options.trim(), times[50], times[99]);
    times[50]
}

#[test]
fn a_shell_waits_before_the_command_comes() {
    let mut guest = Guest::start(Way::Helper);
    median(&mut guest, "true", "simple 1\n");
    let bash = Instant::now();
    for _ in 0..20 {
        assert!(
            std::process::Command::new(crate::guest::bash()).args(["-c", "true"]).status().unwrap().success()
        );
    }
    let bash = bash.elapsed() / 20;
    println!("bash -c true {bash:?}");
    let simple = median(&mut guest, "true", "simple 1\n");
    median(&mut guest, "true", "");
    median(&mut guest, "env true", "simple 1\n");
    median(&mut guest, "env true", "");
    // Nothing is started for it; a busy host makes both slower.
    assert!(simple < bash, "{simple:?}");
}
