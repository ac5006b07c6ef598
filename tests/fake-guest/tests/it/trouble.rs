//! What a guest and its line can do to whoever drives them.

use std::time::{Duration, Instant};

use nixvm_fake_guest::{FakeVm, installed};

use crate::support::{ALICE, HANG, LOGIN, logged_in, start};

#[test]
fn a_chunk_of_one_byte_tears_every_escape() {
    let (_line, mut typist) = logged_in(&FakeVm::new().chunk("1").setting("delay", "50us"));
    // A reader that is late gets several at once.
    assert!(typist.reads.iter().filter(|read| **read == 1).count() > 20);
    assert_eq!(typist.run("echo hi"), "hi\r\n");
}

#[test]
fn random_chunks_lose_nothing() {
    let (_line, mut typist) = logged_in(&FakeVm::new().chunk("random").setting("seed", "7"));
    let numbers: String = (1..=3000).map(|n| format!("{n}\r\n")).collect();
    assert_eq!(typist.run("seq 3000"), numbers);
}

#[test]
fn kernel_messages_stand_inside_the_prompt() {
    let (_line, mut typist) = start(&FakeVm::new().kernel_noise("bytes:5").setting("noise-from", "start"));
    let boot = typist.until("] random: crng reseeded on system resumption\r\nlogin");
    assert!(boot.contains("random: crng"), "{boot:?}");
}

#[test]
fn kernel_messages_come_by_the_clock_too() {
    let (_line, mut typist) = start(&FakeVm::new().kernel_noise("every:3ms"));
    typist.until(LOGIN);
    for _ in 0..10 {
        typist.until("crng reseeded");
    }
}

#[test]
fn a_kernel_messages_time_agrees_with_proc_uptime() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    let text = typist.run("cat /proc/uptime; fake kernel hello from the kernel; cat /proc/uptime");
    let times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim_start_matches(['[', ' ']).split([' ', ']']).next()?.parse().ok())
        .collect();
    assert!(text.contains("] hello from the kernel\r\n"), "{text:?}");
    assert!(times.len() == 3 && times[0] <= times[1] && times[1] <= times[2] + 0.01, "{text:?}");
}

#[test]
fn a_kernel_can_name_its_caller() {
    let (_line, mut typist) = start(&FakeVm::new().setting("caller-id", "yes"));
    typist.until("[    0.000000][    T1] Linux version");
}

#[test]
fn a_panic_during_the_boot_is_the_last_thing_said() {
    let (_line, mut typist) = start(&FakeVm::new().setting("panic", "services"));
    typist.until("Kernel panic - not syncing: Attempted to kill init!");
    typist.until("---[ end Kernel panic");
    typist.until("\r\n");
    assert_eq!(typist.within(Duration::from_millis(100)), "");
}

#[test]
fn a_panic_stops_the_command_that_runs() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    typist.keys("fake panic sysrq triggered crash; echo never\r");
    typist.until("Kernel panic - not syncing: sysrq triggered crash\r\n");
    typist.until("---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n");
    typist.keys("\r");
    assert_eq!(typist.within(Duration::from_millis(100)), "", "no echo from a dead guest");
}

#[test]
fn a_panicking_guest_reboots_where_its_kernel_line_says_so() {
    let (_line, mut typist) = logged_in(&FakeVm::new().kernel_params("panic=-1"));
    typist.keys("fake panic\r");
    typist.until("---[ end Kernel panic");
    typist.until("SeaBIOS");
    typist.log_in();
}

#[test]
fn a_guest_stalls_at_the_second_command() {
    let (_line, mut typist) = logged_in(&FakeVm::new().setting("stall", "command:2"));
    assert_eq!(typist.run("echo one"), "one\r\n");
    typist.keys("sleep 0.05; echo two\r");
    assert!(!typist.within(Duration::from_millis(200)).contains("\ntwo"));
}

#[test]
fn qemu_dies_in_the_middle_of_a_command() {
    let vm = FakeVm::new().setting("die", "command+20ms").setting("die-text", "qemu: out of memory");
    let (mut line, mut typist) = logged_in(&vm.setting("die-status", "9"));
    typist.keys("sleep 60\r");
    assert_eq!(line.wait().unwrap().code(), Some(9));
    assert_eq!(line.stderr().unwrap(), "qemu: out of memory\n");
}

#[test]
fn qemu_dies_before_it_says_anything() {
    let (mut line, mut typist) = start(&FakeVm::new().setting("die", "start"));
    assert_eq!(line.wait().unwrap().code(), Some(1));
    assert_eq!(typist.within(Duration::from_millis(50)), "");
}

#[test]
fn a_guest_without_getty_goes_silent_after_its_boot() {
    let (_line, mut typist) = start(&FakeVm::new().setting("boot", "no-getty"));
    typist.until("Multi-User System\x1b[0m.\r\n");
    assert_eq!(typist.within(Duration::from_millis(100)), "");
}

#[test]
fn poweroff_can_be_ignored() {
    let vm = FakeVm::new().setting("sudo", "free").setting("ignore-poweroff", "yes");
    let (_line, mut typist) = logged_in(&vm);
    assert_eq!(typist.run("sudo poweroff"), "");
    assert_eq!(typist.run("echo still here"), "still here\r\n");
}

