//! Clones that are started before they are asked for: while one scenario runs, the next one's machine gets up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::{Key, Moment, Store, machine};
use crate::build::BuiltVm;
use crate::machine::{Machine, MachineOptions};
use crate::qemu::accelerator;
use crate::{Error, Event, Events, Result};

/// Clones that wait to be asked for, each for one who asks.
///
/// They have a runtime of their own, since they outlive that of the scenario beside which they are started. A clone
/// that waits has its clock right, and the guest has done what it does when it wakes up; nothing was typed on its
/// console.
///
/// ```no_run
/// # async fn example(vm: nixvm_test::build::BuiltVm) -> nixvm_test::Result {
/// use nixvm_test::{Events, machine::MachineOptions, template::{Moment, Pool}};
/// let pool = Pool::new()?;
/// let options = || MachineOptions::new("server");
/// let first = pool.machine(&vm, options(), &Moment::Booted, &Events::none()).await?;
/// pool.prepare(&vm, options(), &Moment::Booted, &Events::none());
/// first.login("alice", "test").await?;
/// let next = pool.machine(&vm, options(), &Moment::Booted, &Events::none()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    waiting: Mutex<HashMap<Key, Vec<Starting>>>,
    /// So many wait at most.
    most: usize,
    /// Gone only when this is dropped.
    runtime: Option<Runtime>,
}

type Starting = JoinHandle<Option<Waiting>>;

#[derive(Debug)]
struct Waiting {
    machine: Machine,
    events: Held,
}

impl Pool {
    /// A pool in which as many clones wait as this host has processors, at most.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the system has no more threads.
    pub fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("pool").enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("start a runtime", &error))?;
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { waiting: Mutex::default(), most, runtime: Some(runtime) })
    }

    /// Starts a clone for one who will ask for the same. Only where there is a template already: nothing is booted
    /// ahead. What goes wrong is said to the one who asks.
    pub fn prepare(&self, vm: &BuiltVm, options: MachineOptions, moment: &Moment, events: &Events) {
        let mut waiting = self.waiting();
        let asked = moment.asked(vm, &options);
        let Some(runtime) = &self.runtime else { return };
        if waiting.values().map(Vec::len).sum::<usize>() >= self.most || options.keeps_state() {
            return;
        }
        let (vm, moment, events) = (vm.clone(), moment.clone(), Held::new(events));
        let started = async move {
            let options = options.events(events.events());
            let machine = started(&vm, options, &moment).await;
            machine.map(|machine| Waiting { machine, events })
        };
        waiting.entry(asked).or_default().push(runtime.spawn(started));
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
        let prepared = self.waiting().get_mut(&moment.asked(vm, &options)).and_then(Vec::pop);
        if let Some(prepared) = prepared
            && let Ok(Some(Waiting { machine, events })) = prepared.await
            && machine.qemu().exit().borrow().is_none()
        {
            events.let_go();
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

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Vec<Starting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

async fn started(vm: &BuiltVm, options: MachineOptions, moment: &Moment) -> Option<Machine> {
    let choice = accelerator::choose(vm, &Events::none()).await.ok()?;
    let key = moment.key(vm, options.hardware(), choice.accelerator);
    let template = Store::open().ok()?.whole(&key).ok()??;
    match Machine::resume(vm, options, template).await {
        Ok(machine) => Some(machine),
        Err(error) => {
            tracing::debug!(%error, "no clone waits");
            None
        }
    }
}

/// What a machine says before somebody has it, kept until then.
#[derive(Debug, Clone)]
struct Held {
    kept: Arc<Mutex<Option<Vec<Event>>>>,
    to: Events,
}

impl Held {
    fn new(to: &Events) -> Self {
        Self { kept: Arc::new(Mutex::new(Some(Vec::new()))), to: to.clone() }
    }

    fn events(&self) -> Events {
        let Self { kept, to } = self.clone();
        Events::new(move |event| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *kept {
                Some(kept) => kept.push(event.clone()),
                None => to.send(event.clone()),
            }
        })
    }

    fn let_go(self) {
        // Held until all are sent: none of those to come gets ahead.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for event in kept.take().into_iter().flatten() {
            self.to.send(event);
        }
    }
}
