//! The page in a real browser: it opens, plays, filters, and does nothing that a guest wants.

use nixvm_test::internals::{Event, LinkFaults, LinkTraffic};
use serde_json::json;

use crate::report::browser::Browser;
use crate::report::record::{Record, boot, every_fate};

/// What the scenarios of the page are that are to be seen.
const SHOWN: &str = "[...document.querySelectorAll('.scenario')].filter(one => one.checkVisibility()).map(one => one.querySelector('.name').textContent)";

/// The text of the first screen in the scenario whose card is open.
const SCREEN: &str = "document.querySelector('.screen').innerText";

#[test]
fn it_opens_plays_filters_and_is_used_by_keyboard_alone() {
    let record = every_fate();
    record.written();
    let mut browser = Browser::open(&record.path().join("report.html"), false);
    assert_eq!(
        browser.value("document.querySelector('h1').textContent"),
        "1 failed, 1 flaky, 1 passed, 1 skipped"
    );
    assert_eq!(
        browser.value(SHOWN),
        json!(["web::failing", "network::ping", "web::login", "slow::everything"])
    );
    let whole = browser.value("document.body.innerText").as_str().unwrap().to_owned();
    for slip in ["null", "undefined", "NaN", "[object"] {
        assert!(!whole.contains(slip), "{slip} is on the page\n{whole}");
    }
    // Every machine is on the timeline, with its phases in words.
    let label = browser.value("document.querySelector('.lane .track').getAttribute('aria-label')");
    assert_eq!(label, "web::login: starting 1.4 s, kernel 2.5 s, services 2.3 s, in use 2.9 s");
    assert_eq!(browser.value("document.querySelectorAll('.lane:not(.axis)').length"), 4);

    // The failure is open, with its report, steps, source, journal and screenshot.
    let open = "document.querySelector('.toggle[aria-expanded=true]').closest('.scenario').innerText";
    let text = browser.value(open).as_str().unwrap().to_owned();
    for part in [
        "could not bind to port 80",
        "wait for unit web.service",
        "failing.rs:9",
        "web.service - the web",
        "page.png",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(browser.value("document.querySelector('.shots img').naturalWidth").as_u64() == Some(64));
    // What nixvm-test asks when the scenario is over stands apart from what the scenario did.
    let failing = "document.querySelector('.toggle[aria-expanded=true]').closest('.scenario')";
    let of = |list: &str| format!("{failing}.querySelector('{list}').textContent.includes('journalctl')");
    assert_eq!(browser.value(&of(".machine > .steps")), false);
    assert_eq!(browser.value(&of(".after > .steps")), true);
    assert_eq!(browser.value(&format!("{failing}.querySelector('.after').open")), false);
    browser.picture("light.png");

    // The film: it stands at its end; Home goes to its beginning, Space plays, and it goes on by itself.
    assert!(browser.value(SCREEN).as_str().unwrap().contains("(oo)"));
    browser.value("document.querySelector('.player').focus()");
    browser.press("Home");
    browser.until(&format!("!{SCREEN}.includes('(oo)')"));
    browser.press("ArrowRight");
    browser.until(&format!("{SCREEN}.includes('OpenSSH') || {SCREEN}.includes('Journal Service')"));
    // At the slowest speed first: the film does not end before it is looked at.
    browser.value("document.querySelector('.player select').value = '1'");
    browser.press(" ");
    assert_eq!(browser.value("document.querySelector('.play').textContent"), "Pause");
    browser.value("document.querySelector('.player select').value = '20'");
    browser.until("document.querySelector('.play').textContent === 'Play'");
    assert!(browser.value(SCREEN).as_str().unwrap().contains("(oo)"));
    // A step's time shows the console as it was then.
    browser.value("document.querySelectorAll('button.at')[0].click()");
    browser.until(&format!("{SCREEN}.includes('nixos login: alice') && !{SCREEN}.includes('(oo)')"));

    // Filters, by keyboard.
    browser.value("document.querySelector('[data-outcome=passed]').focus()");
    browser.press("Enter");
    assert_eq!(browser.value(SHOWN), json!(["web::login"]));
    assert_eq!(browser.value("document.querySelector('[role=status]').textContent"), "1 scenario shown");
    browser.press("Tab");
    browser.press(" ");
    assert_eq!(browser.value(SHOWN), json!(["slow::everything"]));
    browser.value("document.querySelector('[data-outcome=all]').click(); document.querySelector('input[type=search]').focus()");
    browser.type_text("COWSAY");
    assert_eq!(browser.value(SHOWN), json!(["web::login"]));
    browser.press("Tab");
    browser.press("Enter");
    assert_eq!(browser.value("document.activeElement.getAttribute('aria-expanded')"), "true");
    browser.value("document.activeElement.scrollIntoView()");
    browser.picture("filtered.png");

    // Everything that can be used has a name, and is a button, an input or the like.
    let nameless = "[...document.querySelectorAll('button, input, select, [role=img], [role=group]')].filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.[0]?.textContent.trim())).length";
    assert_eq!(browser.value(nameless), 0);
    assert_eq!(browser.complaints, [] as [String; 0]);
}

#[test]
fn a_step_shows_the_console_of_the_clone_and_not_of_the_machine_that_a_template_was_made_of() {
    let mut record = Record::new(1);
    record.scenario(0.5, "web", "", 1, "").booted(1.0, "web", "machine", [1.0, 2.0, 3.0]);
    record.step((5.0, 6.0), "web", 1, "save the machine", 4);
    record.at(7.0, "web", Event::MachineStarted { machine: "machine".into(), pid: 4712 });
    record.step((8.0, 9.0), "web", 2, "root: ls", 5);
    record.console(9.5, "web", &[(0.5, b"before\r\n"), (1.5, b"after\r\n")]);
    record.stopped(9.5, "web", "stopped").passed(9.6, "web", 9.0).finished(9.7).written();
    let mut browser = Browser::open(&record.path().join("report.html"), false);
    let times = "[...document.querySelectorAll('.step .at')].map(one => [one.tagName, one.textContent])";
    assert_eq!(browser.value(times), json!([["SPAN", "4.0 s"], ["BUTTON", "1.0 s"]]));
    browser.value("document.querySelector('button.at').click()");
    browser.until(&format!("{SCREEN}.includes('before') && !{SCREEN}.includes('after')"));
    assert_eq!(browser.complaints, [] as [String; 0]);
}

#[test]
fn a_network_has_a_lane_of_its_faults_and_a_table_of_its_links() {
    let faults = |from: &str, to: &str, faults: &[&str]| LinkFaults {
        vlan: 1,
        from: from.to_owned(),
        to: to.to_owned(),
        faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
    };
    let change = |text: &str, links: Vec<LinkFaults>| Event::NetworkFaults {
        text: text.to_owned(),
        line: Some(4),
        links,
        left_out: 0,
    };
    let mut record = Record::new(1);
    record.scenario(0.5, "web", "", 1, "").booted(1.0, "web", "one", [1.0, 2.0, 3.0]);
    record.booted(1.0, "web", "two", [1.0, 2.0, 3.0]);
    let cut = vec![faults("one", "two", &["partition"]), faults("two", "one", &["partition"])];
    record.at(4.0, "web", change("partition: one | two", cut));
    record.at(6.0, "web", change("set loss 10 %: one → <b>", vec![faults("one", "<b>", &["loss 10 %"])]));
    let healed = vec![faults("one", "two", &[]), faults("two", "one", &[]), faults("one", "<b>", &[])];
    record.at(7.0, "web", change("heal all", healed));
    let link = LinkTraffic {
        vlan: 1,
        from: "one".to_owned(),
        to: "two".to_owned(),
        sent: 9,
        delivered: 6,
        dropped: 3,
        delayed: 0,
        held: 2,
        duplicated: 0,
        reordered: 0,
        corrupted: 0,
    };
    record.at(9.0, "web", Event::NetworkCounts { links: vec![link], left_out: 0 });
    record.passed(9.6, "web", 9.0).finished(9.7).written();
    let mut browser = Browser::open(&record.path().join("report.html"), false);
    let lanes = "[...document.querySelectorAll('.lane:not(.axis) .who')].map(one => one.textContent)";
    assert_eq!(browser.value(lanes), json!(["web / one", "web / two", "web, network"]));
    let pieces = "[...document.querySelectorAll('.lanes .p-fault')].map(one => one.title).filter(Boolean)";
    let [first, second] = [
        "one ↔ two on VLAN 1: partition: 2.0 s",
        "one ↔ two on VLAN 1: partition; one → <b> on VLAN 1: loss 10 %: 1.0 s",
    ];
    assert_eq!(browser.value(pieces), json!([first, second]));
    let changes = "[...document.querySelectorAll('.network .what')].map(one => one.textContent)";
    assert_eq!(
        browser.value(changes),
        json!(["partition: one | two", "set loss 10 %: one → <b>", "heal all"])
    );
    let cells =
        "[...document.querySelectorAll('.links th, .links td')].map(one => one.textContent).join(' ')";
    let table = "link VLAN sent delivered dropped held one → two 1 9 6 3 2";
    assert_eq!(browser.value(cells), json!(table));
    assert_eq!(browser.complaints, [] as [String; 0]);
}

#[test]
fn files_of_the_record_are_links_from_its_folder_and_nothing_else_is_one() {
    let odd = "a b#c?d%2Fe'\"<&:;=+ü.log";
    let mut record = Record::new(1);
    record.scenario(0.5, "web", "", 1, "").booted(1.0, "web", "machine", [1.0, 2.0, 3.0]);
    record.file(3.0, "web", nixvm_test::internals::FileKind::Log, odd, b"the log itself\n");
    record.named(3.1, "web", "javascript:document.title='got'");
    record.named(3.1, "web", "data:text/html,<script>alert(1)</script>");
    let elsewhere =
        ["../../../etc/passwd", "/etc/passwd", "//example.org/x", "web/../../x", "./x", "web//x", ""];
    for path in elsewhere {
        record.named(3.2, "web", path);
    }
    record.stopped(4.0, "web", "stopped").passed(4.1, "web", 3.0).finished(4.2).written();
    let mut browser = Browser::open(&record.path().join("report.html"), false);
    browser.value("document.querySelector('.files').closest('details').open = true");
    assert_eq!(browser.value("document.querySelectorAll('.files li').length"), 3 + elsewhere.len());
    let links = browser.value("[...document.querySelectorAll('.files a')].map(one => [one.protocol, decodeURIComponent(one.pathname), one.hash + one.search])");
    let here = record.path().canonicalize().unwrap();
    let at = |path: &str| json!(["file:", here.join(path), ""]);
    let data = "data:text/html,<script>alert(1)</script>";
    assert_eq!(links, json!([at(&format!("web/{odd}")), at("javascript:document.title='got'"), at(data)]));
    browser.picture("links.png");
    assert_eq!(browser.complaints, [] as [String; 0]);
    // In a while, not at once: the answer is to be given before the page is left.
    browser.value("void setTimeout(() => document.querySelector('.files a').click())");
    browser.until("document.body?.innerText.includes('the log itself')");
}

#[test]
fn scenarios_of_one_name_are_told_apart() {
    let mut record = Record::new(2);
    for suite in ["crate::x", "crate::y"] {
        record.suite = suite.to_owned();
        record.scenario(0.5, "web::login", "", 1, "").booted(1.0, "web::login", "machine", [1.0, 2.0, 3.0]);
    }
    record.stopped(4.0, "web::login", "stopped").passed(4.1, "web::login", 3.0);
    record.suite = "crate::x".to_owned();
    record.failed(4.2, "web::login", 3.0, "no", false).finished(4.3).written();
    let mut browser = Browser::open(&record.path().join("report.html"), false);
    assert_eq!(browser.value(SHOWN), json!(["web::login (crate::x)", "web::login (crate::y)"]));
    assert_eq!(browser.value("document.querySelector('h1').textContent"), "1 failed, 1 passed");
    let junit = std::fs::read_to_string(record.path().join("junit.xml")).unwrap();
    for suite in ["crate::x", "crate::y"] {
        let case = format!(r#"<testcase name="login" classname="{suite}::web""#);
        assert_eq!(junit.matches(&case).count(), 1, "{junit}");
    }
}

#[test]
fn it_is_dark_where_that_is_preferred() {
    let record = every_fate();
    record.written();
    let mut browser = Browser::open(&record.path().join("report.html"), true);
    let ground = browser.value("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(18, 21, 27)");
    browser.picture("dark.png");
    assert_eq!(browser.complaints, [] as [String; 0]);
}

#[test]
fn whatever_a_guest_prints_does_nothing_there() {
    let evil = "<script>alert(1)</script></script><!--<script>--><img src=x onerror=alert(2)><svg onload=alert(3)>\
                {data}{script}\u{2028}\u{202e}\"'`${alert(4)}<meta http-equiv=refresh content=0>";
    let bombs = b"\x1b]8;;javascript:alert(5)\x07link\x1b]8;;\x07\x1b[999999999;999999999H\x1b[2147483647b\x1b[?1049h\x1b[9999999@\
                  \x1bP+q\x1b\\\x1b]52;c;AAAA\x07\x1b[8;60000;60000t\xff\xfe\x00\x1b[38;5;999m\x1b[48;2;999;0;0mred\x1b[?25l\r\n";
    let flood = "0123456789abcdef<b>flood</b>\r\n".repeat(180_000);
    let mut said = boot();
    said.extend([
        (8.0, evil.as_bytes().to_vec()),
        (9.0, bombs.to_vec()),
        (10.0, flood.into_bytes()),
        (11.0, evil.into()),
    ]);
    let said: Vec<(f64, &[u8])> = said.iter().map(|(time, text)| (*time, text.as_slice())).collect();
    let mut record = Record::new(1);
    let output = nixvm_test::internals::StepOutput {
        stdout: evil.into(),
        stderr: evil.into(),
        cut: 0,
        status: Some(1),
    };
    record
        .note(0.1, evil)
        .scenario(0.5, "evil", evil, 1, &format!("{evil}\n").repeat(9))
        .booted(1.0, "evil", "machine", [1.4, 3.9, 6.2])
        .step_with((7.2, 7.8), "evil", 1, evil, 6, Some(output))
        .stopped(12.0, "evil", evil)
        .file(12.0, "evil", nixvm_test::internals::FileKind::Journal, "machine.journal", evil.as_bytes())
        .file(12.0, "evil", nixvm_test::internals::FileKind::Screenshot, "x.png", evil.as_bytes())
        .console(12.0, "evil", &said)
        .failed(12.5, "evil", 12.0, evil, false)
        .finished(13.0)
        .written();
    let page = record.path().join("report.html");
    assert!(std::fs::metadata(&page).unwrap().len() < 1 << 20);
    let mut browser = Browser::open(&page, false);
    assert_eq!(browser.value("document.querySelectorAll('script').length"), 2);
    assert_eq!(browser.value("document.querySelectorAll('meta[http-equiv]').length"), 1);
    assert_eq!(
        browser.value("document.querySelectorAll('[onerror], [onload], svg, b:not(.filters b)').length"),
        0
    );
    browser.value(
        "document.querySelector('.player').focus(); document.querySelector('.player select').value = '20'",
    );
    browser.press("Home");
    browser.press(" ");
    browser.until("document.querySelector('.play').textContent === 'Play'");
    assert!(browser.value(SCREEN).as_str().unwrap().contains("<script>alert(1)</script>"));
    // Nor does anything turn text round.
    assert_eq!(browser.value("/[\\u202e\\u2028]/.test(document.body.innerText)"), false);
    // What gets in anyway is stopped by the policy.
    browser.value("{ const script = document.createElement('script'); script.textContent = 'window.got = 1'; document.body.append(script); }");
    assert_eq!(browser.value("window.got === undefined"), true);
    browser.picture("evil.png");
    let serious: Vec<_> =
        browser.complaints.iter().filter(|one| !one.contains("Content Security Policy")).collect();
    // A screenshot that is none is an image that can't be shown, and no more.
    assert!(serious.is_empty(), "{serious:?}");
    assert_eq!(browser.complaints.len(), 1, "{:?}", browser.complaints);
}
