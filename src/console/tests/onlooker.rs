//! Tests of a search that takes no turn and skips nothing.

use std::time::Duration;

use super::guest::{SOON, console, with, with_transcript};
use crate::ErrorKind;
use crate::console::{ConsoleOptions, Pattern};

#[tokio::test]
async fn what_a_wait_has_passed_over_is_found_and_stays_passed_over() {
    let (console, mut guest) = console();
    guest.says("one\r\ntwo\r\nthree\r\n").await;
    console.expect("three", SOON).await.unwrap();
    for _ in 0..2 {
        console.find("two", None, SOON).await.unwrap();
    }
    guest.says("four\r\n").await;
    assert_eq!(console.expect("four", SOON).await.unwrap().before(), "\n");
}

#[tokio::test]
async fn it_waits_beside_a_wait_and_each_finds_its_own() {
    let (console, mut guest) = console();
    let saying = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        guest.says("hello ").await;
        guest.says("world\r\n").await;
    };
    let pattern = Pattern::regex(r"o (\w+)\n").unwrap();
    let (one, two, three, ()) = tokio::join!(
        console.expect("world\n", SOON),
        console.find(&pattern, None, SOON),
        console.find("hello", None, SOON),
        saying
    );
    assert_eq!(one.unwrap().before(), "hello ");
    assert_eq!(two.unwrap().group(1).unwrap(), "world");
    three.unwrap();
}

