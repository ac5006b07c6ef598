//! `nixvm-test attach RUN [SCENARIO]`: returns to the moment at which a scenario failed, on the user's terminal.

mod find;
mod pack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::BuiltVm;
use crate::machine::{Kept, Machine, MachineOptions, RawConsole};
use crate::network::Switch;
use crate::qemu::{RunDirectory, accelerator};
use crate::scenario::{ByHand, Exit};
use crate::signals;
use crate::{Error, ErrorKind, Result, report};
use clap::Args;

use super::console::{self, Ending};
use super::options::Options;
use super::startup_reporter::StartupReporter;
use super::terminal::{self, Left, Terminal};

const EXAMPLES: &str = "\
Examples:
  nixvm-test attach                        the newest run, if one scenario of it failed
  nixvm-test attach last login             the scenario `login` of it, with all its machines
  nixvm-test attach 20260102 web.login --machine server
  nixvm-test attach last login --pack      packs it into one file, for another host
  nixvm-test attach login-machine.moment.tar.gz
  nixvm-test attach --live 1a2b3c4d.1      a run that is paused (--pause-on-failure, `machine.breakpoint()`)

Every key except ctrl-] goes to the machine; ctrl-] leaves it. With several machines ctrl-] and a number goes to the
console of another one. Changes are not kept: the next `attach` finds the
machine again as it was when the scenario failed.";

/// What to go back to.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Attach {
    /// The run, or a file that --pack made
    ///
    /// A run is named by its folder, its name, the beginning of its name, or `last`.
    #[arg(default_value = "last")]
    run: String,
    /// The scenario that failed, if there are several
    scenario: Option<String>,
    /// One of its machines, without the others
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Write the saved machine to one file, for another host
    ///
    /// Nothing is booted. Without FILE the name is made of the scenario and the machine.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "live")]
    pack: Option<Option<PathBuf>>,
    /// Use a saved machine of somebody else without checking it
    ///
    /// A saved machine names QEMU's options, files of this host and a run script. Options that let QEMU run commands or
    /// read other files are refused without this flag.
    #[arg(long, conflicts_with = "live")]
    trust: bool,
    /// Open the console of a machine whose run is paused
    ///
    /// The run prints the ID when it pauses.
    #[arg(long, value_name = "ID", conflicts_with_all = ["run", "scenario", "machine"])]
    live: Option<String>,
}

impl Attach {
    /// Connects the terminal to the machines at the moment of the failure.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        if let Some(id) = &self.live {
            return live(id).await;
        }
        // The folder of an unpacked moment. It is removed however this process ends.
        let mut unpacked = None;
        let moments = match pack::file(&self.run) {
            Some(file) => {
                let place = unpacked.insert(RunDirectory::create()?);
                vec![pack::unpack(&file, place.path())?]
            }
            None => find::moments(&self.run, self.scenario.as_deref(), self.machine.as_deref())?,
        };
        let mut kept = Vec::new();
        for moment in &moments {
            let one = Kept::open(moment)?;
            kept.push(if self.trust { one.trust() } else { one });
        }
        if let Some(file) = &self.pack {
            return packed(&moments, &kept, file.as_deref());
        }
        let obstacles = kept.iter().map(Kept::obstacle).collect::<Result<Vec<_>>>()?;
        let reporter = StartupReporter::before_a_console(&options.settings()?)?;
        let _counted: Vec<ByHand> = kept.iter().map(|one| ByHand::count(one.vm().ok().as_ref())).collect();
        let consoles = all(&kept, obstacles, options, &reporter).await?;
        reporter.end();
        console::connect(consoles, "", Ending::Stop).await
    }
}

/// Packs the moment of one machine.
fn packed(moments: &[PathBuf], kept: &[Kept], file: Option<&Path>) -> Result<ExitCode> {
    let [moment] = moments else {
        let names: Vec<&str> = kept.iter().map(Kept::machine).collect();
        return Err(Error::new(
            ErrorKind::Usage,
            "a file holds one machine, and several were kept: which one?",
        )
        .section("there are", names.join("\n"))
        .next_step("name one with --machine"));
    };
    let file = file.map_or_else(|| pack::name_for(moment), Path::to_owned);
    pack::pack(moment, &file)?;
    report::answer_path(&file);
    Ok(Exit::Passed.into())
}

