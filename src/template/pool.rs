//! Starts clones before they are requested: the next scenario's machine starts while the present scenario
//! runs.

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

/// Clones that wait, each for one request.
///
/// They have their own runtime, because they outlive the scenario beside which they are started. A waiting
/// clone has its clock set, and its guest has finished what it does on wake-up. Nothing was typed on its
/// console except Enter at a login prompt.
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
    /// The maximum number of waiting clones.
    most: usize,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
}

type Starting = JoinHandle<Option<Waiting>>;

#[derive(Debug)]
struct Waiting {
    machine: Machine,
    /// The folder of the template that it is a clone of.
    template: PathBuf,
    events: Held,
}

impl Pool {
    /// Makes a pool in which at most as many clones wait as this host has processors.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when the system can't start a thread.
    pub fn new() -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("pool").enable_all();
        let runtime = threads::runtime(builder, 1)?;
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { waiting: Mutex::default(), most, runtime: Some(runtime) })
    }

    /// Starts a clone for a later request for the same machine. Does nothing if there is no template: nothing
    /// is booted ahead of time. The later request reports any failure.
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

    /// Does the same as [`machine`], but returns a waiting clone if there is one.
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
        // Takes the clone that was started first.
        let prepared = self.waiting().get_mut(&moment.asked(vm, &options)).and_then(VecDeque::pop_front);
        if let Some(prepared) = prepared
            && let Ok(Some(Waiting { machine, template, events: held })) = prepared.await
            && machine.qemu().exit().borrow().is_none()
            // The clone may have waited for minutes.
            && changed_outside(&template).is_none()
        {
            held.pass_on(events);
            if let Some(keeper) = &options.keeper {
                keep_as_it_comes(&machine.console(), machine.name(), keeper);
                machine.keep_answers(keeper);
            }
            return Ok(machine);
        }
        machine(vm, options, moment, events).await
    }

    /// Ends the clones that were never requested. It blocks, so do not call it in a tokio runtime.
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
            // The caller may be in another runtime, where this must not block.
            runtime.shutdown_background();
        }
    }
}

async fn started(vm: &BuiltVm, options: MachineOptions, moment: &Moment) -> Option<(Machine, PathBuf)> {
    let choice = accelerator::chosen(vm).ok()?;
    let key = moment.key(vm, &options, &choice);
    // A clone that does not run would only take CPU time from the machine that is booted instead.
    if Clones::of(vm, &choice).ok()?.impossible(&key).is_some() {
        return None;
    }
    let template = Store::open().ok()?.whole(&key).await.ok()??;
    let folder = template.folder.clone();
    match Machine::resume(vm, options, template).await {
        Ok(machine) => Some((machine, folder)),
        Err(error) => {
            tracing::debug!(%error, "could not start a clone ahead of time");
            None
        }
    }
}

/// Holds back a machine's events until a scenario has the machine.
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

    /// Sends all events, from now on, to the scenario that has the machine.
    fn pass_on(&self, to: &Events) {
        // The lock is held until all events are sent, so that no later event overtakes them.
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
