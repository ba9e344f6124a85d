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
mod rules;

use std::cell::RefCell;

use oxcni_tests::Plugins;
use oxcni_tests::requirement::{self, Feature, met};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use case::{Case, Family};
use faults::FAULTS;
use observe::observe;
use rules::{Context, Difference, RULES, Release, Rule};

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The Go plugins: those of `OXCNI_RECORD_FROM`, or Debian's.
fn go() -> Plugins {
    if newer() { Plugins::Recorded } else { Plugins::Go }
}

fn newer() -> bool {
    std::env::var_os("OXCNI_RECORD_FROM").is_some()
}

fn runner(cases: u32, seed: u64) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn rules_of(family: Family) -> Vec<&'static Rule> {
    let release = if newer() { Release::Newer } else { Release::Debian };
    RULES.iter().filter(|rule| rule.families.contains(&family) && rule.of.holds_for(release)).collect()
}

fn differences(case: &Case, theirs: &Value, ours: &Value, used: &mut Vec<&'static str>) -> Vec<Difference> {
    let context = Context { case, theirs, ours };
    rules::unexplained(&context, &rules_of(case.family), used)
}

fn shown(differences: &[Difference]) -> String {
    let lines =
        differences.iter().map(|found| format!("{}: Go {}, ours {}", found.path, found.theirs, found.ours));
    lines.collect::<Vec<_>>().join("\n")
}

fn succeeded(observed: &Value) -> bool {
    observed["add"].as_array().is_some_and(|adds| adds.iter().any(|exit| exit == "success"))
}

/// Compares `cases` generated cases of a family.
fn compare(family: Family, cases: u32) {
    let wanted = number("OXCNI_DIFFERENTIAL_CASES", 0);
    // By hand, cases are counted over all families.
    let cases = if wanted == 0 { oxcni_tests::cases(cases) } else { u32::try_from(wanted).expect("a count") };
    let seed = number("OXCNI_DIFFERENTIAL_SEED", 1);
    let (used, go_succeeded, tried) = (RefCell::new(Vec::new()), RefCell::new(0), RefCell::new(0));
    // By hand, to see all differences at once; none is made smaller.
    let collect = std::env::var_os("OXCNI_DIFFERENTIAL_ALL").is_some();
    let differing = RefCell::new(0);
    let outcome = runner(cases, seed).run(&case::cases(family, newer()), |case| {
        let (theirs, ours) = (observe(go(), &case, None), observe(Plugins::Multicall, &case, None));
        *tried.borrow_mut() += 1;
        *go_succeeded.borrow_mut() += u32::from(succeeded(&theirs));
        let found = differences(&case, &theirs, &ours, &mut used.borrow_mut());
        if collect && !found.is_empty() {
            println!("{case:?}\n{}\n", shown(&found));
            *differing.borrow_mut() += 1;
            return Ok(());
        }
        prop_assert!(found.is_empty(), "{}\nGo: {:#}\nours: {:#}", shown(&found), theirs["add"], ours["add"]);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {seed}: {failure}");
    }
    let differing = differing.into_inner();
    assert_eq!(differing, 0, "cases that differ, of {}", tried.borrow());
    let (go_succeeded, tried) = (go_succeeded.into_inner(), tried.into_inner());
    println!("{family:?}, seed {seed}: {tried} cases, of which {go_succeeded} succeed in Go");
    // Few cases may happen to be those that fail.
    assert!(go_succeeded * 2 >= tried || tried < 30, "only {go_succeeded} of {tried} cases succeed in Go");
    let used = used.into_inner();
    let needed = rules_of(family).into_iter().filter(|rule| {
        rule.families[0] == family && (tried >= 1000 || !rule.rare) && !used.contains(&rule.name)
    });
    let unused: Vec<_> = needed.map(|rule| format!("{}: {}", rule.name, rule.reason)).collect();
    // Few cases don't need all.
    assert!(unused.is_empty() || tried < 60, "no case needs these rules: {unused:#?}");
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
        let _ended_early = runner(120, 1).run(&case::cases(family, newer()), |case| {
            if missing.borrow().is_empty() {
                return Ok(());
            }
            let theirs = observe(go(), &case, None);
            // What differs without a fault says nothing about the fault.
            if !differences(&case, &theirs, &observe(Plugins::Multicall, &case, None), &mut Vec::new())
                .is_empty()
            {
                return Ok(());
            }
            missing.borrow_mut().retain(|fault| {
                let ours = observe(Plugins::Multicall, &case, Some(fault));
                differences(&case, &theirs, &ours, &mut Vec::new()).is_empty()
            });
            Ok(())
        });
        missed.extend(missing.into_inner());
    }
    assert!(missed.is_empty(), "not found: {:?}", missed.iter().map(|fault| fault.name).collect::<Vec<_>>());
    assert!(FAULTS.len() >= 10);
}
