//! The bytes of a netlink message: headers, attributes, and the kernel's answers.
//!
//! Requests are appended piece by piece; of answers only those attributes are looked at that
//! are asked for, and unknown ones are passed over, so that a newer kernel can't break a plugin
//! by saying more.

use nix::libc;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Attributes start at multiples of this (`NLA_ALIGNTO`).
const ALIGN: usize = 4;

/// The type field of an attribute has two flag bits (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;

/// A request being built.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A request of a type with the flags beside `NLM_F_REQUEST`, and its fixed header.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Message(bytes);
        message.pad();
        message
    }

    /// Appends an attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Message {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
        self
    }

    /// Appends an attribute with a number.
    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute with a text, terminated as the kernel wants names.
    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) -> &mut Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute that holds attributes, which `fill` appends.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let start = self.0.len();
        self.attr(kind, &[]);
        fill(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Appends bytes that are no attribute: the fixed header inside `VETH_INFO_PEER`.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Message {
        self.0.extend(bytes);
        self.pad();
        self
    }

    /// The finished bytes with a sequence number.
    pub(crate) fn finish(mut self, seq: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }
}

/// One message of an answer.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of what one read from the socket gave.
pub(crate) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        if len < HEADER || len > bytes.len() {
            return None;
        }
        let answer = Answer {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            seq: u32_at(bytes, 8)?,
            body: &bytes[HEADER..len],
        };
        bytes = &bytes[len.next_multiple_of(ALIGN).min(bytes.len())..];
        Some(answer)
    })
}

/// The attributes in a piece of a message, as type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u16_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        if len < 4 || len > bytes.len() {
            return None;
        }
        let value = &bytes[4..len];
        bytes = &bytes[len.next_multiple_of(ALIGN).min(bytes.len())..];
        Some((kind, value))
    })
}

/// What an answer of type `NLMSG_ERROR` says: the error number, 0 for success, and the
/// kernel's own words where it has some (`NLMSGERR_ATTR_MSG`, with `NETLINK_EXT_ACK`).
pub(crate) fn acknowledgement(answer: &Answer<'_>) -> (i32, String) {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    let errno = -(u32_at(answer.body, 0).unwrap_or(0) as i32);
    if answer.flags & NLM_F_ACK_TLVS == 0 {
        return (errno, String::new());
    }
    // The header of the request follows, and where it is not capped the rest of it.
    let request = u32_at(answer.body, 4).unwrap_or(0) as usize;
    let skip = 4 + if answer.flags & NLM_F_CAPPED == 0 { request.next_multiple_of(ALIGN) } else { HEADER };
    let words = attributes(answer.body.get(skip..).unwrap_or_default())
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value).to_owned());
    (errno, words.unwrap_or_default())
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A text of the kernel's, up to its terminating zero.
pub(crate) fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_built_reads_back() {
        let mut message = Message::new(16, libc::NLM_F_ACK, &[9; 16]);
        message.attr_str(3, "eth0").nest(18, |info| {
            info.attr_str(1, "veth").attr_u32(7, 5);
        });
        let bytes = message.finish(42);
        let answer = answers(&bytes).next().unwrap();
        assert_eq!((answer.kind, answer.seq, bytes.len() % 4), (16, 42, 0));
        let found: Vec<_> = attributes(&answer.body[16..]).collect();
        assert_eq!((found[0].0, text(found[0].1)), (3, "eth0"));
        let inner: Vec<_> = attributes(found[1].1).map(|(kind, _)| kind).collect();
        assert_eq!((found[1].0, inner), (18, vec![1, 7]));
    }

    proptest! {
        #[test]
        fn any_bytes_from_the_kernel_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for answer in answers(&bytes) {
                let _ = acknowledgement(&answer);
                prop_assert!(attributes(answer.body).count() <= answer.body.len());
            }
        }
    }
}
