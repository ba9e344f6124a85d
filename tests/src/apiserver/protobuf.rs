//! Pods in the binary form in which Go's client writes them (k8s.io/apimachinery, runtime/generated.proto).

use serde_json::{Map, Value, json};

/// What comes before a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";

/// The metadata of an object, with the fields that the server looks at; `None` where the bytes are of
/// another form.
pub(super) fn object(bytes: &[u8]) -> Option<Value> {
    let unknown = fields(bytes.strip_prefix(MAGIC)?)?;
    // runtime.Unknown.raw is the object, whose first field is its metadata.
    let metadata = fields(last(&fields(last(&unknown, 2)?)?, 1)?)?;
    let text = |number| last(&metadata, number).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut read = Map::new();
    for (number, name) in [(1, "name"), (3, "namespace"), (5, "uid"), (6, "resourceVersion")] {
        read.extend(text(number).map(|value| (name.to_owned(), value.into())));
    }
    for (number, name) in [(11, "labels"), (12, "annotations")] {
        let entries = metadata.iter().filter(|(field, _)| *field == number);
        let entries: Option<Map<String, Value>> = entries.map(|(_, bytes)| entry(bytes)).collect();
        read.insert(name.to_owned(), entries?.into());
    }
    Some(json!({ "metadata": read }))
}

/// An entry of a map of strings.
fn entry(bytes: &[u8]) -> Option<(String, Value)> {
    let fields = fields(bytes)?;
    let text = |number| String::from_utf8_lossy(last(&fields, number).unwrap_or_default()).into_owned();
    Some((text(1), text(2).into()))
}

fn last<'b>(fields: &[(u64, &'b [u8])], number: u64) -> Option<&'b [u8]> {
    fields.iter().rev().find(|(field, _)| *field == number).map(|(_, bytes)| *bytes)
}

/// The fields of a message that have a length; numbers are left out.
fn fields(mut rest: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => drop(varint(&mut rest)?),
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                fields.push((tag >> 3, value));
                rest = after;
            }
            _ => return None,
        }
    }
    Some(fields)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
