//! The parts of a scenario: named, repeated, watched over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::internals::Event;
use nixvm_test::machine::start_all;
use nixvm_test::{Error, ErrorKind};

/// What was said of the steps.
fn steps(fake: &Fake) -> Vec<String> {
    let events = fake.events.lock().unwrap();
    let texts = events.iter().filter_map(|event| match event {
        Event::StepStarted { text, .. } => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::Other, what)
}

#[tokio::test]
async fn what_is_logged_stands_among_the_steps() {
    let fake = Fake::boot(FakeVm::new()).await;
    fake.machine.log("now comes the hard part");
    assert!(steps(&fake).contains(&"now comes the hard part".to_owned()));
}

#[tokio::test]
async fn the_error_of_a_part_names_the_parts_it_came_from() {
    let fake = Fake::boot(FakeVm::new()).await;
    let inner = fake.machine.nested("inner", async { Err::<(), _>(wrong("it broke")) });
    let error = fake.machine.subtest("outer", inner).await.unwrap_err().to_string();
    for words in ["it broke", "inner", "outer"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let steps = steps(&fake);
    for words in ["subtest: outer", "subtest: inner"] {
        assert!(steps.iter().any(|step| step == words), "{words}: {steps:?}");
    }
    assert!(steps.iter().any(|step| step.starts_with("subtest failed after ")), "{steps:?}");
    assert_eq!(fake.machine.subtest("fine", async { Ok(7) }).await.unwrap(), 7);
}

#[tokio::test]
async fn a_retry_ends_with_what_it_found_with_an_error_or_with_its_limit() {
    let fake = Fake::boot(FakeVm::new()).await;
    let tries = AtomicUsize::new(0);
    let third = || async { Ok((tries.fetch_add(1, Ordering::Relaxed) == 2).then_some("found")) };
    assert_eq!(fake.machine.retry("it is there", third).await.unwrap(), "found");
    let fails = || async { Err::<Option<()>, _>(wrong("no use")) };
    assert!(fake.machine.retry("it is there", fails).await.unwrap_err().to_string().contains("no use"));
    let hurried = fake.machine.within(Duration::from_millis(50));
    let error = hurried.retry("pigs fly", || async { Ok(None::<()>) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("pigs fly"), "{error}");
}

#[tokio::test]
async fn a_condition_ends_the_part_it_guards_when_it_breaks() {
    let fake = Fake::boot(FakeVm::new()).await;
    let looks = AtomicUsize::new(0);
    let breaks_at = |look| {
        looks.store(0, Ordering::Relaxed);
        let looks = &looks;
        move || async move {
            if looks.fetch_add(1, Ordering::Relaxed) == look { Err(wrong("it went down")) } else { Ok(()) }
        }
    };
    let forever = std::future::pending::<nixvm_test::Result<()>>();
    let error = fake.machine.polling_condition("it is up", breaks_at(2), forever).await.unwrap_err();
    assert!(error.to_string().contains("it went down") && error.to_string().contains("it is up"), "{error}");
    // Before the part, which is then not begun, and after it.
    let begun = AtomicUsize::new(0);
    let part = async { Ok(begun.fetch_add(1, Ordering::Relaxed)) };
    assert!(fake.machine.polling_condition("it is up", breaks_at(0), part).await.is_err());
    assert_eq!(begun.load(Ordering::Relaxed), 0);
    assert!(fake.machine.polling_condition("it is up", breaks_at(1), async { Ok(()) }).await.is_err());
    assert_eq!(fake.machine.polling_condition("it is up", breaks_at(9), async { Ok(7) }).await.unwrap(), 7);
}

#[tokio::test]
async fn machines_that_are_off_are_started_all_at_once() {
    let (one, other) = tokio::join!(Fake::boot(FakeVm::new()), Fake::boot(FakeVm::new()));
    one.machine.crash().await;
    other.machine.crash().await;
    start_all([&one.machine, &other.machine]).await.unwrap();
    one.alice().await.succeed("true").await.unwrap();
    other.alice().await.succeed("true").await.unwrap();
}
