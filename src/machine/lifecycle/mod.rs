//! Ends a machine and boots it again, on the same disk and under the same handle.

pub(crate) mod alone;
pub(crate) mod boot;
pub(crate) mod boot_times;
pub(crate) mod frozen;
pub(crate) mod halted;
pub(crate) mod kept;
pub(crate) mod network_snapshot;
pub(crate) mod options;
pub(crate) mod power;
pub(crate) mod replayed;
pub(crate) mod saved;
pub(crate) mod saved_together;
pub(crate) mod snapshot;
pub(crate) mod steps;
pub(crate) mod trouble;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::console::Watch;
use crate::machine::lifecycle::boot::Boot;
use crate::machine::lifecycle::trouble::AskedToGoDown;
use crate::machine::session::shell_line::Ended;
use crate::machine::{Life, Line, Machine};
use crate::mutex::lock;
use crate::qemu::set_aside;
use crate::{Error, ErrorKind, Result};

/// The limit for an answer that QEMU gives at once.
const QMP: Duration = Duration::from_secs(10);

/// # Start and restart
impl Machine {
    /// Kills the machine, as a power cut would: data that the guest had not written to its disk is lost.
    /// [`Machine::start`] boots it again from the same disk. This tests how its file systems and databases handle the
    /// loss.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.crash().await;
    /// machine.start().await?;
    /// # Ok(()) }
    /// ```
    pub async fn crash(&self) {
        self.life().pull_the_plug("crashed").await;
    }

    /// Starts a machine that is off and waits for its login prompt. It uses the same disk, with a new console and a new
    /// QEMU, so earlier sessions have ended. Does nothing if the machine is running.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] and [`ErrorKind::Io`] when QEMU can't be started; [`ErrorKind::KernelPanic`],
    /// [`ErrorKind::EmergencyMode`], [`ErrorKind::BootLoop`] and [`ErrorKind::QemuGone`] at once when they happen;
    /// [`ErrorKind::BootQuestion`] when the boot asks for something that it was not given; [`ErrorKind::NoLoginPrompt`]
    /// when the guest came up without a login prompt on ttyS0, [`ErrorKind::BootStalled`] when it stopped printing
    /// before, [`ErrorKind::Timeout`] when it was still printing at the limit.
    #[tracked]
    pub async fn start(&self) -> Result {
        let _changing = self.shared.changing.lock().await;
        let old = self.life();
        if old.qemu.exit().borrow().is_none() {
            return Ok(());
        }
        old.lose("the machine was started again").await;
        self.note_life(&old).await;
        old.qemu.clear_away().await?;
        if self.shared.snapshots.load(Ordering::Relaxed) > 0 {
            set_aside(&self.shared.run_dir).await?;
        } else {
            // A snapshot may need the disks that were plugged in. Without one, their images are of no use any more.
            for image in lock(&self.shared.history).unplugged() {
                let _ = std::fs::remove_file(image);
            }
        }
        let transcript = self.next_transcript();
        let vm = lock(&self.shared.history).starts().cloned();
        let begun = self.shared.plan.begin(&old.qemu, &self.shared.run_dir, transcript, vm.as_ref()).await?;
        *lock(&self.shared.life) = Arc::new(begun);
        lock(&self.shared.history).booted();
        Ok(())
    }

    /// Powers the machine off and starts it: its kernel comes from another run script than before.
    async fn power_cycle(&self) -> Result {
        let before = self.life();
        match before.channels.root() {
            Some(_) => self.shutdown().await?,
            None => self.power_off().await?,
        }
        self.start().await?;
        // As after a reboot in the same QEMU.
        self.life().channels.remember_from(&before.channels);
        Ok(())
    }

    /// Returns the path of the transcript of its next start.
    pub(crate) fn next_transcript(&self) -> PathBuf {
        let begun = self.shared.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.run_dir.transcript().with_file_name(format!("transcript.{begun}"))
    }

