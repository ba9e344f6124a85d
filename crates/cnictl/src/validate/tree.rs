//! JSON with the places of its keys and values.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value, and where its text begins in the whole.
pub(crate) struct Node<'t> {
    /// The text of the value.
    pub(crate) raw: &'t str,
    /// Its offset in bytes.
    pub(crate) at: usize,
    /// What is in it.
    pub(crate) content: Content<'t>,
}

/// What is in a value.
pub(crate) enum Content<'t> {
    /// The members of an object, in order.
    Object(Vec<Member<'t>>),
    /// The elements of a list.
    List(Vec<Node<'t>>),
    /// A string, a number, a boolean or null.
    Scalar,
}

/// A member of an object.
pub(crate) struct Member<'t> {
    /// Its key.
    pub(crate) key: String,
    /// The offset of the key in bytes.
    pub(crate) key_at: usize,
    /// Its value.
    pub(crate) value: Node<'t>,
}

/// A text that is not JSON: the reason, with its line and column.
pub(crate) struct Malformed {
    /// What is wrong.
    pub(crate) problem: String,
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The column in bytes, counted from 1.
    pub(crate) column: usize,
}

impl<'t> Node<'t> {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is not JSON.
    pub(crate) fn parse(text: &'t str) -> Result<Node<'t>, Malformed> {
        let malformed = |err: serde_json::Error| {
            let problem = err.to_string();
            let problem = problem.split(" at line ").next().unwrap_or(&problem).to_owned();
            Malformed { problem, line: err.line().max(1), column: err.column().max(1) }
        };
        // One pass over all of it, which bounds the depth.
        serde_json::from_str::<IgnoredAny>(text).map_err(malformed)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(malformed)?;
        Node::of(text, raw.get()).map_err(malformed)
    }

    fn of(whole: &'t str, raw: &'t str) -> serde_json::Result<Node<'t>> {
        let at = offset(whole, raw);
        let content = match raw.as_bytes().first() {
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(raw)?;
                let mut end = at + 1;
                let mut members = Vec::new();
                for (key, value) in pairs {
                    let value = Node::of(whole, value.get())?;
                    // Between the value before and this one, the first quote begins the key.
                    let key_at = end + whole[end..value.at].find('"').unwrap_or_default();
                    end = value.at + value.raw.len();
                    members.push(Member { key, key_at, value });
                }
                Content::Object(members)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw)?;
                let node = |element: &&'t RawValue| Node::of(whole, element.get());
                Content::List(elements.iter().map(node).collect::<serde_json::Result<_>>()?)
            }
            _ => Content::Scalar,
        };
        Ok(Node { raw, at, content })
    }

    /// The members, where it is an object.
    pub(crate) fn members(&self) -> &[Member<'t>] {
        match &self.content {
            Content::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements, where it is a list.
    pub(crate) fn elements(&self) -> &[Node<'t>] {
        match &self.content {
            Content::List(elements) => elements,
            _ => &[],
        }
    }

    /// The last member of a key, in any case: it is the one that counts.
    pub(crate) fn member(&self, key: &str) -> Option<&Member<'t>> {
        self.members().iter().rev().find(|member| cni_core::spec::same_key(key, &member.key))
    }

    /// The text of the string that a key has.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.member(key)?.value.raw).ok()
    }
}

fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The members of an object, in order.
struct Pairs<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'de>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_their_places() {
        let text = r#"{ "a\"b": {"c" : [1, {"d":2}]}, "e":"\"" }"#;
        let node = Node::parse(text).ok().unwrap();
        let keys: Vec<_> =
            node.members().iter().map(|member| &text[member.key_at..member.key_at + 2]).collect();
        assert_eq!(keys, ["\"a", "\"e"]);
        let list = &node.members()[0].value.members()[0].value;
        assert_eq!((list.raw, &text[list.at..list.at + 2]), (r#"[1, {"d":2}]"#, "[1"));
        assert_eq!(list.elements()[1].members()[0].key, "d");
        assert_eq!(Node::parse("{\n oops}").err().map(|err| (err.line, err.column)), Some((2, 2)));
    }
}