#[tokio::test]
async fn since_a_mark_only_what_came_later_counts() {
    let (console, mut guest) = console();
    guest.says("started\r\n").await;
    console.expect("started\n", SOON).await.unwrap();
    let mark = console.mark();
    let error = console.find("started", Some(mark), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    guest.says("started again\r\n").await;
    console.find("started again", Some(mark), SOON).await.unwrap();
}

#[tokio::test]
async fn what_is_older_than_the_console_keeps_is_found_in_the_transcript() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transcript");
    let options = || ConsoleOptions { window: 4 << 10, ..ConsoleOptions::default() };
    let flood = "0123456789abcdef\r\n".repeat(4000);
    for transcript in [Some(path), None] {
        let (console, mut guest) = with(ConsoleOptions { transcript: transcript.clone(), ..options() });
        guest.says("\x1b[1mat the \x1b[0mvery start\r\n").await;
        guest.says(&flood).await;
        guest.says("the end\r\n").await;
        console.expect("the end\n", SOON).await.unwrap();
        let found = console.find("at the very start", None, Duration::from_millis(50)).await;
        assert_eq!(found.is_ok(), transcript.is_some());
        console.find("the end", None, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn its_limit_holds_while_the_guest_talks_on() {
    let (console, mut guest) = console();
    let talking = async {
        loop {
            guest.says("and so on\r\n").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = tokio::select! {
        found = console.find("never", None, Duration::from_millis(200)) => found.unwrap_err(),
        () = talking => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("and so on"), "{error}");
}

#[tokio::test]
async fn a_panic_and_the_end_of_the_line_end_it_at_once_but_not_before_what_it_looks_for() {
    let (console, mut guest) = console();
    guest.says("[    1.000000] Kernel panic - not syncing: for a test\r\n").await;
    let for_ever = Duration::from_secs(3600);
    console.find("Kernel panic", None, for_ever).await.unwrap();
    let panicked = console.find("login: ", None, for_ever).await.unwrap_err();
    assert_eq!(panicked.kind(), ErrorKind::KernelPanic);

    let (console, guest) = self::console();
    let (gone, ()) = tokio::join!(console.find("login: ", None, for_ever), async { drop(guest) });
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn the_log_is_all_there_is_as_text_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (console, mut guest) = with_transcript(&folder.path().join("transcript"));
    console.send_secret("hunter2").await.unwrap();
    guest.says("\x1b[32mok\x1b[0m\r\npassword: hunter2\r\nlast\r\n").await;
    console.expect("last\n", SOON).await.unwrap();
    assert_eq!(console.log().unwrap(), "ok\npassword: ****\nlast\n");

    let (console, mut guest) = self::console();
    guest.says("no transcript\r\n").await;
    console.expect("transcript\n", SOON).await.unwrap();
    assert_eq!(console.log().unwrap(), "no transcript\n");
}

/// Makes a path to which every write fails as on a full disk.
fn full(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("transcript");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    path
}

#[tokio::test]
async fn a_transcript_that_could_not_be_written_is_no_log_and_a_wait_in_vain_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let transcript = Some(full(folder.path()));
    let (console, mut guest) =
        with(ConsoleOptions { transcript, window: 4 << 10, ..ConsoleOptions::default() });
    guest.says("segfault at the very start\r\n").await;
    guest.says("0123456789abcdef\r\n".repeat(4000)).await;
    guest.says("the end\r\n").await;
    console.expect("the end\n", SOON).await.unwrap();
    let error = console.log().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(
        error.summary().contains("transcript is incomplete: it could not be written: No space"),
        "{error}"
    );
    // What is kept is enough to find a pattern, but not to exclude one.
    console.find("the end", None, SOON).await.unwrap();
    let error = console.find("segfault", None, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(error.summary().contains("did not come, or it is lost"), "{error}");
}

#[tokio::test]
async fn a_transcript_that_somebody_cut_off_is_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transcript");
    let (console, mut guest) = with_transcript(&path);
    guest.says("one\r\ntwo\r\n").await;
    console.expect("two\n", SOON).await.unwrap();
    assert_eq!(console.log().unwrap(), "one\ntwo\n");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
    let error = console.log().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(error.summary().contains("has 5 of 10 bytes"), "{error}");
}

#[tokio::test]
async fn what_is_not_kept_is_said_where_there_is_no_transcript_and_since_an_old_mark() {
    let (console, mut guest) = with(ConsoleOptions { window: 4 << 10, ..ConsoleOptions::default() });
    let mark = console.mark();
    guest.says("the start\r\n").await;
    guest.says("0123456789abcdef\r\n".repeat(4000)).await;
    guest.says("the end\r\n").await;
    console.expect("the end\n", SOON).await.unwrap();
    assert_eq!(console.log().unwrap_err().kind(), ErrorKind::Incomplete);
    let since = |pattern: &'static str| console.find(pattern, Some(mark), Duration::from_millis(20));
    since("the end").await.unwrap();
    assert_eq!(since("the start").await.unwrap_err().kind(), ErrorKind::Incomplete);
}

#[tokio::test]
async fn the_log_has_what_may_be_the_beginning_of_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (console, mut guest) = with_transcript(&folder.path().join("transcript"));
    console.send_secret("hunter2").await.unwrap();
    guest.says("the prey of a hunter").await;
    console.expect("hunter", SOON).await.unwrap();
    assert_eq!(console.log().unwrap(), "the prey of a hunter");
    guest.says("2\r\n").await;
    console.expect("2\n", SOON).await.unwrap();
    assert_eq!(console.log().unwrap(), "the prey of a ****\n");
}

#[tokio::test]
async fn what_stands_in_the_line_of_a_panic_is_found_wherever_a_chunk_ends() {
    let line = "[    1.000000] Kernel panic - not syncing: sysrq triggered crash\r\n";
    for cut in 1..line.len() {
        let (console, mut guest) = console();
        let pattern = Pattern::from("sysrq triggered crash");
        let looking = console.find(pattern, None, Duration::from_secs(3600));
        let speaking = async {
            guest.says(&line[..cut]).await;
            // Waits until it is visible, so that the rest is another chunk.
            while console.log().unwrap().len() < line[..cut].trim_end_matches('\r').len() {
                tokio::task::yield_now().await;
            }
            guest.says(&line[cut..]).await;
        };
        let (found, ()) = tokio::join!(looking, speaking);
        assert!(found.is_ok(), "cut at {cut}: {}", found.unwrap_err());
    }
}

/// As `-v` shows a console: a question has no line end, and a person waits for it.
#[tokio::test]
async fn a_question_is_told_of_after_a_silence_and_its_line_again_only_when_it_went_on() {
    let (console, mut guest) = console();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let events = crate::Events::new(move |event| {
        if let crate::Event::ConsoleLine { text, .. } = event {
            let _ = tell.send(text.clone());
        }
    });
    console.tell_lines("machine", &events);
    guest.says("Welcome\r\nProceed? ").await;
    assert_eq!(told.recv().await.unwrap(), "Welcome");
    assert_eq!(told.recv().await.unwrap(), "Proceed? ");
    guest.says("y\r\nPassword: ").await;
    assert_eq!(told.recv().await.unwrap(), "Proceed? y");
    assert_eq!(told.recv().await.unwrap(), "Password: ");
    guest.says("\r\nLast login\r\n").await;
    assert_eq!(told.recv().await.unwrap(), "Last login");
}

/// What is echoed slowly is shown before its line has an end.
#[tokio::test]
async fn the_first_half_of_a_password_is_not_shown() {
    let (console, mut guest) = console();
    crate::secrets::know("S3cr3tPw");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let events = crate::Events::new(move |event| {
        if let crate::Event::ConsoleLine { text, .. } = event {
            let _ = tell.send(text.clone());
        }
    });
    console.tell_lines("machine", &events);
    guest.says("key: S3cr").await;
    assert_eq!(told.recv().await.unwrap(), "key: ");
    guest.says("3tPw and ").await;
    assert_eq!(told.recv().await.unwrap(), "key: **** and ");
    let long = "0123456789abcdef".repeat(1024);
    guest.says(&format!("\r\n{long}")).await;
    assert_eq!(told.recv().await.unwrap().len(), 4 << 10);
}
