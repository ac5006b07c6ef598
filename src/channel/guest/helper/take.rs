//! Handles the frames from the host.

use crate::awaken::awaken;
use crate::command::{INPUT_WINDOW, Phase, Request};
use crate::frame;
use crate::serve::Server;

impl Server {
    /// Handles a frame. Returns whether the host follows the protocol.
    pub fn take(&mut self, kind: u8, id: u32, content: &[u8]) -> bool {
        match kind {
            b'T' => self.take_text(id, content),
            b'R' => self.take_run(id, content),
            b'I' => return self.take_input(id, content),
            b'K' => return self.take_kill(id, content),
            b'C' => {
                awaken(content);
                self.mark_as_copies();
            }
            b'Q' => self.take_question(id, content),
            b'M' => self.follow_kernel(content),
            b'U' => self.compare_clocks(content),
            b'P' => {
                self.tell_kernel();
                frame::append(&mut self.out, b'P', id, content);
            }
            // From a later version.
            _ => {}
        }
        true
    }

    fn take_text(&mut self, id: u32, content: &[u8]) {
        if let Some(at) = self.commands.find_or_add(id)
            && let Some(command) = &mut self.commands.0[at]
            && command.phase == Phase::Text
        {
            command.add(content);
        }
    }

    fn take_run(&mut self, id: u32, content: &[u8]) {
        let Some(at) = self.commands.find_or_add(id) else {
            return frame::append(&mut self.out, b'F', id, b"256 commands already wait or run");
        };
        let Some(command) = &mut self.commands.0[at] else { return };
        if command.phase != Phase::Text {
            return;
        }
        command.request = Request::parse(content);
        if let Err(why) = command.make_ready() {
            self.refuse(at, why);
        }
    }

    fn take_input(&mut self, id: u32, content: &[u8]) -> bool {
        let Some(at) = self.commands.find(id) else { return true };
        let Some(command) = &mut self.commands.0[at] else { return true };
        if content.is_empty() {
            command.input_ended = true;
        } else if command.input.len() + content.len() > INPUT_WINDOW {
            return false;
        } else {
            command.input.push(content);
        }
        if command.phase == Phase::Running
            && let Some(worker) = self.worker_of(at)
        {
            self.write_input(worker);
        }
        true
    }

    fn take_kill(&mut self, id: u32, content: &[u8]) -> bool {
        let Some(signal) = frame::number(content).filter(|signal| (1..=64).contains(signal)) else {
            return false;
        };
        let Some(at) = self.commands.find(id) else { return true };
        match self.commands.0[at].as_ref().map(|command| command.phase) {
            Some(Phase::Running) => {
                if let Some(command) = &mut self.commands.0[at] {
                    command.signalled = true;
                }
                if let Some(worker) = self.worker_of(at)
                    && let Some(worker) = &self.workers[worker]
                {
                    worker.signal(signal as i32);
                }
            }
            // It never became a process, so this reports it as killed at its first instruction.
            Some(_) => self.answer(at, 128 + signal),
            None => {}
        }
        true
    }
}
