//! Options of DHCP as configurations name them.

use cni_core::spec::{Error, Result};
use dhcp_client::v4::code;

/// Names of options that the Go plugin knows too.
const NAMES: [(&str, u8); 6] = [
    ("dhcp-client-identifier", code::CLIENT_ID),
    ("subnet-mask", code::SUBNET_MASK),
    ("routers", code::ROUTER),
    ("host-name", code::HOST_NAME),
    ("user-class", code::USER_CLASS),
    ("vendor-class-identifier", code::VENDOR_CLASS),
];

/// What is requested of every server; RFC 3442 wants 121 before 33 and 3.
pub(crate) const REQUESTED: [u8; 8] = [
    code::SUBNET_MASK,
    code::CLASSLESS_STATIC_ROUTE,
    code::ROUTER,
    code::STATIC_ROUTE,
    code::DOMAIN_NAME_SERVER,
    code::DOMAIN_NAME,
    code::DOMAIN_SEARCH,
    code::INTERFACE_MTU,
];

/// The number of an option: by name, or in decimal.
///
/// # Errors
/// Code 7, with the names that are known.
pub(crate) fn number(place: &str, text: &str) -> Result<u8> {
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    text.parse().map_err(|_| {
        let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        Error::invalid_config(format!("{place}: {text:?} is not an option of DHCP"))
            .details(format!("options are numbers from 1 to 254, or {}", known.join(", ")))
    })
}

/// Refuses options that the client itself sends, and values that can't be encoded.
///
/// # Errors
/// Code 7, with the option and why.
pub(crate) fn can_be_provided(place: &str, number: u8, value: &[u8]) -> Result<()> {
    let why = match number {
        code::PAD | code::END => "marks places of a message and has no value",
        code::REQUESTED_ADDRESS | code::OVERLOAD | code::MESSAGE_TYPE | code::SERVER_ID => {
            "is set by the client itself"
        }
        _ if value.len() > 255 => "has a value longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(Error::invalid_config(format!("{place}: option {number} can't be provided: it {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_names_and_numbers() {
        assert_eq!(number("p", "host-name").unwrap(), 12);
        assert_eq!(number("p", "121").unwrap(), 121);
        for bad in ["", "256", "-1", "hostname", "0x1"] {
            let error = number("ipam.request[0].option", bad).unwrap_err();
            assert_eq!(error.code().0, 7);
            assert!(error.to_string().contains("ipam.request[0].option"), "{error}");
        }
    }

    #[test]
    fn what_the_client_says_itself_cannot_be_provided() {
        for number in [0, 50, 52, 53, 54, 255] {
            assert!(can_be_provided("p", number, b"x").is_err(), "{number}");
        }
        assert!(can_be_provided("p", 60, &[0; 256]).is_err());
        assert!(can_be_provided("p", 60, &[0; 255]).is_ok());
    }
}
