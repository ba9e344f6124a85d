//! Any sequence of calls, of changes by another program, of damage to the index and of
//! reboots agrees with a model that has no index.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cni_core::spec::{AddResult, Code, Result};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{Fixture, addresses, attachment};
use crate::reservation::Owner;
use crate::store::{Reclaim, Store};

/// The addresses of 10.1.2.0/28 that can be allocated; .1 is the gateway.
const FIRST: u8 = 2;
const LAST: u8 = 14;

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    AddRequested(u8, u8),
    Del(u8),
    Gc(u8),
    /// Killed after the reservation was made and before the index was written.
    AddKilled(u8, u8),
    GoAdd(u8, u8),
    GoDel(u8),
    /// The Go plugin was killed between making the file and writing it.
    GoAddKilled(u8),
    Boot,
    Damage(Damage),
}

#[derive(Clone, Debug)]
enum Damage {
    Delete(usize),
    Truncate(usize, u16),
    Overwrite(usize, u16, u8),
    Garbage(usize, Vec<u8>),
    /// The index of an earlier call is restored.
    Save,
    Restore,
    /// The folder of the index can't be made, and later it can.
    NoPlace,
    Place,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0u8..6;
    let ip = || FIRST - 1..=LAST + 1;
    let file = || 0usize..2;
    let damage = prop_oneof![
        file().prop_map(Damage::Delete),
        (file(), 0u16..1000).prop_map(|(file, len)| Damage::Truncate(file, len)),
        (file(), 0u16..1000, any::<u8>()).prop_map(|(file, at, byte)| Damage::Overwrite(file, at, byte)),
        (file(), proptest::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(file, bytes)| Damage::Garbage(file, bytes)),
        Just(Damage::Save),
        Just(Damage::Restore),
        Just(Damage::NoPlace),
        Just(Damage::Place),
    ];
    prop_oneof![
        8 => id().prop_map(Step::Add),
        3 => (id(), ip()).prop_map(|(id, ip)| Step::AddRequested(id, ip)),
        6 => id().prop_map(Step::Del),
        1 => any::<u8>().prop_map(Step::Gc),
        2 => (id(), FIRST..=LAST).prop_map(|(id, ip)| Step::AddKilled(id, ip)),
        4 => (id(), FIRST..=LAST).prop_map(|(id, ip)| Step::GoAdd(id, ip)),
        3 => id().prop_map(Step::GoDel),
        1 => (FIRST..=LAST).prop_map(Step::GoAddKilled),
        1 => Just(Step::Boot),
        4 => damage.prop_map(Step::Damage),
    ]
}

/// The expected folder: address, holder (`None` for an empty file), the boot of a reservation
/// of this program.
#[derive(Default, Debug)]
struct Model {
    held: BTreeMap<u8, (Option<u8>, Option<u32>)>,
    last: Option<u8>,
    boot: u32,
}

impl Model {
    /// Removes reservations of earlier boots.
    fn reclaim(&mut self) {
        let boot = self.boot;
        self.held.retain(|_, (_, made)| made.is_none_or(|made| made == boot));
    }

    fn holds(&self, id: u8) -> bool {
        self.held.values().any(|(holder, _)| *holder == Some(id))
    }

    fn release(&mut self, id: u8) {
        self.held.retain(|_, (holder, _)| *holder != Some(id));
    }

    /// An exhausted range gives up an empty file.
    fn first_empty(&self) -> Option<u8> {
        self.held.iter().find(|(_, (holder, _))| holder.is_none()).map(|(ip, _)| *ip)
    }

    /// The expected outcome of an ADD: its address, or the code of its error.
    fn add(&mut self, id: u8, requested: Option<u8>) -> Result<u8, Code> {
        if let Some(ip) = requested.filter(|ip| !(FIRST..=LAST).contains(ip)) {
            debug_assert!(ip == FIRST - 1 || ip == LAST + 1);
            return Err(Code::INVALID_CONFIG);
        }
        self.reclaim();
        if self.holds(id) {
            return Err(Code::INVALID_ENVIRONMENT);
        }
        let start = self.last.map_or(FIRST, |last| last + 1);
        let mut round = (start..=LAST).chain(FIRST..=LAST);
        let ip = match requested {
            Some(ip) => Some(ip).filter(|ip| !self.held.contains_key(ip)),
            None => round.find(|ip| !self.held.contains_key(ip)).or_else(|| self.first_empty()),
        };
        let ip = ip.ok_or(Code::EXHAUSTED)?;
        self.held.insert(ip, (Some(id), Some(self.boot)));
        self.last = Some(ip);
        Ok(ip)
    }
}

/// A change to the content of a file.
type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;

struct World {
    fixture: Fixture,
    conf: Value,
    model: Model,
    saved: Vec<(PathBuf, Vec<u8>)>,
}

impl World {
    fn new() -> World {
        let fixture = Fixture::new();
        let conf = fixture.conf(json!({"subnet": "10.1.2.0/28"}));
        World { fixture, conf, model: Model { boot: 1, ..Model::default() }, saved: Vec::new() }
    }

