//! Runs the cases in turn and prints the table.

use crate::contender::{Case, Contender, Measured, Pattern};
use crate::in_a_process;

/// Prints the whole table.
pub fn print(quick: bool) {
    println!("{}\n", machine());
    let sizes: &[usize] = if quick { &[1, 10] } else { &[1, 10, 50] };
    for pattern in Pattern::ALL {
        let what = match pattern {
            Pattern::Literal => format!("the literal {:?}", crate::PROMPT),
            Pattern::Regex => format!("the regular expression `{}`", crate::PROMPT_REGEX),
        };
        println!("Seconds to find {what} behind a flood through a PTY, median");
        println!("(in brackets: times the bare read; peak memory)\n");
        println!("| | {} |", sizes.iter().map(|size| format!("{size} MB")).collect::<Vec<_>>().join(" | "));
        println!("|---|{}", "---|".repeat(sizes.len()));
        let columns: Vec<_> = sizes.iter().map(|&size| floods(size, pattern, quick)).collect();
        for (row, contender) in Contender::ALL.into_iter().enumerate() {
            let cells = columns.iter().map(|column| cell(column[row], column[0]));
            println!("| {} | {} |", contender.name(), cells.collect::<Vec<_>>().join(" | "));
        }
        println!();
    }
    println!("| | a round trip, ms | processor time in 5 s of waiting |");
    println!("|---|---|---|");
    for contender in Contender::ALL {
        // rexpect looks every 100 ms.
        let count = if contender == Contender::Rexpect { 10 } else { 1000 };
        let trip = in_a_process(contender, Case::RoundTrips(count));
        let silence = if quick { None } else { Some(in_a_process(contender, Case::Silence)) };
        let idle = silence.map_or("–".to_owned(), |silence| format!("{:.3} s", silence.processor));
        println!("| {} | {:.3} | {idle} |", contender.name(), trip.seconds * 1e3);
    }
}

/// The medians of the contenders at one size; the repetitions take turns.
fn floods(megabytes: usize, pattern: Pattern, quick: bool) -> Vec<Option<Measured>> {
    let mut measured = vec![Vec::new(); Contender::ALL.len()];
    let rounds = if quick { 3 } else { 7 };
    for round in 0..rounds {
        for (row, contender) in Contender::ALL.into_iter().enumerate() {
            let slow = matches!(contender, Contender::Expectrl | Contender::Rexpect);
            // expectrl looks at everything again at every read: its time grows with the square.
            let hopeless = contender == Contender::Expectrl && pattern == Pattern::Regex && megabytes > 10;
            if hopeless || slow && round > 0 {
                continue;
            }
            measured[row].push(in_a_process(contender, Case::Flood { megabytes, pattern }));
        }
    }
    measured.into_iter().map(median).collect()
}

fn median(mut measured: Vec<Measured>) -> Option<Measured> {
    measured.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    measured.get(measured.len() / 2).copied()
}

fn cell(measured: Option<Measured>, read: Option<Measured>) -> String {
    let (Some(measured), Some(read)) = (measured, read) else {
        return "skipped: minutes".to_owned();
    };
    let ratio = measured.seconds / read.seconds;
    let peak = measured.peak as f64 / 1024.0;
    format!("{:.3} ({ratio:.2} ×; {peak:.0} MiB)", measured.seconds)
}

/// The machine, as it is named with every figure.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(1).collect();
    format!(
        "{}, {cores} cores, Linux {}, load {} at the start",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        load.concat()
    )
}