/// Returns machines that continue from the moments, on the networks that they shared. If that is impossible for one,
/// boots it and prints the reason in one line.
async fn all(
    kept: &[Kept],
    obstacles: Vec<Option<String>>,
    options: &Options,
    reporter: &StartupReporter,
) -> Result<Vec<(Machine, RawConsole)>> {
    let switch = match kept.iter().any(Kept::is_networked) {
        true => Some(Arc::new(Switch::start()?)),
        false => None,
    };
    let named = |one: &Kept| {
        let networks = switch.as_ref().and_then(|switch| one.networks(switch));
        MachineOptions::new(one.machine()).events(reporter.events()).networks(networks)
    };
    // None runs before all are resumed: a machine that waits would miss what the others send.
    let mut stopped = Vec::new();
    for (one, obstacle) in kept.iter().zip(obstacles) {
        stopped.push(match obstacle {
            Some(why) => Err(why),
            None => match one.resume_stopped(named(one)).await {
                Ok(machine) => Ok(machine),
                Err(error) if error.kind() == ErrorKind::Host => return Err(error),
                Err(error) => Err(error.summary().to_owned()),
            },
        });
    }
    let mut running = Vec::new();
    for (one, machine) in kept.iter().zip(stopped) {
        running.push(match machine {
            Ok(machine) => match one.go_on(&machine).await {
                Ok(console) => Ok((machine, console)),
                Err(error) => {
                    machine.stop().await;
                    Err(error.summary().to_owned())
                }
            },
            Err(why) => Err(why),
        });
    }
    let mut consoles = Vec::new();
    for (one, running) in kept.iter().zip(running) {
        consoles.push(match running {
            Ok(resumed) => resumed,
            Err(why) => booted(one, &why, named(one), options, reporter).await?,
        });
    }
    Ok(consoles)
}

/// Boots the machine of a moment that can't be used, and prints the reason in one line.
async fn booted(
    kept: &Kept,
    why: &str,
    its: MachineOptions,
    options: &Options,
    reporter: &StartupReporter,
) -> Result<(Machine, RawConsole)> {
    let vm = vm(kept, options, reporter)
        .await
        .map_err(|error| error.section("its kept moment can't be used", why))?;
    reporter
        .events()
        .note(format!("{} boots from its VM, because its kept moment can't be used: {why}", kept.machine()));
    let machine = Machine::boot(&vm, its).await?;
    let console = machine.raw_console().await;
    Ok((machine, console))
}

/// Returns the VM that the machine was started from; else the one that the command line names.
async fn vm(kept: &Kept, options: &Options, reporter: &StartupReporter) -> Result<BuiltVm> {
    let settings = options.settings()?;
    match (kept.vm_to_boot(), &settings.source) {
        (Ok(vm), _) => Ok(vm),
        (Err(_), Some(source)) => {
            accelerator::check_environment()?;
            settings.builder().build(source, &reporter.events()).await
        }
        (Err(error), None) => {
            Err(error.section("or", "name what to boot instead: --configuration FILE.nix, --flake, --vm"))
        }
    }
}

/// Opens the console of a machine that is paused in another process.
async fn live(id: &str) -> Result<ExitCode> {
    let socket = find::live(id)?;
    Terminal::require()?;
    let stream = tokio::net::UnixStream::connect(&socket).await;
    let mut stream = stream.map_err(|error| {
        Error::new(ErrorKind::Usage, format!("no run is paused at {}: {error}", socket.display()))
            .caused_by(error)
            .likely_cause("it has continued since")
    })?;
    signals::install(|_| terminal::restore())?;
    let mut terminal = Terminal::take()?;
    terminal.show(&format!("on the console of {id}; ctrl-] leaves it\n\n"));
    let left = terminal.connect(&mut stream).await;
    drop(terminal);
    report::say(match left {
        Left::ByKey => "\nnixvm-test: left the console; the run is still paused",
        Left::Gone => "\nnixvm-test: the run continues",
    });
    Ok(Exit::Passed.into())
}
