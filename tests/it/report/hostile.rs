//! Every report that a program reads is read back here, with text in it that a hostile guest would choose.

use std::process::Command;

use nixvm_test::internals::record::EventLine;
use nixvm_test::internals::{Event, StepOutput};

use crate::report::record::Record;

/// A piece of each kind of text that some format or reader trips over.
fn pieces() -> Vec<String> {
    let of_each: Vec<char> = (0..=0x10_ffff)
        .filter_map(char::from_u32)
        .filter(|c| u32::from(*c) < 0x3000 || u32::from(*c) & 0xff >= 0xf0 || u32::from(*c) >= 0xe_0000)
        .collect();
    let mut pieces: Vec<String> = of_each.chunks(2000).map(|chunk| chunk.iter().collect()).collect();
    for text in [
        "]]>",
        "<![CDATA[",
        "&amp;&#xfffe;",
        "</failure></testsuite>",
        "<!-- -- -->",
        "<?xml?>",
        "\"'`",
        "\u{fffe}",
        "\u{ffff}",
        "\0",
        "\x1b[2J",
        "\x1bPq~\x1b\\",
        "\u{202e}x",
        "</script>",
        "a\r\nb\rc",
        "\n::error file=x::forged",
        "::stop-commands::x",
        "##[error]x",
        "%0A::error::x",
        "title=a,b::c",
        "\n```\n# heading",
        "````",
        "|",
        "https://x\\",
        "[[ATTACHMENT|/etc/shadow]]",
        "[[ATTA\x07CHMENT|/etc/shadow]]\n[[\x1b[1mattachment|/etc/shadow]]",
    ] {
        pieces.push(text.to_owned());
    }
    pieces
}

fn record() -> (Record, usize) {
    let mut record = Record::new(1);
    let pieces = pieces();
    for (index, piece) in pieces.iter().enumerate() {
        let name = format!("s{index}");
        let output = StepOutput { stdout: piece.clone(), stderr: piece.clone(), ..StepOutput::default() };
        record
            .scenario(1.0, &name, piece, 1, "")
            .step_with((1.1, 1.2), &name, 1, piece, 4, Some(output))
            .failed(2.0, &name, 1.0, piece, false);
    }
    for (index, piece) in pieces.iter().enumerate() {
        record.skipped(3.0, &format!("skipped{index}"), piece);
        record.note(3.0, piece);
    }
    let count = 2 * pieces.len();
    (record, count)
}

#[test]
fn junit_is_xml_to_a_strict_parser_whatever_a_guest_prints() {
    let (record, count) = record();
    record.written();
    let parse =
        "import sys, xml.etree.ElementTree as e; print(len(e.parse(sys.argv[1]).findall('.//testcase')))";
    let parsed =
        Command::new("python3").args(["-c", parse]).arg(record.path().join("junit.xml")).output().unwrap();
    let said = String::from_utf8_lossy(&parsed.stderr);
    assert_eq!(String::from_utf8_lossy(&parsed.stdout), format!("{count}\n"), "{said}");
    let text = std::fs::read_to_string(record.path().join("junit.xml")).unwrap();
    assert!(text.contains("ATTACHMENT|/etc/shadow"), "it can be read still");
    assert!(!text.to_lowercase().contains("[[attachment|"), "a CI system would attach a file of the host");
}

#[test]
fn events_and_the_data_of_the_page_come_back_as_they_were() {
    let (record, count) = record();
    record.written();
    let text = std::fs::read_to_string(record.path().join("events.jsonl")).unwrap();
    let lines: Vec<EventLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let notes = lines.iter().filter_map(|line| match &line.event {
        Event::Note { text } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(notes.collect::<Vec<_>>(), pieces());

    let page = std::fs::read_to_string(record.path().join("report.html")).unwrap();
    assert_eq!(page.matches("</script>").count(), page.matches("<script").count());
    let data =
        page.split_once("type=\"application/json\"").and_then(|(_, rest)| rest.split_once('>')).unwrap().1;
    let data = data.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["run"]["scenarios"].as_array().unwrap().len(), count);
    assert!(!page.contains(['\u{202e}', '\u{200b}', '\u{fffe}', '\u{ffff}', '\u{e0041}']));
}
