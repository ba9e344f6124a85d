//! A JSON value in its text, read by serde with the rules of Go's encoding/json.
//!
//! A value is parsed one level at a time: an object into its keys and the texts of its members,
//! which the fields of the struct are then read from. The depth is that of the types that are
//! read; what has no type, a [`serde_json::Value`], is left to serde_json with its limit.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::value::RawValue;

use super::fold::same_key;

/// How serde_json's `RawValue` asks a deserializer for the text of a value.
const RAW: &str = "$serde_json::private::RawValue";

/// How many spellings are noted at most.
const MAX_SPELLINGS: usize = 16;

/// What is the same for all values of a text.
pub(super) struct Context<'de> {
    text: &'de str,
    spellings: RefCell<Vec<(String, &'static str)>>,
}

impl<'de> Context<'de> {
    pub(super) fn new(text: &'de str) -> Context<'de> {
        Context { text, spellings: RefCell::default() }
    }

    /// The value of the whole text.
    pub(super) fn value(&self) -> Value<'de, '_> {
        Value { context: self, text: self.text.trim_ascii(), earlier: Vec::new() }
    }

    /// Keys that differ in case from the names of their fields: key and field.
    pub(super) fn into_spellings(self) -> Vec<(String, &'static str)> {
        self.spellings.into_inner()
    }

    fn offset_of(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    fn note(&self, key: &str, field: &'static str) {
        let mut spellings = self.spellings.borrow_mut();
        let is_known = spellings.iter().any(|(noted, _)| noted == key);
        if spellings.len() < MAX_SPELLINGS && !is_known {
            spellings.push((key.to_owned(), field));
        }
    }
}

/// Why a value can't be read, and where it is.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) problem: String,
    /// The offset of the value in the text.
    pub(super) offset: Option<usize>,
    /// The keys and indices of the way to the value: `ipam.ranges[0]`.
    pub(super) path: String,
}

impl Fault {
    /// The fault of a part of a value, under its key or index.
    fn under(mut self, segment: &str, offset: usize) -> Fault {
        self.offset = self.offset.or(Some(offset));
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{segment}{separator}{}", self.path);
        self
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(problem: T) -> Fault {
        Fault { problem: problem.to_string(), offset: None, path: String::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {}

/// A fault of serde_json, whose place is relative to a part of the text.
fn fault(err: &serde_json::Error) -> Fault {
    let problem = err.to_string();
    let problem = problem.split(" at line ").next().unwrap_or(&problem);
    de::Error::custom(problem)
}

/// A value: the text of it, and where its key came several times, the earlier texts.
pub(super) struct Value<'de, 'c> {
    context: &'c Context<'de>,
    text: &'de str,
    earlier: Vec<&'de str>,
}

/// The members of an object, in order.
struct Members<'de>(Vec<(String, &'de RawValue)>);

impl<'de> de::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Members<'de>, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        object.deserialize_map(InOrder)
    }
}

fn kind_of(text: &str) -> u8 {
    match text.as_bytes().first() {
        Some(b't' | b'f') => b't',
        Some(b'-' | b'0'..=b'9') => b'0',
        Some(first) => *first,
        None => b'n',
    }
}

impl<'de, 'c> Value<'de, 'c> {
    fn with(&self, text: &'de str) -> Value<'de, 'c> {
        Value { context: self.context, text, earlier: Vec::new() }
    }

    fn is_null(&self) -> bool {
        kind_of(self.text) == b'n'
    }

    /// The members of the object. An object that comes again adds its members to the first.
    fn members(&self) -> Result<Vec<(String, &'de str)>, Fault> {
        let mut members = Vec::new();
        for text in self.earlier.iter().chain([&self.text]).filter(|text| kind_of(text) == b'{') {
            let Members(more) = serde_json::from_str(text).map_err(|err| fault(&err))?;
            members.extend(more.into_iter().map(|(key, value)| (key, value.get())));
        }
        Ok(members)
    }

    /// The members for the fields of a struct, each field once.
    fn fields(&self, names: &'static [&'static str]) -> Result<Vec<(&'static str, Value<'de, 'c>)>, Fault> {
        let mut fields: Vec<(&'static str, Value<'de, 'c>)> = Vec::new();
        for (key, text) in self.members()? {
            let exact = names.iter().find(|name| **name == key);
            let Some(name) = exact.or_else(|| names.iter().find(|name| same_key(name, &key))) else {
                continue;
            };
            if exact.is_none() {
                self.context.note(&key, name);
            }
            // Go leaves a field as it is where it reads null.
            if kind_of(text) == b'n' {
                continue;
            }
            match fields.iter_mut().find(|(field, _)| field == name) {
                None => fields.push((name, self.with(text))),
                Some((_, field)) if kind_of(field.text) == kind_of(text) => {
                    field.earlier.push(field.text);
                    field.text = text;
                }
                Some(_) => {
                    let fault: Fault = de::Error::custom("the key is given twice, with values of two types");
                    return Err(fault.under(name, self.context.offset_of(text)));
                }
            }
        }
        Ok(fields)
    }

    /// The text of the value; of an object that came several times, with the members of all.
    fn raw(&self) -> String {
        if self.earlier.is_empty() || kind_of(self.text) != b'{' {
            return self.text.to_owned();
        }
        let inner = |text: &&'de str| text[1..text.len() - 1].trim_ascii();
        let members: Vec<&str> =
            self.earlier.iter().chain([&self.text]).map(inner).filter(|inner| !inner.is_empty()).collect();
        format!("{{{}}}", members.join(","))
    }

    fn string(&self) -> Result<String, Fault> {
        serde_json::from_str(self.text).map_err(|err| fault(&err))
    }

    fn visit_number<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let number = self.text;
        if let Ok(number) = number.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = number.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = serde_json::from_str(number) {
            visitor.visit_f64(number)
        } else {
            Err(de::Error::custom("number out of range"))
        }
    }