    /// Reboots the machine cleanly and waits for its login prompt. Sessions end; the machine object, its console and
    /// its QEMU stay the same.
    ///
    /// The reboot is requested by `systemctl reboot` as root if the control channel is open, by `sudo reboot` in the
    /// open session (`reboot` for root), and by Ctrl-Alt-Delete without a login on the console.
    ///
    /// After a [`Machine::switch`] of a machine without a boot loader, the machine is powered off, and the run script of
    /// the new system starts it again on the same disk, with a new console and a new QEMU.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`], with the output of `sudo`, when the reboot is refused: the machine and the session
    /// continue. [`ErrorKind::Timeout`] when it does not shut down within the limit ([`Machine::within`]; the default
    /// is that of [`Machine::power_off`]), those of [`Machine::start`] when it does not come up, and
    /// [`ErrorKind::QemuGone`] when its QEMU ends on a reboot (`-no-reboot`).
    #[tracked]
    pub async fn reboot(&self) -> Result {
        let is_on = self.life().qemu.exit().borrow().is_none();
        if is_on && lock(&self.shared.history).needs_another_script() {
            return self.power_cycle().await;
        }
        let _changing = self.shared.changing.lock().await;
        let life = self.life();
        let _asked = AskedToGoDown(Arc::clone(&life));
        self.note_trouble_of_before().await;
        let mut line = life.line.lock().await;
        if life.qemu.exit().borrow().is_some() {
            return Err(life.session_ended("reboot", "the machine is off").next_step("start it: `start()`"));
        }
        let _step = life.step("reboot");
        let rebooted = life.answer_on_console("reboot", self.go_down_and_up(&life, &mut line)).await;
        if rebooted.is_err() {
            life.console.set_watch(Watch::Session);
        }
        rebooted?;
        *line = Line::AtLogin;
        lock(&self.shared.history).booted();
        Ok(())
    }

    /// Requests the reboot, and waits for the login prompt.
    async fn go_down_and_up(&self, life: &Life, line: &mut Line) -> Result {
        let mut from_qemu = life.qemu.qmp().events();
        life.qemu.came_up();
        // A panic of the old kernel still counts, and only this clears it.
        life.console.set_watch(Watch::Boot);
        let asked_at = life.console.mark();
        let started = Instant::now();
        let limit = life.time_to_go_down(self.limit);
        let mut exit = life.qemu.exit();
        let reset = async {
            loop {
                let event = tokio::select! {
                    event = from_qemu.recv() => event,
                    _ = exit.wait_for(Option::is_some) => return Ok(false),
                };
                match event {
                    Ok(event) if event.name == "RESET" => return Ok(true),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(false),
                }
            }
        };
        // The shell that was asked may never answer, or only with the login prompt of the next boot.
        let asked_and_reset = async {
            tokio::pin!(reset);
            tokio::select! {
                biased;
                reset = &mut reset => reset,
                asked = life.ask_for_reboot(line, limit) => {
                    asked?;
                    reset.await
                }
            }
        };
        let asked: Result<Result<bool>, _> = crate::stopped::timeout(limit, asked_and_reset).await;
        let reset = match asked {
            Ok(reset) => reset?,
            Err(_) => {
                return Err(life
                    .failure(ErrorKind::Timeout, "the machine did not go down for a reboot".to_owned())
                    .took(started.elapsed(), limit)
                    .next_step("check which unit delays it, or give it more time with `within`"));
            }
        };
        *line = Line::Lost("the machine was rebooted".to_owned());
        if !reset {
            return Err(life.ended_instead().await);
        }
        // The new boot must not see the old kernel's output.
        life.console.skip();
        life.events.send(crate::Event::Phase {
            machine: life.name.clone(),
            phase: "reset".to_owned(),
            at: started.elapsed(),
        });
        let plan = &self.shared.plan;
        Boot::of(life, asked_at, plan.passphrase.as_ref()).to_login_prompt(plan.limit(life.speed)).await?;
        life.qemu.came_up();
        Ok(())
    }

