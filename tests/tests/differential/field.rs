//! Keys of a generated configuration, and mistakes in them.

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// A key with one of these values, or without the key.
pub(crate) type Field = BoxedStrategy<Option<(&'static str, Value)>>;

pub(crate) fn field(probability: f64, key: &'static str, values: &[Value]) -> Field {
    generated(probability, key, select(values.to_vec()).boxed())
}

/// As [`field`], with one of the `odd` values now and then: plugins refuse most of them.
pub(crate) fn mostly(probability: f64, key: &'static str, usual: &[Value], odd: &[Value]) -> Field {
    let value = prop_oneof![9 => select(usual.to_vec()), 1 => select(odd.to_vec())];
    generated(probability, key, value.boxed())
}

pub(crate) fn generated(probability: f64, key: &'static str, value: BoxedStrategy<Value>) -> Field {
    let field = value.prop_map(move |value| (key, value));
    if probability < 1.0 { weighted(probability, field).boxed() } else { field.prop_map(Some).boxed() }
}

pub(crate) fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let collected = fields.prop_map(|fields| {
        let known = fields.into_iter().flatten().map(|(key, value)| (key.to_owned(), value));
        Value::Object(known.collect::<Map<_, _>>())
    });
    collected.boxed()
}

/// One configuration of ten has a mistake in it.
pub(crate) fn with_mistakes(config: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    (config, weighted(0.1, oddity())).prop_map(|(config, oddity)| odd(config, oddity)).boxed()
}

/// What people write who did not read the documentation.
#[derive(Clone, Debug)]
enum Oddity {
    OtherCase(Index),
    Null(Index),
    WrongType(Index, Value),
    Unknown(Value),
}

fn oddity() -> BoxedStrategy<Oddity> {
    let wrong = select(vec![
        json!("yes"),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!(1.5),
        json!(-1),
        json!(""),
    ]);
    prop_oneof![
        3 => any::<Index>().prop_map(Oddity::OtherCase),
        2 => any::<Index>().prop_map(Oddity::Null),
        2 => (any::<Index>(), wrong.clone()).prop_map(|(index, value)| Oddity::WrongType(index, value)),
        1 => wrong.prop_map(Oddity::Unknown),
    ]
    .boxed()
}

fn odd(mut config: Value, oddity: Option<Oddity>) -> Value {
    let object = config.as_object_mut().expect("an object");
    let key = |index: Index, object: &Map<String, Value>| {
        // The type must stay: it names the program that is called.
        let keys: Vec<_> =
            object.keys().filter(|key| !["type", "prevResult"].contains(&key.as_str())).collect();
        (!keys.is_empty()).then(|| keys[index.index(keys.len())].clone())
    };
    match oddity {
        Some(Oddity::OtherCase(index)) => {
            if let Some(key) = key(index, object)
                && let Some(value) = object.remove(&key)
            {
                object.insert(key.to_uppercase(), value);
            }
        }
        Some(Oddity::Null(index)) => {
            if let Some(key) = key(index, object) {
                object.insert(key, Value::Null);
            }
        }
        Some(Oddity::WrongType(index, value)) => {
            if let Some(key) = key(index, object) {
                object.insert(key, value);
            }
        }
        Some(Oddity::Unknown(value)) => drop(object.insert("somethingElse".to_owned(), value)),
        None => {}
    }
    config
}
