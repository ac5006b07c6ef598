//! Tests of the console as an expectrl session.

use expectrl::process::Healthcheck;
use expectrl::{Expect, Regex};

use super::guest::{SOON, console};

#[tokio::test(flavor = "multi_thread")]
async fn an_expectrl_session_logs_in_over_the_console() {
    let (console, mut guest) = console();
    guest.says("SeaBIOS\r\n").await;
    console.expect("SeaBIOS\n", SOON).await.unwrap();
    let mirror = console.clone();
    let mut session = console.into_expectrl().unwrap();
    let user = tokio::task::spawn_blocking(move || {
        session.set_expect_timeout(Some(SOON));
        session.expect("login: ").unwrap();
        session.send_line("alice").unwrap();
        let found = session.expect(Regex(r"(\w+)@nixos")).unwrap();
        assert!(session.get_process().is_alive().unwrap());
        let tail = session.get_process().console().tail(1);
        let user = String::from_utf8(found.get(1).unwrap().to_vec()).unwrap();
        drop(session);
        (user, tail)
    });
    guest.says("nixos login: ").await;
    guest.hears("alice\n").await;
    guest.says("\r\nalice@nixos").await;
    let (user, tail) = user.await.unwrap();
    assert_eq!((user.as_str(), tail.as_str()), ("alice", "alice@nixos"));
    // The line is free again.
    guest.says("later").await;
    mirror.expect("later", SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_an_expectrl_session_is_for_the_next_wait() {
    let (console, mut guest) = console();
    for round in 0..200 {
        let mut session = console.clone().into_expectrl().unwrap();
        guest.says("a").await;
        let user = tokio::task::spawn_blocking(move || {
            session.set_expect_timeout(Some(SOON));
            session.expect("a").unwrap();
        });
        user.await.unwrap();
        let later = format!("later{round}\n");
        guest.says(&later).await;
        console.expect(later, SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_line_is_the_end_of_an_expectrl_session() {
    let (console, mut guest) = console();
    let session = console.into_expectrl().unwrap();
    guest.says("last words").await;
    drop(guest);
    let ended = tokio::task::spawn_blocking(move || {
        let mut session = session;
        session.set_expect_timeout(Some(SOON));
        session.expect("last words").unwrap();
        session.expect("never")
    });
    assert!(matches!(ended.await.unwrap(), Err(expectrl::Error::Eof)));
}