    /// Waits until the machine is off, for any reason inside the guest.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when it still runs after the limit ([`Machine::within`]; 5 minutes on a
    /// fast host when not given); [`ErrorKind::QemuGone`] when QEMU crashed, or when somebody else ended it.
    #[tracked]
    pub async fn wait_for_shutdown(&self) -> Result {
        let life = self.life();
        let _step = life.step("wait for shutdown");
        let limit = life.limit(self.limit.unwrap_or(crate::machine::WAIT));
        let started = Instant::now();
        let gone = life.answer("wait for shutdown", async {
            let Some(exit) = life.gone_within(limit).await else { return Ok(false) };
            // A scenario may have ended the machine itself.
            if !exit.killed {
                let summary = format!("{}: QEMU ended, and not by a shutdown of the guest", life.name);
                life.qemu.went_down(&exit, summary).await?;
            }
            Ok(true)
        });
        if gone.await? {
            life.lose("the machine was shut down").await;
            life.stopped("shut down");
            return Ok(());
        }
        Err(life
            .failure(ErrorKind::Timeout, "the machine did not shut down".to_owned())
            .took(started.elapsed(), limit))
    }
}

impl Life {
    /// Stops the guest. Returns whether it ran until now. In a replay there is none.
    pub(crate) async fn stop(&self) -> Result<bool> {
        match self.replay() {
            Some(_) => Ok(false),
            None => self.qemu.stop().await,
        }
    }

    /// Kills QEMU at once.
    pub(crate) async fn pull_the_plug(&self, how: &str) {
        // A machine can run although its console can't be used any more.
        let ran = self.qemu.exit().borrow().is_none();
        self.note_whether_log_is_told().await;
        // Killed first, because a task that waits on the console holds its lock.
        self.qemu.kill().await;
        let mut line = self.line.lock().await;
        if ran || !matches!(&*line, Line::Lost(_)) {
            *line = Line::Lost(format!("the machine was {how}"));
            self.stopped(how);
        }
    }

    /// Marks the console as unusable.
    pub(crate) async fn lose(&self, why: &str) {
        let mut line = self.line.lock().await;
        if !matches!(&*line, Line::Lost(_)) {
            *line = Line::Lost(why.to_owned());
        }
    }

    /// Requests a reboot. Returns when the request was sent.
    async fn ask_for_reboot(&self, line: &mut Line, limit: Duration) -> Result {
        if let Some(channel) = self.channels.root() {
            return self.asked_by_root(&channel, "systemctl reboot").await;
        }
        if let Line::Shell(shell) = line {
            return match shell.run_command_as_root(self, "reboot", limit).await {
                Ok((Ended::Done(collector), by)) if collector.status() != Some(0) => {
                    Err(self.refused_to(format!("{by} reboot").trim(), shell.user(), collector))
                }
                Ok((Ended::Asks { question, collector, regained }, by)) => {
                    let error =
                        self.asks_at(format!("{by} reboot").trim(), shell.user(), &question, collector);
                    if let Err(lost) = regained {
                        *line = Line::Lost(lost.summary().to_owned());
                    }
                    Err(error)
                }
                // The shell may end before it answers.
                _ => Ok(()),
            };
        }
        // systemd's ctrl-alt-del.target is reboot.target (systemd.special(7)).
        let keys: Vec<_> =
            ["ctrl", "alt", "delete"].iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qemu.qmp().execute("send-key", Some(json!({ "keys": keys })), QMP).await?;
        Ok(())
    }

    /// Returns the error for a QEMU that ended instead of rebooting.
    async fn ended_instead(&self) -> Error {
        let what = format!("{}: QEMU ended when the machine rebooted", self.name);
        let error = match self.gone_within(QMP).await {
            Some(exit) => match self.qemu.went_down(&exit, &what).await {
                Ok(_) => exit.error(what).likely_cause("the VM's QEMU options have -no-reboot"),
                Err(error) => error,
            },
            None => Error::new(ErrorKind::QemuGone, what),
        };
        error.next_step("start the machine again: `start()`")
    }
}
