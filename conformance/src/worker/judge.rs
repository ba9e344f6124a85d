//! Compares how a call ended with what is expected of every call and of this one.

use super::stop::Stop;
use super::{CallRecord, Failure, shape};
use crate::case::{Call, Outcome};
use crate::pattern::{self, Difference};
use crate::version::Version;
use serde_json::Value;

/// What is demanded of every call comes first: it ends, by itself, and prints at most one JSON
/// document, which is an error object exactly if the exit code is not 0.
pub(crate) fn judge(call: &Call, record: &CallRecord, version: Version, ipam: bool) -> Result<(), Stop> {
    if let Some(waits) = &record.hung_in {
        return Err(fails(
            format!("{} did not end within {} ms and was killed", call.command, record.milliseconds),
            "an end",
            format!("it waits in: {waits}"),
        ));
    }
    if let Some(signal) = record.signal {
        return Err(fails(
            format!("{} was ended by a signal", call.command),
            "an exit code",
            format!("signal {signal}"),
        ));
    }
    let document = document(call, record)?;
    let failed = record.exit != Some(0);
    match call.expect.outcome {
        Outcome::Success if failed => {
            return Err(fails(format!("{} failed", call.command), "exit code 0", ending(record)));
        }
        Outcome::Failure if !failed => {
            return Err(fails(format!("{} succeeded", call.command), "a failure", ending(record)));
        }
        _ => {}
    }
    if failed {
        error_object(call, record, document.as_ref())?;
    } else {
        result(call, record, document.as_ref(), version, ipam)?;
    }
    rest(call, record)
}

/// The one JSON document on standard output, if anything is there.
fn document(call: &Call, record: &CallRecord) -> Result<Option<Value>, Stop> {
    let mut documents = serde_json::Deserializer::from_str(&record.stdout).into_iter::<Value>();
    let first = match documents.next() {
        None => return Ok(None),
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            let message = format!("{} printed something that is not JSON: {error}", call.command);
            return Err(fails(message, "one JSON document", quoted(&record.stdout)));
        }
    };
    if !record.stdout[documents.byte_offset()..].trim().is_empty() {
        let message = format!("{} printed more than one JSON document", call.command);
        return Err(fails(message, "one JSON document", quoted(&record.stdout)));
    }
    Ok(Some(first))
}

/// Section 5: what an error object must have, and what this case expects of it.
fn error_object(call: &Call, record: &CallRecord, document: Option<&Value>) -> Result<(), Stop> {
    let Some(error) = document else {
        let message = format!("{} failed without an error object on standard output", call.command);
        return Err(fails(message, "an object with code and msg", ending(record)));
    };
    let form = serde_json::json!({"code": {"$is": "uint", "$not": 0}, "msg": {"$regex": "."}});
    let differs = |message: &str| {
        let message = format!("{}: {message}", call.command);
        move |difference: Difference| Stop::differs(message, difference)
    };
    pattern::compare(&form, error).map_err(differs("the error object has another form"))?;
    if let Some(code) = &call.expect.code {
        let codes = serde_json::json!({"code": {"$oneOf": code}});
        pattern::compare(&codes, error).map_err(|difference| {
            let msg = format!("{} (msg: {}, details: {})", difference.actual, error["msg"], error["details"]);
            Stop::differs(
                format!("{}: another error code is expected", call.command),
                Difference { expected: code.to_string(), actual: msg, ..difference },
            )
        })?;
    }
    match &call.expect.error {
        Some(expected) => pattern::compare(expected, error).map_err(differs("the error object differs")),
        None => Ok(()),
    }
}

/// What a success must print, and what this case expects of it.
fn result(
    call: &Call,
    record: &CallRecord,
    document: Option<&Value>,
    version: Version,
    ipam: bool,
) -> Result<(), Stop> {
    let differs = |message: &str| {
        let message = format!("{}: {message}", call.command);
        move |difference: Difference| Stop::differs(message, difference)
    };
    if let Some(Value::Object(object)) = document
        && object.get("code").is_some_and(Value::is_number)
        && object.contains_key("msg")
    {
        let message = format!("{} printed an error object, but its exit code is 0", call.command);
        return Err(fails(message, "another exit code", quoted(&record.stdout)));
    }
    let prints = matches!(call.command.as_str(), "ADD" | "VERSION");
    if prints && !document.is_some_and(Value::is_object) {
        let message = format!("{} succeeded without a result", call.command);
        return Err(fails(message, "an object on standard output", ending(record)));
    }
    let document = document.unwrap_or(&Value::Null);
    if call.expect.well_formed {
        shape::check(document, version, ipam)
            .map_err(differs("the result has another form than its version"))?;
    }
    match &call.expect.result {
        Some(expected) => pattern::compare(expected, document).map_err(differs("the result differs")),
        None => Ok(()),
    }
}

/// What does not depend on the exit code.
fn rest(call: &Call, record: &CallRecord) -> Result<(), Stop> {
    if call.expect.silent && !record.stdout.trim().is_empty() {
        let message = format!("{} printed something", call.command);
        return Err(fails(message, "nothing on standard output", quoted(&record.stdout)));
    }
    if let Some(expression) = &call.expect.stderr {
        let compiled = regex_lite::Regex::new(expression).map_err(|error| Stop::Broken(error.to_string()))?;
        if !compiled.is_match(&record.stderr) {
            let message = format!("{}: standard error lacks something", call.command);
            return Err(fails(message, format!("/{expression}/"), quoted(&record.stderr)));
        }
    }
    if let Some(seconds) = call.expect.within
        && record.milliseconds as f64 > seconds * 1000.0
    {
        let message = format!("{} took too long", call.command);
        return Err(fails(message, format!("at most {seconds} s"), format!("{} ms", record.milliseconds)));
    }
    Ok(())
}

fn fails(message: String, expected: impl Into<String>, actual: String) -> Stop {
    Stop::Failed(Box::new(Failure { message, expected: expected.into(), actual, ..Failure::default() }))
}

fn ending(record: &CallRecord) -> String {
    let exit = record.exit.unwrap_or(-1);
    if record.stdout.trim().is_empty() {
        format!("exit code {exit}, nothing on standard output")
    } else {
        format!("exit code {exit}: {}", quoted(&record.stdout))
    }
}

/// Output on one line, cut where it is long.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(600) {
        Some((cut, _)) => format!("{} …", &line[..cut]),
        None => line,
    }
}
