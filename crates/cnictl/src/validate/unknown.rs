//! Keys that nobody reads, and what may have been meant.

use cni_core::keys::{Key, Value};
use cni_core::spec::same_key;

use super::tree::{Content, Node};

/// A key that is not in the tables, or written in another way.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Odd {
    /// The offset of the key.
    pub(crate) at: usize,
    /// What is odd about it.
    pub(crate) message: String,
    /// Whether the plugin reads it all the same.
    pub(crate) is_read: bool,
}

/// The odd keys of an object, and of the objects in it. A key of any table is known.
pub(crate) fn keys(node: &Node<'_>, tables: &[&[Key]], odd: &mut Vec<Odd>) {
    let known = || tables.iter().copied().flatten();
    for (i, member) in node.members().iter().enumerate() {
        let mut report = |message: String, is_read| odd.push(Odd { at: member.key_at, message, is_read });
        let found: Vec<&Key> = known().filter(|key| same_key(key.name, &member.key)).collect();
        let Some(first) = found.first() else {
            // Keys of the specification and of others, such as "cni.dev/attachments".
            if !member.key.contains('/') {
                report(format!("unknown key {:?}{}", member.key, suggestion(&member.key, tables)), false);
            }
            continue;
        };
        if first.name != member.key {
            report(format!("{:?} is read as {:?}", member.key, first.name), true);
        }
        if node.members()[..i].iter().any(|earlier| same_key(&earlier.key, &member.key)) {
            report(format!("{:?} is given twice: the last one counts", member.key), true);
        }
        values(&member.value, &found.iter().map(|key| key.value).collect::<Vec<_>>(), odd);
    }
}

fn values(node: &Node<'_>, kinds: &[Value], odd: &mut Vec<Odd>) {
    if kinds.iter().any(|kind| matches!(kind, Value::Any)) {
        return;
    }
    match &node.content {
        Content::Object(_) => {
            let of = |kind: &Value| if let Value::Object(keys) = kind { Some(*keys) } else { None };
            let tables: Vec<&[Key]> = kinds.iter().filter_map(of).collect();
            if !tables.is_empty() {
                keys(node, &tables, odd);
            }
        }
        Content::List(elements) => {
            let of = |kind: &Value| if let Value::List(element) = kind { Some(**element) } else { None };
            let kinds: Vec<Value> = kinds.iter().filter_map(of).collect();
            elements.iter().for_each(|element| values(element, &kinds, odd));
        }
        Content::Scalar => {}
    }
}

/// What may have been meant by an unknown key: one that is nearly the same, or one in another place.
fn suggestion(key: &str, tables: &[&[Key]]) -> String {
    let names = tables.iter().copied().flatten().map(|key| key.name);
    if let Some(near) = nearest(key, names) {
        return format!(": did you mean {near:?}?");
    }
    match tables.iter().find_map(|table| place_of(key, table, "")) {
        Some(place) => format!(": it belongs in {place:?}"),
        None => String::new(),
    }
}

/// The name that takes the fewest changes to reach, at most one for three letters.
pub(crate) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = wrong.to_lowercase();
    let near = names.map(|name| (distance(&lower, &name.to_lowercase()), name)).min()?;
    (near.0 <= (wrong.chars().count() / 3).max(1)).then_some(near.1)
}

/// The object of a table in which a key would be known.
fn place_of(key: &str, table: &[Key], prefix: &str) -> Option<String> {
    table.iter().find_map(|outer| {
        let mut value = outer.value;
        while let Value::List(element) = value {
            value = *element;
        }
        let Value::Object(inner) = value else { return None };
        let place = format!("{prefix}{}", outer.name);
        if inner.iter().any(|inner| same_key(inner.name, key)) {
            return Some(place);
        }
        place_of(key, inner, &format!("{place}."))
    })
}

/// How many letters are to be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPAM: &[Key] = &[
        Key::new("subnet", Value::Text, "", ""),
        Key::new("routes", Value::List(&Value::Object(&[Key::new("dst", Value::Text, "", "")])), "", ""),
    ];
    const TABLE: &[Key] = &[
        Key::new("isGateway", Value::Bool, "", ""),
        Key::new("ipam", Value::Object(IPAM), "", ""),
        Key::new("args", Value::Any, "", ""),
    ];

    fn messages(text: &str) -> Vec<String> {
        let mut odd = Vec::new();
        keys(&Node::parse(text).ok().unwrap(), &[TABLE], &mut odd);
        odd.into_iter().map(|odd| odd.message).collect()
    }

    #[test]
    fn unknown_keys_are_named_with_what_may_be_meant() {
        for (text, expected) in [
            (r#"{"isGatway":true}"#, "unknown key \"isGatway\": did you mean \"isGateway\"?"),
            (r#"{"subnet":"x"}"#, "unknown key \"subnet\": it belongs in \"ipam\""),
            (r#"{"teleport":1}"#, "unknown key \"teleport\""),
            (
                r#"{"ipam":{"routes":[{"dst":"x"},{"dest":"x"}]}}"#,
                "unknown key \"dest\": did you mean \"dst\"?",
            ),
            (r#"{"isgateway":true}"#, "\"isgateway\" is read as \"isGateway\""),
            (r#"{"isGateway":true,"isGateway":false}"#, "\"isGateway\" is given twice: the last one counts"),
        ] {
            assert_eq!(messages(text), [expected], "{text}");
        }
        assert!(messages(r#"{"args":{"any":1},"cni.dev/x":1,"ipam":{"subnet":"x"}}"#).is_empty());
    }

    #[test]
    fn swapped_letters_are_one_change() {
        assert_eq!(distance("mater", "master"), 1);
        assert_eq!(distance("vlna", "vlan"), 1);
        assert_eq!(nearest("mtu", ["vlan", "mode"].into_iter()), None);
    }
}
