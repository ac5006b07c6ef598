//! Clones that are started before they are asked for: while one scenario runs, the next one's machine gets up.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::clones::Clones;
use super::{Key, Moment, Store, machine};
use crate::BuiltVm;
use crate::machine::{Machine, MachineOptions, keep_as_it_comes};
use crate::mutex::lock;
use crate::qemu::{accelerator, changed_outside};
use crate::{Event, Events, Result, threads};

/// Clones that wait to be asked for, each for one who asks.
///
/// They have a runtime of their own, since they outlive that of the scenario beside which they are started. A clone
/// that waits has its clock right, and the guest has done what it does when it wakes up. Nothing was typed on its
/// console but Enter, at a login prompt.
///
/// ```no_run
/// # async fn example(vm: nixvm_test::internals::BuiltVm) -> nixvm_test::Result {
/// use nixvm_test::internals::{Events, template::{Moment, Pool}};
/// use nixvm_test::{machine::MachineOptions};
/// let pool = Pool::new()?;
/// let options = || MachineOptions::new("server");
/// let first = pool.machine(&vm, options(), &Moment::Booted, &Events::none()).await?;
/// pool.prepare(&vm, options(), &Moment::Booted);
/// first.login("alice", "test").await?;
/// let next = pool.machine(&vm, options(), &Moment::Booted, &Events::none()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    waiting: Mutex<HashMap<Key, VecDeque<Starting>>>,
    /// So many wait at most.
    most: usize,
    /// Gone only when this is dropped.
    runtime: Option<Runtime>,
}

type Starting = JoinHandle<Option<Waiting>>;

#[derive(Debug)]
struct Waiting {
    machine: Machine,
    /// The folder of what it is a clone of.
    template: PathBuf,
    events: Held,
}

impl Pool {
    /// A pool in which as many clones wait as this host has processors, at most.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when the system has no more threads.
    pub fn new() -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("pool").enable_all();
        let runtime = threads::runtime(builder, 1)?;
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { waiting: Mutex::default(), most, runtime: Some(runtime) })
    }

    /// Starts a clone for one who will ask for the same. Only where there is a template already: nothing is booted
    /// ahead. What goes wrong is said to the one who asks.
    pub fn prepare(&self, vm: &BuiltVm, options: MachineOptions, moment: &Moment) {
        let mut waiting = self.waiting();
        let asked = moment.asked(vm, &options);
        let Some(runtime) = &self.runtime else { return };
        if waiting.values().map(VecDeque::len).sum::<usize>() >= self.most || options.keeps_state() {
            return;
        }
        let (vm, moment, events) = (vm.clone(), moment.clone(), Held::new());
        let started = async move {
            let options = options.events(events.events());
            let (machine, template) = started(&vm, options, &moment).await?;
            Some(Waiting { machine, template, events })
        };
        waiting.entry(asked).or_default().push_back(runtime.spawn(started));
    }

    /// [`machine`], with a clone that waits if there is one.
    ///
    /// # Errors
    /// Those of [`machine`].
    pub async fn machine(
        &self,
        vm: &BuiltVm,
        options: MachineOptions,
        moment: &Moment,
        events: &Events,
    ) -> Result<Machine> {
        // The one that got up first.
        let prepared = self.waiting().get_mut(&moment.asked(vm, &options)).and_then(VecDeque::pop_front);
        if let Some(prepared) = prepared
            && let Ok(Some(Waiting { machine, template, events: held })) = prepared.await
            && machine.qemu().exit().borrow().is_none()
            // It may have waited for minutes.
            && changed_outside(&template).is_none()
        {
            held.pass_on(events);
            if let Some(keeper) = &options.keeper {
                keep_as_it_comes(&machine.console(), machine.name(), keeper);
            }
            return Ok(machine);
        }
        machine(vm, options, moment, events).await
    }

    /// Ends the clones that nobody asked for, and nobody will. Not to be called in a tokio runtime, since it blocks.
    pub fn end(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            for prepared in waiting.into_values().flatten() {
                if let Ok(Some(Waiting { machine, .. })) = prepared.await {
                    machine.stop().await;
                }
            }
        });
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<Starting>>> {
        lock(&self.waiting)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops this may be in another runtime, where it must not block.
            runtime.shutdown_background();
        }
    }
}

async fn started(vm: &BuiltVm, options: MachineOptions, moment: &Moment) -> Option<(Machine, PathBuf)> {
    let choice = accelerator::chosen(vm).ok()?;
    let key = moment.key(vm, &options, &choice);
    // Clones that do not run only take the processor from the machine that is booted instead.
    if Clones::of(vm, &choice).ok()?.impossible(&key).is_some() {
        return None;
    }
    let template = Store::open().ok()?.whole(&key).await.ok()??;
    let folder = template.folder.clone();
    match Machine::resume(vm, options, template).await {
        Ok(machine) => Some((machine, folder)),
        Err(error) => {
            tracing::debug!(%error, "no clone waits");
            None
        }
    }
}

/// What a machine says before somebody has it is kept until then.
#[derive(Debug, Clone)]
struct Held(Arc<Mutex<Hold>>);

#[derive(Debug)]
enum Hold {
    Kept(Vec<Event>),
    PassedOn(Events),
}

impl Held {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Hold::Kept(Vec::new()))))
    }

    fn events(&self) -> Events {
        let held = self.clone();
        Events::new(move |event| match &mut *held.hold() {
            Hold::Kept(kept) => kept.push(event.clone()),
            Hold::PassedOn(to) => to.send(event.clone()),
        })
    }

    /// From now on all of it goes to who has the machine.
    fn pass_on(&self, to: &Events) {
        // Locked until all are sent: none of those to come gets ahead.
        let mut hold = self.hold();
        if let Hold::Kept(kept) = std::mem::replace(&mut *hold, Hold::PassedOn(to.clone())) {
            kept.into_iter().for_each(|event| to.send(event));
        }
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_goes_to_who_has_the_machine() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let noted = said.clone();
        let to = Events::new(move |event| noted.lock().unwrap().push(format!("{event:?}")));
        let held = Held::new();
        held.events().note("one");
        held.events().note("two");
        assert!(said.lock().unwrap().is_empty());
        held.pass_on(&to);
        held.events().note("three");
        let said = said.lock().unwrap();
        assert_eq!(*said, ["one", "two", "three"].map(|text| format!("Note {{ text: {text:?} }}")));
    }
}
