//! Which keys a type reads, as serde derives it.
//!
//! serde gives a deserializer the names of a struct's fields before it asks for values. So a type is
//! deserialized once for each field, by a deserializer that goes down the path to that field, notes
//! what is asked of it there, and stops.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Key, Value};

/// How serde_json's `RawValue` asks a deserializer for the text of a value.
const RAW: &str = "$serde_json::private::RawValue";

/// What differs between a table of keys and the type that reads them: paths such as `ipam.ranges[]`
/// that one of them lacks, or that have another type. [`Value::Any`] stands for every type.
pub fn differences<T: DeserializeOwned>(keys: &[Key]) -> Vec<String> {
    let read = shape_of::<T>();
    let mut told = BTreeMap::new();
    flatten(keys, "", &mut told);
    let is_below_any = |path: &str, others: &BTreeMap<String, Leaf>| {
        others.iter().any(|(other, leaf)| *leaf == Leaf::Any && path.starts_with(other.as_str()))
    };
    let mut differences = Vec::new();
    for (path, leaf) in &read {
        match told.get(path) {
            Some(Leaf::Any) => {}
            Some(other) if leaf == other || *leaf == Leaf::Any => {}
            Some(other) => {
                differences.push(format!("{path} is read as {leaf:?}, and in the table {other:?}"))
            }
            None if is_below_any(path, &told) => {}
            None => differences.push(format!("{path} is read, and not in the table")),
        }
    }
    let unread = told.keys().filter(|path| !read.contains_key(*path) && !is_below_any(path, &read));
    differences.extend(unread.map(|path| format!("{path} is in the table, and not read")));
    differences
}

/// The type of a value that is no object and no list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaf {
    Bool,
    Integer,
    Text,
    Any,
}

fn flatten(keys: &[Key], prefix: &str, leaves: &mut BTreeMap<String, Leaf>) {
    for key in keys {
        flatten_value(key.value, format!("{prefix}{}", key.name), leaves);
    }
}

fn flatten_value(value: Value, path: String, leaves: &mut BTreeMap<String, Leaf>) {
    let leaf = match value {
        Value::Bool => Leaf::Bool,
        Value::Integer => Leaf::Integer,
        Value::Text => Leaf::Text,
        Value::Any => Leaf::Any,
        Value::List(of) => return flatten_value(*of, format!("{path}[]"), leaves),
        Value::Object(keys) => return flatten(keys, &format!("{path}."), leaves),
    };
    leaves.insert(path, leaf);
}

/// What a deserializer was asked for at the end of its way.
enum Asked {
    Nothing,
    Leaf(Leaf),
    Fields(&'static [&'static str]),
}

fn shape_of<T: DeserializeOwned>() -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    let mut ways: Vec<Vec<usize>> = vec![Vec::new()];
    while let Some(way) = ways.pop() {
        let (asked, place) = (RefCell::new(Asked::Nothing), RefCell::new(String::new()));
        let _ = T::deserialize(Probe { way: &way, asked: &asked, place: &place });
        match asked.into_inner() {
            Asked::Nothing => {}
            Asked::Leaf(leaf) => drop(leaves.insert(place.into_inner(), leaf)),
            Asked::Fields(fields) => {
                ways.extend((0..fields.len()).map(|field| [way.as_slice(), &[field]].concat()));
            }
        }
    }
    leaves
}

/// Goes the way given by the fields of nested structs, and notes what it is asked for at the end.
#[derive(Clone, Copy)]
struct Probe<'a> {
    way: &'a [usize],
    asked: &'a RefCell<Asked>,
    /// The path so far.
    place: &'a RefCell<String>,
}

impl Probe<'_> {
    fn leaf<T>(self, leaf: Leaf) -> Result<T, Stop> {
        *self.asked.borrow_mut() = Asked::Leaf(leaf);
        Err(Stop)
    }
}

macro_rules! leaves {
    ($($method:ident => $leaf:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.leaf(Leaf::$leaf)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    leaves! {
        deserialize_any => Any, deserialize_bool => Bool, deserialize_i8 => Integer, deserialize_i16 => Integer,
        deserialize_i32 => Integer, deserialize_i64 => Integer, deserialize_u8 => Integer,
        deserialize_u16 => Integer, deserialize_u32 => Integer, deserialize_u64 => Integer,
        deserialize_f32 => Any, deserialize_f64 => Any, deserialize_char => Text, deserialize_str => Text,
        deserialize_string => Text, deserialize_bytes => Any, deserialize_byte_buf => Any,
        deserialize_unit => Any, deserialize_identifier => Text, deserialize_ignored_any => Any,
        deserialize_map => Any,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Any)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if name == RAW { self.leaf(Leaf::Any) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.place.borrow_mut().push_str("[]");
        visitor.visit_seq(One(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Some((field, way)) = self.way.split_first() else {
            *self.asked.borrow_mut() = Asked::Fields(fields);
            return Err(Stop);
        };
        let mut place = self.place.borrow_mut();
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(fields[*field]);
        drop(place);
        visitor.visit_map(Member { key: Some(fields[*field]), value: Probe { way, ..self } })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Text)
    }
}

/// A list of one element.
struct One<'a>(Probe<'a>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        seed.deserialize(self.0).map(Some)
    }
}

/// An object of one member.
struct Member<'a> {
    key: Option<&'static str>,
    value: Probe<'a>,
}

impl<'de> MapAccess<'de> for Member<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.key.take().map(|key| seed.deserialize(StrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.value)
    }
}

/// The end of the way.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the way")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Stop {
        Stop
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its shape is looked at")]
    struct Outer {
        is_up: Option<bool>,
        inner: Vec<Vec<Inner>>,
        any: serde_json::Value,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    struct Inner {
        mtu: u32,
        name: String,
    }

    const INNER: Value =
        Value::Object(&[Key::new("mtu", Value::Integer, "", ""), Key::new("name", Value::Text, "", "")]);

    #[test]
    fn nested_keys_are_compared() {
        let nested = Key::new("inner", Value::List(&Value::List(&INNER)), "", "");
        let up = Key::new("isUp", Value::Bool, "", "");
        let any = Key::new("any", Value::Any, "", "");
        assert_eq!(differences::<Outer>(&[up, nested, any]), Vec::<String>::new());
        let wrong = Key::new("isUp", Value::Text, "", "");
        let surplus = Key::new("down", Value::Bool, "", "");
        assert_eq!(
            differences::<Outer>(&[wrong, surplus, nested]),
            [
                "any is read, and not in the table",
                "isUp is read as Bool, and in the table Text",
                "down is in the table, and not read",
            ]
        );
    }
}