    /// The fault of a value that is of another type, in terms of JSON: an object is not called by the name
    /// of the struct that it is read into.
    fn is_not(&self, expected: &dyn de::Expected) -> Fault {
        let text = self.string().unwrap_or_default();
        let found = match kind_of(self.text) {
            b'"' => Unexpected::Str(&text),
            b't' => Unexpected::Bool(self.text == "true"),
            b'0' => Unexpected::Other("a number"),
            b'{' => Unexpected::Other("an object"),
            b'[' => Unexpected::Other("an array"),
            _ => Unexpected::Other("null"),
        };
        de::Error::invalid_type(found, expected)
    }

    /// Any value but null, in the way that its own type requires.
    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match kind_of(self.text) {
            b'"' => visitor.visit_string(self.string()?),
            b't' => visitor.visit_bool(self.text == "true"),
            b'0' => self.visit_number(visitor),
            _ => Err(self.is_not(&visitor)),
        }
    }
}

/// A value of a simple type. Null is the zero value, as an element of a list is in Go.
macro_rules! simple {
    ($visit:ident, $zero:expr => $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            if self.is_null() { visitor.$visit($zero) } else { self.visit(visitor) }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de, '_> {
    type Error = Fault;

    simple!(visit_bool, false => deserialize_bool);
    simple!(visit_u64, 0 => deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64);
    simple!(visit_str, "" => deserialize_str deserialize_string deserialize_char deserialize_identifier);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        serde_json::Deserializer::from_str(self.text).deserialize_any(visitor).map_err(|err| fault(&err))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match kind_of(self.text) {
            b'{' | b'n' => visitor.visit_map(Fields::of(self.context, self.fields(names)?)),
            _ => Err(self.is_not(&"an object")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match kind_of(self.text) {
            b'{' | b'n' => {
                let members = self.members()?.into_iter();
                let members = members.map(|(key, text)| (key, self.with(text))).collect();
                visitor.visit_map(Fields::of(self.context, members))
            }
            _ => self.visit(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match kind_of(self.text) {
            b'[' => {
                let elements: Vec<&'de RawValue> =
                    serde_json::from_str(self.text).map_err(|err| fault(&err))?;
                visitor
                    .visit_seq(Elements { context: self.context, elements: elements.into_iter().enumerate() })
            }
            b'n' => visitor
                .visit_seq(Elements { context: self.context, elements: Vec::new().into_iter().enumerate() }),
            _ => self.visit(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == RAW {
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW, self.raw()))));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match kind_of(self.text) {
            b'"' | b'n' => {
                let variant: Option<String> = serde_json::from_str(self.text).map_err(|err| fault(&err))?;
                let variant: StringDeserializer<Fault> = variant.unwrap_or_default().into_deserializer();
                variant.deserialize_enum(name, variants, visitor)
            }
            _ => Err(self.is_not(&"a string")),
        }
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit unit_struct }
}

/// The members of an object, for serde.
struct Fields<'de, 'c, K> {
    context: &'c Context<'de>,
    members: std::vec::IntoIter<(K, Value<'de, 'c>)>,
    next: Option<(String, Value<'de, 'c>)>,
}

impl<'de, 'c, K> Fields<'de, 'c, K> {
    fn of(context: &'c Context<'de>, members: Vec<(K, Value<'de, 'c>)>) -> Fields<'de, 'c, K> {
        Fields { context, members: members.into_iter(), next: None }
    }
}

impl<'de, K: AsRef<str>> MapAccess<'de> for Fields<'de, '_, K> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((key, value)) = self.members.next() else {
            return Ok(None);
        };
        let offset = self.context.offset_of(value.text);
        let key = key.as_ref().to_owned();
        let read = seed.deserialize(key.as_str().into_deserializer());
        let read = read.map_err(|fault: Fault| fault.under(&key, offset))?;
        self.next = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, value)) = self.next.take() else {
            return Err(de::Error::custom("defect: a value without a key"));
        };
        let offset = self.context.offset_of(value.text);
        seed.deserialize(value).map_err(|fault| fault.under(&key, offset))
    }
}

/// The elements of a list, for serde.
struct Elements<'de, 'c> {
    context: &'c Context<'de>,
    elements: std::iter::Enumerate<std::vec::IntoIter<&'de RawValue>>,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((index, element)) = self.elements.next() else {
            return Ok(None);
        };
        let value = Value { context: self.context, text: element.get(), earlier: Vec::new() };
        let offset = self.context.offset_of(value.text);
        seed.deserialize(value).map(Some).map_err(|fault| fault.under(&format!("[{index}]"), offset))
    }
}
