//! Every kind of assertion, seen passing with a plugin that is right and failing with one that is wrong
//! in exactly that.

use crate::common::{Plugins, is_root};
use cni_conformance::plan::Selection;
use cni_conformance::run::{Options, run};
use cni_conformance::worker::Status;
use cni_conformance::{catalogue, profile};
use std::time::Duration;

/// A fault, the steps that see it, and a part of what they say about it.
struct Row {
    fault: &'static str,
    steps: &'static str,
    says: &'static str,
}

const fn row(fault: &'static str, steps: &'static str, says: &'static str) -> Row {
    Row { fault, steps, says }
}

/// An IPAM plugin of the suite's own, and the configuration that names it.
const IPAM: &str = "double: {name: cni-double, answers: {ADD: {stderr: a line, stdout: {ips: [{address: 10.1.0.5/16, \
                    gateway: 10.1.0.1}], routes: [{dst: 10.99.0.0/16}]}}}}";
const WITH: &str = "{ipam: {type: cni-double}}";

const ROWS: &[Row] = &[
    // Of every call.
    row("hangs", "call: ADD", "ADD did not end within"),
    row("crashes", "call: ADD", "ended by a signal"),
    row("prints-without-end", "call: ADD", "ended by a signal"),
    row("prints-text", "call: ADD", "not JSON"),
    row("prints-twice", "call: ADD", "more than one JSON document"),
    row("prints-nothing", "call: ADD", "succeeded without a result"),
    row("no-error-object", "call: {do: ADD, stdin: x, expect: failure}", "without an error object"),
    row("error-with-exit-0", "call: {do: ADD, stdin: x, expect: {outcome: any}}", "its exit code is 0"),
    // Of one call.
    row("del-once", "call: ADD; call: DEL; call: DEL", "DEL failed"),
    row("takes-what-is-there", "call: ADD; call: {do: ADD, expect: failure}", "ADD succeeded"),
    row(
        "wrong-code",
        "call: {do: ADD, stdin: x, expect: {outcome: failure, code: [5, 6]}}",
        "another error code",
    ),
    row(
        "wrong-code",
        "call: {do: ADD, stdin: x, expect: {outcome: failure, error: {code: 6}}}",
        "object differs",
    ),
    row("wrong-version", "call: {do: ADD, expect: {wellFormed: true}}", "another form"),
    row("wrong-type", "call: {do: ADD, expect: {wellFormed: true}}", "another form"),
    row(
        "wrong-sandbox",
        "call: {do: ADD, expect: {result: {interfaces: [{}, {sandbox: '${a.netns}'}]}}}",
        "result differs",
    ),
    row("prints-on-gc", "call: {do: GC, valid: [], expect: {silent: true}}", "GC printed something"),
    row(
        "hides-standard-error",
        "IPAM; call: {do: ADD, with: WITH, expect: {stderr: a line}}",
        "standard error lacks",
    ),
    row("is-slow", "call: {do: ADD, expect: {within: 5}}", "took too long"),
    // Of the kernel and of files.
    row("wrong-name", "call: ADD; link: {name: eth0}", "the link is absent"),
    row("keeps-the-link", "call: ADD; call: DEL; link: {name: eth0, absent: true}", "should not be"),
    row(
        "wrong-mac",
        "call: ADD; link: {name: eth0, is: {address: '${a.result.interfaces.1.mac}'}}",
        "link differs",
    ),
    row(
        "wrong-name",
        "call: ADD; link: {is: {ifname: {$regex: eth}}, count: 1, name: eth0}",
        "another number of links",
    ),
    row(
        "no-address",
        "IPAM; call: {do: ADD, with: WITH}; address: {name: eth0, is: 10.1.0.5/16}",
        "the address",
    ),
    row("no-route", "IPAM; call: {do: ADD, with: WITH}; route: {name: eth0, is: 10.99.0.0/16}", "route"),
    row("wrong-rule", "call: ADD; rule: {in: host, is: {src: 10.66.0.0}, absent: true}", "a rule is there"),
    row(
        "leaves-a-file",
        "call: ADD; file: {path: '/var/lib/l*t', absent: true}",
        "is there and should not be",
    ),
    row("wrong-file", "call: ADD; file: {path: /var/lib/file, holds: right}", "holds something else"),
    row("wrong-file", "call: ADD; file: {path: /var/lib/file, json: {is: right}}", "holds something else"),
    row("no-file", "call: ADD; file: {path: /var/lib/file}", "is not there"),
    row("leaves-a-link", "given; call: ADD; call: DEL; unchanged: {in: host}", "host is not as it was"),
    row(
        "leaves-a-file",
        "given; call: ADD; call: DEL; unchanged: {in: files, except: [/var/lib/file]}",
        "files is not as it was",
    ),
    row(
        "no-address",
        "IPAM; call: {do: ADD, with: WITH}; run: 'ip address add 10.1.0.1/16 dev $(ip -br link | grep -o \"^f[0-9a-f]*\")'; \
         reach: {from: host, to: a, address: 10.1.0.5}",
        "does not reach",
    ),
    row(
        "reaches-the-host",
        "run: ip address add 10.55.0.1/32 dev lo; call: ADD; reach: {from: a, to: host, address: 10.55.0.1, fails: true}",
        "should not",
    ),
    row(
        "wrong-mac",
        "call: ADD; value: {of: '${a.result.interfaces.1.mac}', is: '${a.link.address}'}",
        "value differs",
    ),
    row("wrong-file", "call: ADD; run: {line: cat /var/lib/file, json: {is: right}}", "prints differs"),
    row("wrong-file", "call: ADD; run: {line: cat /var/lib/file, prints: right}", "prints something else"),
    row(
        "same-host-name",
        "call: ADD; call: {do: ADD, ifname: net1}; distinct: ['${a.result.interfaces.0.mac}', '${a/net1.result.interfaces.0.mac}']",
        "given twice",
    ),
    // Of plugins that are delegated to.
    row(
        "no-del-of-delegate",
        "double: {name: cni-double, answers: {ADD: {exit: 1}}}; call: {do: ADD, with: WITH, expect: failure}; \
         recorded: {by: cni-double, calls: [{command: ADD}, {command: DEL}]}",
        "recorded calls differ",
    ),
    row(
        "hides-environment",
        "IPAM; call: {do: ADD, with: WITH, env: {CNI_ARGS: A=b}}; recorded: {calls: [{env: {CNI_ARGS: A=b}}]}",
        "recorded calls differ",
    ),
    // Of calls at the same time.
    row("one-at-a-time", "parallel: {count: 4, call: ADD}", "ADD failed"),
];

