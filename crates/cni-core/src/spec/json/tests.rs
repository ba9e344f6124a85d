use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    vlan: u16,
    list: Vec<u8>,
    texts: Vec<String>,
    ranges: Vec<Range>,
    is_gateway: bool,
    data_disk: String,
    ipam: Range,
    boxed: Option<Range>,
    map: BTreeMap<String, u8>,
    any: serde_json::Map<String, serde_json::Value>,
    raw: Option<Box<RawText>>,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Range {
    subnet: String,
    range_start: u8,
}

/// A `RawValue` that can be compared.
#[derive(Deserialize, Clone, Debug)]
#[serde(transparent)]
struct RawText(Box<RawValue>);

impl PartialEq for RawText {
    fn eq(&self, other: &RawText) -> bool {
        self.0.get() == other.0.get()
    }
}

fn range(subnet: &str, range_start: u8) -> Range {
    Range { subnet: subnet.to_owned(), range_start }
}

fn read(text: &str) -> Result<Conf> {
    from_json(text.as_bytes(), "configuration")
}

/// What Go 1.27's encoding/json makes of these texts, with a struct of the same fields. Where Go
/// differs, [`named_differences_to_go`] has the case.
#[test]
fn texts_are_read_as_go_reads_them() {
    let conf = |set: fn(&mut Conf)| {
        let mut conf = Conf::default();
        set(&mut conf);
        Ok(conf)
    };
    let refused = |problem: &'static str| Err(problem);
    let any = |conf: &mut Conf, members: &[(&str, u8)]| {
        conf.any = members.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    };
    let cases: Vec<(&str, Result<Conf, &str>)> = vec![
        (r#"{"VLAN":14}"#, conf(|c| c.vlan = 14)),
        (r#"{"vlan":1,"Vlan":2}"#, conf(|c| c.vlan = 2)),
        (r#"{"Vlan":2,"vlan":1}"#, conf(|c| c.vlan = 1)),
        (r#"{"vlan":1,"vlan":null}"#, conf(|c| c.vlan = 1)),
        (r#"{"vlan":null,"list":null,"ipam":null,"boxed":null}"#, conf(|_| {})),
        (r#"{"vlan":-0}"#, conf(|_| {})),
        (r#"{"vlan":1e3}"#, refused("vlan: invalid type: floating point `1000.0`")),
        (r#"{"vlan":1400.0}"#, refused("vlan: invalid type: floating point `1400.0`")),
        (r#"{"vlan":70000}"#, refused("vlan: invalid value: integer `70000`")),
        (r#"{"vlan":123456789012345678901234567890}"#, refused("vlan: invalid type: floating point")),
        (r#"{"vlan":"1"}"#, refused("vlan: invalid type: string \"1\"")),
        (r#"{"vlan":"x","vlan":2}"#, refused("vlan: the key is given twice")),
        (r#"{"vlan":01}"#, refused("invalid number")),
        (r#"{"isGateway":"true"}"#, refused("isGateway: invalid type: string")),
        (r#"{"isGateway":1}"#, refused("isGateway: invalid type: integer")),
        (r#"{"ipam":[]}"#, refused("ipam: invalid type: an array, expected an object")),
        (r#"{"list":{}}"#, refused("list: invalid type: an object")),
        ("{\"dataDi\u{17f}\u{212a}\":\"x\"}", conf(|c| c.data_disk = "x".to_owned())),
        ("{\"vl\u{e4}n\":7}", conf(|_| {})),
        (r#"{"\u0076l\u0061N":7}"#, conf(|c| c.vlan = 7)),
        (r#"{"unknown":{"vlan":[1]}}"#, conf(|_| {})),
        (r#"{"ipam":{"subnet":"a"},"IPAM":{"RangeStart":3}}"#, conf(|c| c.ipam = range("a", 3))),
        (r#"{"ipam":{"subnet":"a"},"ipam":null}"#, conf(|c| c.ipam = range("a", 0))),
        (r#"{"boxed":{"subnet":"a"},"Boxed":{"rangestart":2}}"#, conf(|c| c.boxed = Some(range("a", 2)))),
        (r#"{"ranges":[null,{"SUBNET":"b"}]}"#, conf(|c| c.ranges = vec![range("", 0), range("b", 0)])),
        (
            r#"{"texts":["a",null],"list":[null,1]}"#,
            conf(|c| {
                c.texts = vec!["a".to_owned(), String::new()];
                c.list = vec![0, 1];
            }),
        ),
        (r#"{"map":{"a":1},"map":{"A":2}}"#, conf(|c| c.map = [("A".into(), 2), ("a".into(), 1)].into())),
        (r#"{"map":{"a":1,"a":2,"A":3}}"#, conf(|c| c.map = [("A".into(), 3), ("a".into(), 2)].into())),
        (r#"{"dataDisk":"\ud83d"}"#, conf(|c| c.data_disk = "\u{fffd}".to_owned())),
        (r#"{"dataDisk":"\ud83dx\ude00"}"#, conf(|c| c.data_disk = "\u{fffd}x\u{fffd}".to_owned())),
        ("null", conf(|_| {})),
        (" {} ", conf(|_| {})),
        ("[]", refused("invalid type: an array, expected an object")),
        ("\"x\"", refused("invalid type: string \"x\"")),
        ("{} x", refused("trailing characters")),
        ("\u{feff}{}", refused("expected value")),
        ("", refused("EOF")),
    ];
    for (text, expected) in cases {
        match (read(text), expected) {
            (Ok(conf), Ok(expected)) => assert_eq!(conf, expected, "{text}"),
            (Err(error), Err(problem)) => assert!(error.msg().contains(problem), "{text}: {error}"),
            (read, expected) => panic!("{text}: {read:?} where {expected:?} was expected"),
        }
    }
    let mut expected = Conf::default();
    any(&mut expected, &[("a", 1), ("b", 2)]);
    assert_eq!(read(r#"{"any":{"a":1},"ANY":{"b":2}}"#).unwrap(), expected);
    let invalid = from_json::<Conf>(b"{\"dataDisk\":\"a\xe2\x82b\"}", "configuration").unwrap();
    assert_eq!(invalid.data_disk, "a\u{fffd}\u{fffd}b");
}

#[test]
fn named_differences_to_go() {
    // Go decodes the element into the earlier one: subnet "a".
    let conf = read(r#"{"ranges":[{"subnet":"a"}],"ranges":[{"rangeStart":1}]}"#).unwrap();
    assert_eq!(conf.ranges, [range("", 1)]);
    // Go empties the list, and a pointer to a struct.
    assert_eq!(read(r#"{"texts":["a"],"texts":null}"#).unwrap().texts, ["a"]);
    assert_eq!(read(r#"{"boxed":{"subnet":"a"},"boxed":null}"#).unwrap().boxed, Some(range("a", 0)));
    // Go refuses the first value.
    assert_eq!(read(r#"{"vlan":1.5,"vlan":2}"#).unwrap().vlan, 2);
}

#[test]
fn a_raw_value_is_the_text_with_the_members_of_all_objects() {
    let raw = |text| read(text).unwrap().raw.map(|raw| raw.0.get().to_owned());
    assert_eq!(raw(r#"{"raw": {"a" : 1.0}}"#).as_deref(), Some(r#"{"a" : 1.0}"#));
    assert_eq!(raw(r#"{"raw":{"a":1},"RAW":{},"raw":{ "b":2 }}"#).as_deref(), Some(r#"{"a":1,"b":2}"#));
    assert_eq!(raw(r#"{"raw":[1],"raw":[2]}"#).as_deref(), Some("[2]"));
    assert_eq!(raw(r#"{"raw":null}"#), None);
}

#[test]
fn a_key_of_another_case_is_reported_with_the_name() {
    let spelled = |text: &str| {
        let (_, spellings) = from_json_spelled::<Conf>(text.as_bytes(), "it").unwrap();
        spellings.into_iter().map(|one| format!("{} {}", one.key, one.name)).collect::<Vec<_>>()
    };
    let text =
        r#"{"VLAN":1,"vlan":1,"Ipam":{"SUBNET":"x"},"ranges":[{"SUBNET":"y"},{"subNet":"z"}],"OTHER":1}"#;
    assert_eq!(spelled(text), ["VLAN vlan", "Ipam ipam", "SUBNET subnet", "subNet subnet"]);
    assert!(spelled(r#"{"vlan":1,"map":{"VLAN":1}}"#).is_empty());
    let spellings: Vec<_> = (0..64u8)
        .map(|n| {
            let letter = |(i, letter): (usize, char)| {
                if n >> i & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            };
            format!("{:?}:\"\"", "subnet".chars().enumerate().map(letter).collect::<String>())
        })
        .collect();
    assert_eq!(spelled(&format!(r#"{{"ipam":{{{}}}}}"#, spellings.join(","))).len(), 16);
}

#[test]
fn a_syntax_error_shows_its_place() {
    let error = from_json::<Conf>(b"{\n  \"vlan\": 7\n  \"list\": []\n}", "configuration").unwrap_err();
    assert_eq!(error.code(), Code::UNDECODABLE);
    assert!(error.msg().starts_with("configuration is not valid JSON: line 3, column "), "{error}");
    assert!(error.to_string().contains(r#"<HERE>"#), "{error}");
    assert!(error.to_string().contains("list"), "{error}");
}

#[test]
fn a_wrong_type_has_its_path_and_place() {
    let text = "{\n  \"ranges\": [{}, {\"SUBNET\": true}]\n}";
    let error = read(text).unwrap_err();
    assert_eq!(error.code(), Code::INVALID_CONFIG);
    let expected =
        "configuration is not valid: line 2, column 29: ranges[1].subnet: invalid type: boolean `true`";
    assert!(error.msg().starts_with(expected), "{error}");
    assert!(error.to_string().contains(r#"SUBNET\": <HERE>true"#), "{error}");
}

#[test]
fn an_empty_string_means_absent_and_an_error_has_the_place_of_the_string() {
    #[derive(Deserialize, Debug)]
    struct Named {
        #[serde(default, deserialize_with = "none_if_empty")]
        name: Option<crate::spec::IfName>,
    }
    for absent in [r#"{}"#, r#"{"name":""}"#, r#"{"name":null}"#] {
        assert_eq!(from_json::<Named>(absent.as_bytes(), "it").unwrap().name, None);
    }
    assert_eq!(from_json::<Named>(br#"{"name":"eth0"}"#, "it").unwrap().name.as_deref(), Some("eth0"));
    let error = from_json::<Named>(b"{\n\"name\":\"a/b\"\n}", "it").unwrap_err();
    assert!(error.msg().contains("line 2, column 8: name: "), "{error}");
}

#[test]
fn a_value_without_a_type_is_bounded_in_depth() {
    let deep = |depth: usize| format!(r#"{{"any":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(&deep(100)).is_ok());
    assert!(read(&deep(100_000)).unwrap_err().msg().contains("recursion limit"));
    // A key without a field is passed over at any depth.
    assert!(read(&deep(100_000).replace("any", "none")).is_ok());
}

const WHOLE: &str = r#"{"vlan":7,"list":[1,2],"texts":["a","b"],"ranges":[{"subnet":"s","rangeStart":3}],
    "isGateway":true,"dataDisk":"d","ipam":{"subnet":"t","rangeStart":4},"boxed":{"subnet":"u"},
    "map":{"Key":1},"any":{"Key":[null,1.5]},"raw":{"Key":1}}"#;

/// The text with the letters of all keys but those of maps in upper case where a bit is set.
fn recased(text: &str, bits: &[bool]) -> String {
    let mut bits = bits.iter().cycle();
    let mut recased = String::new();
    for part in text.split_inclusive('"') {
        let is_key =
            part.len() > 2 && part.ends_with('"') && part != "Key\"" && !part.contains([':', ',', '[']);
        let change = |letter: char| match bits.next() {
            Some(true) => letter.to_ascii_uppercase(),
            _ => letter,
        };
        if is_key { recased.extend(part.chars().map(change)) } else { recased.push_str(part) }
    }
    recased
}

#[test]
fn a_value_of_another_type_is_told_in_terms_of_json() {
    #[derive(Debug, Deserialize)]
    enum Mode {}
    #[derive(Debug, Deserialize)]
    struct Inner {}
    #[derive(Debug, Deserialize)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Option<Inner>,
        #[serde(rename = "mode")]
        _mode: Option<Mode>,
        #[serde(rename = "mtu")]
        _mtu: Option<u32>,
    }
    for (text, expected) in [
        (r#"{"inner":"x"}"#, r#"inner: invalid type: string "x", expected an object"#),
        (r#"{"inner":[]}"#, "inner: invalid type: an array, expected an object"),
        (r#"{"mode":7}"#, "mode: invalid type: a number, expected a string"),
        (r#"{"mode":{}}"#, "mode: invalid type: an object, expected a string"),
        (r#"{"mtu":{}}"#, "mtu: invalid type: an object, expected u32"),
        ("true", "invalid type: boolean `true`, expected an object"),
    ] {
        let error = from_json::<Outer>(text.as_bytes(), "configuration").unwrap_err();
        assert!(error.msg().ends_with(expected), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_json::<Conf>(&bytes, "configuration");
    }

    #[test]
    fn any_change_of_a_byte_is_read_or_refused(at in 0..WHOLE.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut text = WHOLE.as_bytes().to_vec();
        text[at] = byte;
        if cut {
            text.truncate(at + 1);
        }
        let _ = from_json::<Conf>(&text, "configuration");
    }

    #[test]
    fn case_does_not_matter(bits in proptest::collection::vec(any::<bool>(), 1..40)) {
        let text = recased(WHOLE, &bits);
        prop_assert_eq!(read(&text).unwrap(), read(WHOLE).unwrap(), "{}", text);
    }

    #[test]
    fn members_in_two_objects_are_those_of_one(first in 0u8..4, second in 0u8..4) {
        let members = [r#""subnet":"a""#, r#""rangeStart":5"#];
        let object = |bits: u8| {
            let chosen: Vec<_> = (0..2).filter(|i| bits >> i & 1 == 1).map(|i| members[i]).collect();
            format!("{{{}}}", chosen.join(","))
        };
        let twice = format!(r#"{{"ipam":{},"IPAM":{}}}"#, object(first), object(second));
        let once = format!(r#"{{"ipam":{}}}"#, object(first | second));
        prop_assert_eq!(read(&twice).unwrap(), read(&once).unwrap());
    }

    // What is written without duplicates and nulls is read as serde_json reads it.
    #[test]
    fn without_peculiarities_it_agrees_with_serde_json(vlan in any::<u16>(), texts in proptest::collection::vec(".*", 0..4), key in ".*", number in any::<u8>()) {
        let text = serde_json::json!({"vlan": vlan, "texts": texts, "map": {key.clone(): number}, "any": {key: [number]}}).to_string();
        prop_assert_eq!(read(&text).unwrap(), serde_json::from_str::<Conf>(&text).unwrap());
    }
}
