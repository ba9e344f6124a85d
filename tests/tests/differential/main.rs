//! Generated cases to the Go plugins and to ours: exits, results, kinds of errors, the kernel's state
//! and files are the same after ADD, CHECK and DEL, but for the differences of [`rules`].
//!
//! `cargo xtask differential` runs any number of cases, from any seed, against any folder of Go
//! plugins. It sets `OXCNI_DIFFERENTIAL_CASES`, `OXCNI_DIFFERENTIAL_SEED` and `OXCNI_RECORD_FROM`.

mod case;
mod config;
mod faults;
mod field;
mod ipam;
mod observe;
mod rule;
mod rules;

use std::cell::RefCell;

use oxcni_tests::generated::{Compared, Comparison};
use oxcni_tests::requirement::{self, Feature, met};
use oxcni_tests::{Difference, Plugins};
use serde_json::Value;

use case::{Case, Family};
use faults::FAULTS;
use observe::observe;
use rule::{Release, Rule};
use rules::RULES;

/// The Go plugins: those of `OXCNI_RECORD_FROM`, or Debian's.
fn go() -> Plugins {
    if newer() { Plugins::Recorded } else { Plugins::Go }
}

fn newer() -> bool {
    std::env::var_os("OXCNI_RECORD_FROM").is_some()
}

fn rules_of(family: Family) -> Vec<&'static Rule> {
    let release = if newer() { Release::Newer } else { Release::Debian };
    RULES.iter().filter(|rule| rule.families.contains(&family) && rule.of.holds_for(release)).collect()
}

fn unexplained(case: &Case, theirs: &Value, ours: &Value) -> Vec<Difference> {
    rule::explain(case, theirs, ours, &rules_of(case.family)).0
}

/// Compares `cases` generated cases of a family.
fn compare(family: Family, cases: u32) {
    let rules = rules_of(family);
    let comparison = Comparison::new(oxcni_tests::cases(cases));
    let tally = comparison.run(&format!("{family:?}"), &case::cases(family, newer()), |case| {
        let (theirs, ours) = (observe(go(), case, None), observe(Plugins::Multicall, case, None));
        let (unexplained, explained_by) = rule::explain(case, &theirs, &ours, &rules);
        let succeeds_in_go =
            theirs["add"].as_array().is_some_and(|adds| adds.iter().any(|exit| exit == "success"));
        let printed = format!("Go: {:#}\nours: {:#}", theirs["printed"], ours["printed"]);
        Compared { succeeds_in_go, unexplained, explained_by, printed }
    });
    tally.needs(rules.iter().filter(|rule| rule.families[0] == family).map(|rule| rule.accepted()));
}

/// A test of a family: how many cases, and what it needs; `$met` decides whether it runs.
macro_rules! families {
    ($met:ident; $( $name:ident: $family:ident, $cases:literal cases $(, needs [$($feature:ident),*])?; )*) => {$(
        #[test]
        fn $name() {
            let features = [Feature::GoPlugins, $($(Feature::$feature),*)?];
            if $met(concat!("differential::", stringify!($name)), &features) {
                compare(Family::$family, $cases);
            }
        }
    )*};
}

fn here(test: &str, features: &[Feature]) -> bool {
    let reason = "hundreds of processes; in the machine by `cargo xtask vm -- cargo xtask differential`";
    requirement::met_on_any_kernel(test, features, reason)
}

families! {
    here;
    bridge_is_that_of_go: Bridge, 120 cases;
    macvlan_is_that_of_go: Macvlan, 50 cases, needs [Macvlan];
    host_local_is_that_of_go: HostLocal, 120 cases;
    static_is_that_of_go: Static, 150 cases;
    loopback_is_that_of_go: Loopback, 30 cases;
    tuning_is_that_of_go: Tuning, 80 cases;
}

// What the kernel at hand may lack.
families! {
    met;
    bridge_vlans_are_those_of_go: BridgeVlan, 80 cases, needs [BridgeVlan];
    ipvlan_is_that_of_go: Ipvlan, 56 cases, needs [Ipvlan];
    vlan_is_that_of_go: Vlan, 56 cases, needs [Vlan];
}

#[test]
#[ignore = "Debian has no Go plugin of this kind: `cargo xtask vm -- cargo xtask differential --go DIR dummy`"]
fn dummy_is_that_of_go() {
    if newer() && met("differential::dummy_is_that_of_go", &[Feature::Dummy]) {
        compare(Family::Dummy, 56);
    }
}

#[test]
fn every_seeded_fault_is_found() {
    let reason = "the comparison is tested, not the kernel";
    if !requirement::met_on_any_kernel(
        "differential::every_seeded_fault_is_found",
        &[Feature::GoPlugins],
        reason,
    ) {
        return;
    }
    let mut missed = Vec::new();
    for family in [Family::Bridge, Family::HostLocal, Family::Static, Family::Loopback] {
        let missing = RefCell::new(FAULTS.iter().filter(|fault| fault.family == family).collect::<Vec<_>>());
        let _ended_early = Comparison::new(120).runner().run(&case::cases(family, newer()), |case| {
            if missing.borrow().is_empty() {
                return Ok(());
            }
            let theirs = observe(go(), &case, None);
            // What differs without a fault says nothing about the fault.
            if !unexplained(&case, &theirs, &observe(Plugins::Multicall, &case, None)).is_empty() {
                return Ok(());
            }
            missing.borrow_mut().retain(|fault| {
                let ours = observe(Plugins::Multicall, &case, Some(fault));
                unexplained(&case, &theirs, &ours).is_empty()
            });
            Ok(())
        });
        missed.extend(missing.into_inner());
    }
    assert!(missed.is_empty(), "not found: {:?}", missed.iter().map(|fault| fault.name).collect::<Vec<_>>());
    assert!(FAULTS.len() >= 10);
}
