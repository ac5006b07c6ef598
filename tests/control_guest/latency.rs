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
fn how_long_a_command_takes() {
    let mut guest = Guest::start(Way::Helper);
    let bash = Instant::now();
    for _ in 0..20 {
        assert!(
            std::process::Command::new(crate::guest::bash()).args(["-c", "true"]).status().unwrap().success()
        );
    }
    println!("bash -c true {:?}", bash.elapsed() / 20);
    for text in ["true", "env true", "true | cat"] {
        median(&mut guest, text, "");
    }
}