#[test]
fn a_shutdown_can_hang() {
    let vm = FakeVm::new().setting("sudo", "free").setting("hang-at-shutdown", "yes");
    let (_line, mut typist) = logged_in(&vm);
    typist.keys("sudo poweroff\r");
    typist.until("A stop job is running for User Manager");
    assert!(!typist.within(Duration::from_millis(100)).contains("reboot:"));
}

#[test]
fn a_reboot_comes_back_to_the_login_prompt() {
    let (_line, mut typist) = logged_in(&FakeVm::new().setting("sudo", "free"));
    typist.keys("sudo reboot\r");
    typist.until("reboot: Restarting system\r\n");
    typist.until("SeaBIOS");
    typist.log_in();
}

#[test]
fn early_logins_can_be_refused() {
    let (_line, mut typist) = start(&FakeVm::new().setting("refuse-logins", "1"));
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("Password: ");
    typist.keys("test\r");
    typist.until("System is booting up. Unprivileged users are not permitted to log in yet.");
    typist.log_in();
}

#[test]
fn an_expired_password_must_be_changed() {
    let (_line, mut typist) = start(&FakeVm::new().setting("user", "alice:test:expired"));
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("Password: ");
    typist.keys("test\r");
    typist.until("You are required to change your password immediately (administrator enforced).\r\n");
    for (question, answer) in [("Current", "test\r"), ("New", "better\r"), ("Retype new", "better\r")] {
        typist.until(&format!("{question} password: "));
        typist.keys(answer);
    }
    typist.until(ALICE);
}

#[test]
fn a_huge_message_of_the_day_is_printed_whole() {
    let (_line, mut typist) = start(&FakeVm::new().setting("motd", "bytes:300000"));
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("Password: ");
    typist.keys("test\r");
    assert!(typist.until(ALICE).len() > 300_000);
}

#[test]
fn the_terminals_keys_send_their_signals() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    // Each says when it has the terminal.
    typist.keys("sh -c 'echo begun; exec sleep 1000'\r");
    typist.until("begun\r\n");
    typist.keys("\x03");
    assert_eq!(typist.until(ALICE), format!("^C\r\n{ALICE}"));
    assert_eq!(typist.run("echo $?"), "130\r\n");
    // It starts no program: a shell that waits for a child which is stopped before its exec (vfork) can't be stopped itself.
    typist.keys("sh -c 'trap \"echo goes on\" CONT; echo begun; while :; do :; done'\r");
    typist.until("begun\r\n");
    typist.keys("\x1a");
    assert!(typist.until(ALICE).contains("Stopped"));
    typist.keys("fg\r");
    typist.until("\ngoes on\r\n");
    typist.keys("\x1c");
    assert!(typist.until(ALICE).contains("Quit"));
    assert_eq!(typist.run("echo to the terminal > /dev/tty"), "to the terminal\r\n");
}

#[test]
fn other_prompts_and_shells_are_real() {
    for (shell, prompt) in [
        ("bash", "λ "),
        ("bash", "line one\\nline two> "),
        ("bash", "end>"),
        ("dash", "$$ "),
        ("zsh", "% "),
        ("fish", "> "),
    ] {
        if !installed(shell) {
            eprintln!("skipped: {shell} is not installed here");
            continue;
        }
        let vm = FakeVm::new().user("alice", "").setting("shell", shell).setting("ps1", prompt);
        let (_line, mut typist) = start(&vm);
        typist.until(LOGIN);
        typist.keys("alice\r");
        // Words that every shell understands alike. One that is not there yet may throw away what is typed.
        let begun = Instant::now();
        loop {
            typist.keys("expr 6 '*' 7\r");
            if typist.within(Duration::from_secs(1)).contains("42\r\n") {
                break;
            }
            assert!(begun.elapsed() < HANG, "{shell} with {prompt:?} does not answer");
        }
    }
}

#[test]
fn lolcat_colours_every_letter_on_a_terminal_only() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    let coloured = typist.run("cowsay hello | lolcat");
    assert!(!coloured.contains("hello") && coloured.contains("mh\x1b[39m"), "{coloured:?}");
    let plain = typist.run("cowsay hello | lolcat | cat");
    assert!(plain.starts_with(" _______\r\n< hello >\r\n -------\r\n"), "{plain:?}");
}

#[test]
fn nothing_survives_qemus_end_by_kill() {
    let (line, mut typist) = logged_in(&FakeVm::new());
    let mark = format!("{}", 100_000 + std::process::id());
    typist.run(&format!("nohup setsid sleep {mark} > /dev/null 2>&1 &"));
    typist.run(&format!("(setsid sleep {mark} &)"));
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok())
            .filter(|line| line.contains(&mark))
            .count()
    };
    let wait_for = |count: usize| {
        let start = Instant::now();
        while running() != count {
            assert!(start.elapsed() < HANG, "{} of {count} run", running());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(2);
    let pid = rustix::process::Pid::from_raw(line.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for(0);
}