/// The steps of a row as a file of one case. `given` ends what stands before.
fn case_of(row: &Row) -> String {
    let steps = row.steps.replace("IPAM", IPAM).replace("WITH", WITH);
    let step = |text: &str| format!("      - {{{}}}\n", text.trim());
    let list = |steps: &str| steps.split("; ").filter(|s| *s != "given").map(step).collect::<String>();
    format!(
        "text: t\ncases:\n  - id: own/assertion/1\n    level: must\n    kind: interface\n    title: t\n    \
         requirement: r\n    when:\n{}",
        list(&steps)
    )
}

/// What the row's case says of a plugin with this fault: its message, empty if it passed.
fn verdict(row: &Row, fault: &str) -> String {
    let content = case_of(row);
    let cases =
        catalogue::read(&[("own.yaml", &content)]).unwrap_or_else(|error| panic!("{error}\n{content}"));
    let profiles = [profile::read(&crate::common::profile_file()).expect("the profile")];
    let plugins = Plugins::with_fault(fault);
    let options = Options {
        jobs: 1,
        limit: Duration::from_secs(if fault == "hangs" { 1 } else { 20 }),
        progress: None,
    };
    let report = run(&plugins.target(), &profiles, &cases, &Selection::default(), &options).expect("it runs");
    let (_, entry) = report.all().next().expect("one entry");
    assert_ne!(entry.outcome.status, Status::Broken, "{:?}\n{content}", entry.outcome);
    entry.outcome.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default()
}

#[test]
fn every_assertion_passes_with_a_right_plugin_and_fails_with_a_wrong_one() {
    if !is_root("assertions") {
        return;
    }
    std::thread::scope(|scope| {
        for chunk in ROWS.chunks(ROWS.len().div_ceil(4)) {
            scope.spawn(move || {
                for row in chunk {
                    assert_eq!(verdict(row, ""), "", "the right plugin and {}", row.steps);
                    let text = verdict(row, row.fault);
                    assert!(text.contains(row.says), "{}: {:?} lacks {:?}", row.fault, text, row.says);
                }
            });
        }
    });
}

/// Every kind of step is in the table, so that none is without a plugin that it catches.
#[test]
fn no_kind_of_assertion_is_missing() {
    let kinds = [
        "call:",
        "code:",
        "error:",
        "result:",
        "wellFormed:",
        "silent:",
        "stderr:",
        "within:",
        "parallel:",
        "run:",
        "json:",
        "prints:",
        "link:",
        "address:",
        "route:",
        "rule:",
        "file:",
        "holds:",
        "absent:",
        "count:",
        "reach:",
        "fails:",
        "unchanged: {in: host",
        "unchanged: {in: files",
        "recorded:",
        "value:",
        "distinct:",
    ];
    for kind in kinds {
        assert!(ROWS.iter().any(|row| row.steps.contains(kind)), "{kind} is not in the table");
    }
}
