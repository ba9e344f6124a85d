//! The test API server as a program, for measuring multus: `apiserver OBJECTS KUBECONFIG`.
//!
//! Listens on the loopback of the network namespace that it is started in, holds the objects of the
//! JSON array in the file `OBJECTS`, and writes a kubeconfig with what MicroShift grants multus. A
//! line with its address on standard output says that it is ready; it ends with its standard input.

use std::error::Error;
use std::fs;
use std::io::{Read, stdin};
use std::net::TcpListener;

use oxcni_tests::apiserver::{ApiServer, Proof, Protocols, Role, Trust};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let [objects, kubeconfig] = &words[..] else {
        return Err("takes OBJECTS KUBECONFIG".into());
    };
    let objects: Vec<Value> = serde_json::from_slice(&fs::read(objects)?)?;
    let api = ApiServer::serve(TcpListener::bind("127.0.0.1:0")?, Protocols::Http2);
    for object in objects {
        api.create(object);
    }
    let user = api.user("multus", Role::MicroShift);
    fs::write(kubeconfig, api.kubeconfig(&user, &Proof::Certificate, Trust::Authority))?;
    println!("{}", api.url());
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
