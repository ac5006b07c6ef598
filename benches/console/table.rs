//! Runs the cases in turn and prints the table.

use crate::contender::{Case, Contender, LIMIT, Measured, Pattern};
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
        println!("(in brackets: times the bare read of the same round, median; peak memory)\n");
        println!("| | {} |", sizes.iter().map(|size| format!("{size} MB")).collect::<Vec<_>>().join(" | "));
        println!("|---|{}", "---|".repeat(sizes.len()));
        let columns: Vec<_> = sizes.iter().map(|&size| floods(size, pattern, quick)).collect();
        for (row, contender) in Contender::ALL.into_iter().enumerate() {
            let cells = columns.iter().map(|column| cell(&column[row]));
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

/// What a contender took in each round, beside the bare read in the same round.
type Rounds = Vec<(Measured, Measured)>;

/// Measures the contenders at one size; they take turns.
fn floods(megabytes: usize, pattern: Pattern, quick: bool) -> Vec<Rounds> {
    let mut measured = vec![Vec::new(); Contender::ALL.len()];
    let rounds = if quick { 3 } else { 9 };
    for round in 0..rounds {
        let case = Case::Flood { megabytes, pattern };
        let read = in_a_process(Contender::Read, case);
        for (row, contender) in Contender::ALL.into_iter().enumerate() {
            let slow = matches!(contender, Contender::Expectrl | Contender::Rexpect);
            if contender == Contender::Read {
                measured[row].push((read, read));
            } else if round == 0 || !slow {
                measured[row].push((in_a_process(contender, case), read));
            }
        }
    }
    measured
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn cell(rounds: &Rounds) -> String {
    let seconds = median(rounds.iter().map(|(measured, _)| measured.seconds).collect());
    let ratio = median(rounds.iter().map(|(measured, read)| measured.seconds / read.seconds).collect());
    let peak = rounds.iter().map(|(measured, _)| measured.peak).max().unwrap_or(0) as f64 / 1024.0;
    if seconds.is_infinite() {
        return format!("> {} s ({peak:.0} MiB)", LIMIT.as_secs());
    }
    format!("{seconds:.3} ({ratio:.2} ×; {peak:.0} MiB)")
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