    fn run(&mut self, step: &Step) {
        let fixture = &self.fixture;
        match step {
            Step::Add(id) => {
                let added = fixture.add(&self.conf, &name(*id));
                compare(&added, self.model.add(*id, None));
            }
            Step::AddRequested(id, ip) => {
                let added = fixture.add_with(&self.conf, &name(*id), &format!("IP=10.1.2.{ip}"));
                compare(&added, self.model.add(*id, Some(*ip)));
            }
            Step::AddKilled(id, ip) => {
                let mut store =
                    Store::open_or_create(&fixture.node, &fixture.folder(), Reclaim::EarlierBoots).unwrap();
                let owner = Owner::of(&attachment(&name(*id)));
                let made = store.reserve(address(*ip).parse().unwrap(), &owner).unwrap();
                store.abandon();
                self.model.reclaim();
                assert_eq!(made, !self.model.held.contains_key(ip));
                self.model.held.entry(*ip).or_insert((Some(*id), Some(self.model.boot)));
            }
            Step::Del(id) => {
                fixture.del(&self.conf, &name(*id));
                self.model.release(*id);
            }
            Step::Gc(valid) => {
                let keep = |id: u8| valid & (1 << id) != 0;
                let ids: Vec<_> = (0..6).filter(|id| keep(*id)).map(name).collect();
                let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                fixture.gc(&self.conf, &ids).unwrap();
                if fixture.folder().exists() {
                    self.model.reclaim();
                }
                self.model.held.retain(|_, (id, _)| id.is_none_or(keep));
            }
            Step::GoAdd(id, ip) => self.go_writes(*ip, Some(*id)),
            Step::GoAddKilled(ip) => self.go_writes(*ip, None),
            Step::GoDel(id) => {
                for (ip, _) in self.model.held.iter().filter(|(_, (holder, _))| *holder == Some(*id)) {
                    fs::remove_file(fixture.folder().join(address(*ip))).unwrap();
                }
                self.model.release(*id);
            }
            Step::Boot => {
                let _ = fs::remove_file(&fixture.node.index_dir);
                self.model.boot += 1;
                fixture.boot(self.model.boot);
            }
            Step::Damage(damage) => self.damage(damage),
        }
    }

    fn go_writes(&mut self, ip: u8, id: Option<u8>) {
        if !self.model.held.contains_key(&ip) {
            let contents = id.map_or(String::new(), |id| format!("{}\r\neth0", name(id)));
            self.fixture.go_reserves(&address(ip), &contents);
            self.model.held.insert(ip, (id, None));
        }
    }

    fn damage(&mut self, damage: &Damage) {
        let dir = &self.fixture.node.index_dir;
        match damage {
            Damage::NoPlace => {
                let _ = fs::remove_dir_all(dir);
                let _ = fs::create_dir(dir.parent().unwrap());
                fs::write(dir, "").unwrap();
                return;
            }
            Damage::Place => {
                let _ = fs::remove_file(dir);
                return;
            }
            _ => {}
        }
        let files = self.fixture.index();
        let (file, change): (usize, Change<'_>) = match damage {
            Damage::Save => {
                let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
                self.saved = files.into_iter().map(read).collect();
                return;
            }
            Damage::Restore => {
                for (path, bytes) in self.saved.iter().filter(|(path, _)| path.parent().unwrap().exists()) {
                    fs::write(path, bytes).unwrap();
                }
                return;
            }
            Damage::NoPlace | Damage::Place => return,
            Damage::Delete(file) => {
                files.get(*file).map(fs::remove_file);
                return;
            }
            Damage::Truncate(file, len) => (*file, Box::new(|bytes| bytes.truncate((*len).into()))),
            Damage::Overwrite(file, at, with) => (
                *file,
                Box::new(|bytes| {
                    if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                        *byte = *with;
                    }
                }),
            ),
            Damage::Garbage(file, garbage) => (*file, Box::new(|bytes| bytes.clone_from(garbage))),
        };
        if let Some(path) = files.get(file) {
            let mut bytes = fs::read(path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
    }

    fn assert_agrees(&self) {
        let mut expected: Vec<String> = self.model.held.keys().map(|ip| address(*ip)).collect();
        expected.sort();
        assert_eq!(self.fixture.reservations(), expected);
    }
}

fn name(id: u8) -> String {
    format!("c{id}")
}

fn address(ip: u8) -> String {
    format!("10.1.2.{ip}")
}

fn compare(added: &Result<AddResult>, expected: Result<u8, Code>) {
    match (added, expected) {
        (Ok(result), Ok(ip)) => assert_eq!(addresses(result), [format!("10.1.2.{ip}/28")]),
        (Err(err), Err(code)) => assert_eq!(err.code(), code, "{err}"),
        (added, expected) => panic!("{added:?} where {expected:?} was expected"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn calls_changes_damage_and_reboots_agree_with_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.assert_agrees();
        }
    }
}
