//! Observes the cases in the given files on the plugins that `OXCNI_RECORD_FROM` names, and
//! writes what was seen into the files.

use std::error::Error;
use std::fs;

use oxcni_tests::{Case, Plugins, observe};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    for file in std::env::args_os().skip(1) {
        let record: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        let case = Case::from_json(&record);
        let mut record = case.to_json();
        record["observed"] = observe(Plugins::Recorded, &case);
        fs::write(&file, serde_json::to_string_pretty(&record)? + "\n")?;
        println!("{}", case.name);
    }
    Ok(())
}
