use std::path::PathBuf;

use serde_json::Value;

use crate::plugins::our_dir;
use crate::{Call, Host, Outcome};

/// Where the tests keep network configurations: `/etc` is the machine's.
const CONF_DIR: &str = "/run/cni/net.d";

impl Host {
    /// Writes a network configuration where [`Host::cnictl`] looks for them; `file` may be in a folder.
    pub fn configure(&self, file: &str, content: impl AsRef<[u8]>) {
        let file = self.path(CONF_DIR).join(file);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder of configurations");
        std::fs::write(file, content).expect("writing a configuration");
    }

    /// The call of cnictl with arguments that white space separates; `CNI_PATH` and `NETCONFPATH` are
    /// set.
    pub fn cnictl_call(&self, arguments: &str) -> Call<'_> {
        let call = Call::new(self, "").program(program()).env("NETCONFPATH", CONF_DIR);
        arguments.split_whitespace().fold(call, |call, argument| call.arg(argument))
    }

    /// The file of cnictl.
    pub fn cnictl_path(&self) -> PathBuf {
        program()
    }

    /// Runs cnictl.
    pub fn cnictl(&self, arguments: &str) -> Outcome {
        self.cnictl_call(arguments).run()
    }

    /// Runs cnictl for a program and returns what it printed, also where it found something wrong.
    pub fn cnictl_json(&self, arguments: &str) -> Value {
        let outcome = self.cnictl(&format!("{arguments} -o json"));
        assert!(matches!(outcome.status.code(), Some(0 | 3)), "expected an answer:\n{outcome}");
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|err| panic!("no JSON ({err}):\n{outcome}"))
    }
}

/// cnictl stands beside the folder of the plugins.
fn program() -> PathBuf {
    our_dir().with_file_name("cnictl")
}
