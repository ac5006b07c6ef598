use super::*;
use crate::hang::HANG as LIMIT;
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;

/// The other end of the line.
struct FakeQemu {
    requests: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl FakeQemu {
    async fn says(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.unwrap();
        self.writer.write_all(b"\r\n").await.unwrap();
    }

    /// Receives the next request: its command, its id and its arguments.
    async fn hears(&mut self) -> (String, u64, Value) {
        let line = self.requests.next_line().await.unwrap().unwrap();
        let request: Value = serde_json::from_str(&line).unwrap();
        let command = request["execute"].as_str().unwrap().to_owned();
        (command, request["id"].as_u64().unwrap(), request["arguments"].clone())
    }
}

/// Returns a connection past its greeting.
async fn connected() -> (Qmp, FakeQemu) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(theirs);
    let mut qemu = FakeQemu { requests: BufReader::new(reader).lines(), writer };
    let answering = async {
        qemu.says(GREETING).await;
        let (command, id, _) = qemu.hears().await;
        assert_eq!(command, "qmp_capabilities");
        qemu.says(&format!(r#"{{"return": {{}}, "id": {id}}}"#)).await;
    };
    let (qmp, ()) = tokio::join!(Qmp::connect(ours, LIMIT), answering);
    (qmp.unwrap(), qemu)
}

#[tokio::test]
async fn answers_find_their_command_whatever_their_order() {
    let (qmp, mut qemu) = connected().await;
    let answering = async {
        let (_, first, arguments) = qemu.hears().await;
        assert_eq!(arguments, json!({"a": "x\ny"}));
        let (_, second, arguments) = qemu.hears().await;
        assert_eq!(arguments, Value::Null);
        qemu.says(&format!(r#"{{"id": {second}, "return": "second"}}"#)).await;
        qemu.says(&format!(r#"{{"id": {first}, "return": null}}"#)).await;
    };
    let (first, second, ()) = tokio::join!(
        qmp.execute("one", Some(json!({"a": "x\ny"})), LIMIT),
        qmp.execute("two", None, LIMIT),
        answering
    );
    assert_eq!(first.unwrap(), Value::Null);
    assert_eq!(second.unwrap(), "second");
}

#[tokio::test]
async fn a_refusal_has_qemus_class_and_words() {
    let (qmp, mut qemu) = connected().await;
    let answering = async {
        let (_, id, _) = qemu.hears().await;
        qemu.says(&format!(
            r#"{{"id": {id}, "error": {{"class": "CommandNotFound", "desc": "The command \u001b[2Jx has not been found"}}}}"#
        ))
        .await;
    };
    let (refused, ()) = tokio::join!(qmp.execute("x", None, LIMIT), answering);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Qmp);
    assert_eq!(error.summary(), "QEMU refused x: CommandNotFound: The command x has not been found");
}

#[tokio::test]
async fn junk_and_torn_and_endless_lines_do_not_break_the_connection() {
    let (qmp, mut qemu) = connected().await;
    let answering = async {
        qemu.says("not json at all").await;
        qemu.says(r#"{"return": "for no request", "id": 4711}"#).await;
        qemu.says(r#"["a", "list"]"#).await;
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            qemu.writer.write_all(&chunk).await.unwrap();
        }
        qemu.says("").await;
        let (_, id, _) = qemu.hears().await;
        for byte in format!("{{\"id\": {id}, \"return\": \"whole\"}}\n").bytes() {
            qemu.writer.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(qmp.execute("x", None, LIMIT), answering);
    assert_eq!(answer.unwrap(), "whole");
}

#[tokio::test(start_paused = true)]
async fn silence_runs_into_the_limit_and_a_late_answer_harms_nobody() {
    let (qmp, mut qemu) = connected().await;
    let error = qmp.execute("slow", None, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(qmp.line.pending().waiting.is_empty(), "nothing is kept for it");
    let (_, late, _) = qemu.hears().await;
    qemu.says(&format!(r#"{{"id": {late}, "return": "late"}}"#)).await;
    let answering = async {
        let (_, id, _) = qemu.hears().await;
        qemu.says(&format!(r#"{{"id": {id}, "return": "in time"}}"#)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute("x", None, LIMIT), answering);
    assert_eq!(answer.unwrap(), "in time");
}

#[tokio::test]
async fn the_end_of_qemu_fails_what_waits_and_what_comes_later() {
    let (qmp, mut qemu) = connected().await;
    let ending = async move {
        qemu.hears().await;
        drop(qemu);
    };
    let (waiting, ()) = tokio::join!(qmp.execute("x", None, LIMIT), ending);
    assert_eq!(waiting.unwrap_err().kind(), ErrorKind::QemuGone);
    assert_eq!(qmp.execute("y", None, LIMIT).await.unwrap_err().kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn an_end_before_the_greeting_is_named() {
    let (ours, theirs) = tokio::io::duplex(1024);
    drop(theirs);
    assert_eq!(Qmp::connect(ours, LIMIT).await.unwrap_err().kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn events_reach_every_receiver() {
    let (qmp, mut qemu) = connected().await;
    let (mut one, mut two) = (qmp.events(), qmp.events());
    qemu.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#).await;
    qemu.says(r#"{"event": "SHUTDOWN", "data": {"guest": true}}"#).await;
    for events in [&mut one, &mut two] {
        assert_eq!(events.recv().await.unwrap().name, "STOP");
        let shutdown = events.recv().await.unwrap();
        assert_eq!((shutdown.name.as_str(), &shutdown.data["guest"]), ("SHUTDOWN", &Value::Bool(true)));
    }
}

#[tokio::test]
async fn an_event_that_came_before_the_wait_is_found_and_each_only_once() {
    let (qmp, mut qemu) = connected().await;
    qemu.says(r#"{"event": "RESUME"}"#).await;
    qemu.says(r#"{"event": "STOP", "data": {"n": 1}}"#).await;
    qemu.says(r#"{"event": "STOP", "data": {"n": 2}}"#).await;
    let stop = |event: &QmpEvent| event.name == "STOP";
    for number in [1, 2] {
        let event = qmp.wait_for_event("STOP", stop, LIMIT).await.unwrap();
        assert_eq!(event.data["n"], number);
    }
    qemu.says(r#"{"event": "RESET"}"#).await;
    let error = qmp.wait_for_event("STOP", stop, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("RESET"), "{error}");
    assert!(!error.to_string().contains("RESUME"), "passed over: {error}");
}

#[tokio::test]
async fn a_wait_for_an_event_ends_with_qemu() {
    let (qmp, mut qemu) = connected().await;
    let ending = async {
        qemu.says(r#"{"event": "SHUTDOWN"}"#).await;
        drop(qemu);
    };
    let (gone, ()) = tokio::join!(
        qmp.wait_for_event("STOP", |event| event.name == "STOP", Duration::from_secs(3600)),
        ending
    );
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::QemuGone);
    let last = qmp.wait_for_event("SHUTDOWN", |event| event.name == "SHUTDOWN", LIMIT).await.unwrap();
    assert_eq!(last.name, "SHUTDOWN", "its last words are still there");
}

#[tokio::test]
async fn events_that_nobody_waits_for_take_no_more_room_than_is_given_to_them() {
    let (qmp, mut qemu) = connected().await;
    for number in 0..EVENTS_KEPT + 10 {
        qemu.says(&format!(r#"{{"event": "TICK", "data": {number}}}"#)).await;
    }
    let last = |event: &QmpEvent| event.data == EVENTS_KEPT + 9;
    qmp.wait_for_event("the last", last, LIMIT).await.unwrap();
    let error = qmp.wait_for_event("more", |_| true, Duration::from_millis(10)).await.unwrap_err();
    assert!(error.to_string().contains("10 events"), "{error}");
}
