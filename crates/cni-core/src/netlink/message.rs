//! The bytes of a netlink message: headers, attributes, and the kernel's answers.
//!
//! A request is built attribute by attribute. Of an answer, only the attributes that the caller
//! needs are read, and the others are ignored, so that what a newer kernel or a foreign device adds
//! breaks nothing.

use nix::libc;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Attributes start at multiples of this (`NLA_ALIGNTO`).
const ALIGN: usize = 4;

/// The type field of an attribute has two flag bits (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;

/// The flag of an attribute that holds attributes, which newer subsystems require (`NLA_F_NESTED`).
pub(crate) const NESTED: u16 = 0x8000;

/// A request that is being built.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// The length of an attribute has 16 bits, and one of this message is longer.
    too_long: bool,
}

/// A request has an attribute that is longer than its length field can tell, or is so itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLong;

/// An answer ends inside of a message, or has a length that can't be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

impl Message {
    /// A request of a type with its flags beside `NLM_F_REQUEST`, and its fixed header.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Message { bytes, too_long: false };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Message {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.close(start);
        self
    }

    /// Appends an attribute with a number.
    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute with a number in network byte order.
    pub(crate) fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Message {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends an attribute with a text, terminated as the kernel requires of names.
    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) -> &mut Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute that holds attributes, which `fill` appends.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let start = self.bytes.len();
        self.attr(kind, &[]);
        fill(self);
        self.close(start);
        self
    }

    /// Appends bytes that are not an attribute: the fixed header inside `VETH_INFO_PEER`.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Message {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    /// Requests an acknowledgement.
    pub(crate) fn request_acknowledgement(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | libc::NLM_F_ACK as u16;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The finished bytes with a sequence number.
    ///
    /// # Errors
    /// When an attribute or the message is longer than its length field can tell.
    pub(crate) fn finish(&self, seq: u32) -> Result<Vec<u8>, TooLong> {
        let len = u32::try_from(self.bytes.len()).map_err(|_| TooLong)?;
        if self.too_long {
            return Err(TooLong);
        }
        let mut bytes = self.bytes.clone();
        bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        bytes[8..12].copy_from_slice(&seq.to_ne_bytes());
        Ok(bytes)
    }

    /// Writes the length of the attribute that starts at an offset and ends here.
    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(len) => self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

/// One message of an answer.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. After one that is malformed there is nothing to be read.
pub(crate) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Result<Answer<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let answer = first_answer(bytes).ok_or(Malformed);
        let end = answer.as_ref().map_or(bytes.len(), |answer| HEADER + answer.body.len());
        bytes = &bytes[end.next_multiple_of(ALIGN).min(bytes.len())..];
        Some(answer)
    })
}

fn first_answer(bytes: &[u8]) -> Option<Answer<'_>> {
    let len = u32_at(bytes, 0)? as usize;
    Some(Answer {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        seq: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..len)?,
    })
}

/// The attributes in a part of a message, as type and value, up to one that is malformed.
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

/// The error number in an answer of type `NLMSG_ERROR` or `NLMSG_DONE`, 0 for success, and the
/// kernel message where there is one (`NLMSGERR_ATTR_MSG`, with `NETLINK_EXT_ACK`).
pub(crate) fn acknowledgement(answer: &Answer<'_>) -> Result<(i32, String), Malformed> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    let errno = (u32_at(answer.body, 0).ok_or(Malformed)? as i32).wrapping_neg();
    if answer.flags & NLM_F_ACK_TLVS == 0 {
        return Ok((errno, String::new()));
    }
    // The header of the request follows, and the rest of it too unless that was cut off.
    let request = u32_at(answer.body, 4).unwrap_or(0) as usize;
    let skip = 4 + if answer.flags & NLM_F_CAPPED == 0 { request.next_multiple_of(ALIGN) } else { HEADER };
    let kernel_message = attributes(answer.body.get(skip..).unwrap_or_default())
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value).to_owned());
    Ok((errno, kernel_message.unwrap_or_default()))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).map(u32::from_be)
}

/// A text from the kernel, up to its terminating zero.
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
        let bytes = message.finish(42).unwrap();
        let answer = answers(&bytes).next().unwrap().unwrap();
        assert_eq!((answer.kind, answer.seq, bytes.len() % 4), (16, 42, 0));
        let found: Vec<_> = attributes(&answer.body[16..]).collect();
        assert_eq!((found[0].0, text(found[0].1)), (3, "eth0"));
        let inner: Vec<_> = attributes(found[1].1).map(|(kind, _)| kind).collect();
        assert_eq!((found[1].0, inner), (18, vec![1, 7]));
    }

    #[test]
    fn a_length_that_does_not_fit_its_field_is_an_error() {
        let mut longest = Message::new(16, 0, &[]);
        longest.attr(1, &[0; 65531]);
        assert_eq!(longest.finish(1).unwrap().len(), 16 + 65536);
        longest.attr(2, &[0; 65532]);
        assert_eq!(longest.finish(1), Err(TooLong));

        let mut nested = Message::new(16, 0, &[]);
        nested.nest(1, |inner| {
            (0..20).for_each(|kind| {
                inner.attr(kind, &[0; 4000]);
            });
        });
        assert_eq!(nested.finish(1), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_from_the_kernel_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for answer in answers(&bytes).flatten() {
                let _ = acknowledgement(&answer);
                prop_assert!(attributes(answer.body).count() <= answer.body.len());
            }
        }
    }
}
