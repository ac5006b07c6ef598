//! Names, repeats and supervises the parts of a scenario.

use std::future::Future;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::machine::Machine;
use crate::{Error, ErrorKind, Result};

/// The first and the longest pause between two retries.
const BETWEEN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// # Steps of a scenario
impl Machine {
    /// Writes a text to the run's log.
    pub fn log(&self, text: &str) {
        drop(self.life().step(text));
    }

    /// Runs a named part of the scenario. Its name is in the run's log, with its duration, and in its error.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.subtest("the page is served", async {
    ///     machine.succeed("curl --fail http://localhost").await
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the part.
    #[tracked]
    pub async fn subtest<T>(&self, name: &str, part: impl Future<Output = Result<T>>) -> Result<T> {
        let life = self.life();
        let started = Instant::now();
        let _step = life.step(format!("subtest: {name}"));
        let outcome = part.await;
        let how = if outcome.is_ok() { "passed" } else { "failed" };
        drop(life.step(format!("subtest {how} after {:.1} s: {name}", started.elapsed().as_secs_f64())));
        outcome.map_err(|error| error.section("in the subtest", name))
    }

    /// Does the same as [`Machine::subtest`], under the NixOS test driver's name, for a part that groups steps.
    ///
    /// # Errors
    /// Those of the part.
    #[tracked]
    pub async fn nested<T>(&self, name: &str, part: impl Future<Output = Result<T>>) -> Result<T> {
        self.subtest(name, part).await
    }

    /// Retries until `attempt` returns a value: first after 20 ms, then with longer and longer pauses, up to 250 ms.
    /// For a state inside the machine, prefer the specific `wait_for_…` methods.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit ([`Machine::within`]; 5 minutes on a fast host when not given),
    /// and an error of `attempt` at once.
    #[tracked]
    pub async fn retry<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let life = self.life();
        let _step = life.step(format!("wait until {what}"));
        let (longest, limit) =
            life.patience(BETWEEN.1, life.limit(self.limit.unwrap_or(crate::machine::WAIT)));
        let started = Instant::now();
        let mut between = BETWEEN.0.min(longest);
        let trying = async {
            loop {
                if let Some(found) = attempt().await? {
                    return Ok(found);
                }
                tokio::time::sleep(between).await;
                between = (between * 2).min(longest);
            }
        };
        match crate::stopped::timeout(limit, trying).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let what = format!("{}: timed out waiting until {what}", life.name);
                Err(Error::new(ErrorKind::Timeout, what).took(started.elapsed(), limit))
            }
        }
    }

    /// Runs a part of the scenario while a condition holds. The condition is checked before, after and twice a second
    /// during the part. If it fails, the part ends with its error.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let up = || async { machine.require_unit_state("nginx", "active").await };
    /// machine.polling_condition("nginx is up", up, async {
    ///     machine.succeed("ab -n 1000 http://localhost/").await
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the condition and of the part.
    #[tracked]
    pub async fn polling_condition<T, F>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
        part: impl Future<Output = Result<T>>,
    ) -> Result<T>
    where
        F: Future<Output = Result>,
    {
        let life = self.life();
        let _step = life.step(format!("while {what}"));
        let broken = |error: Error| error.section("the condition", what);
        condition().await.map_err(broken)?;
        let mut watch = async || -> Error {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if let Err(error) = condition().await {
                    return error;
                }
            }
        };
        let done = tokio::select! {
            done = part => done,
            error = watch() => return Err(broken(error)),
        }?;
        condition().await.map_err(broken)?;
        Ok(done)
    }
}

/// Starts machines that are off, all at once, and waits for their login prompts. The machines of a scenario are already
/// running when it begins.
///
/// # Errors
/// The error of the first machine that does not come up; see [`Machine::start`].
#[tracked]
pub async fn start_all<'a>(machines: impl IntoIterator<Item = &'a Machine>) -> Result {
    let starting = machines.into_iter().cloned().map(|machine| async move { machine.start().await });
    let mut tasks = tokio::task::JoinSet::new();
    for start in starting {
        tasks.spawn(start);
    }
    while let Some(started) = tasks.join_next().await {
        started.map_err(|error| {
            Error::new(ErrorKind::Other, format!("a start ended by itself: {error}")).caused_by(error)
        })??;
    }
    Ok(())
}
