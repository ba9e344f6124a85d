use serde_json::{Value, json};

use crate::{Call, Container, Host, Outcome};

/// A network configuration on a host, and calls of its plugin for containers.
///
/// The configuration is that of one plugin (not a list), as a runtime would pass it.
#[derive(Clone, Debug)]
pub struct Network<'h> {
    host: &'h Host,
    config: Value,
    ifname: String,
    args: String,
    path_before: Option<String>,
}

/// A configuration with the keys of `rest` in place of its own.
pub fn with_keys(mut config: Value, rest: Value) -> Value {
    for (key, value) in rest.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

/// A call that was started and not yet waited for.
#[derive(Debug)]
pub struct Running {
    child: std::process::Child,
    call: String,
}

impl Running {
    /// Waits for its end.
    pub fn wait(self) -> Outcome {
        Outcome::of(self.child, &self.call)
    }

    /// The process' id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Host {
    /// A network with this configuration; its `type` names the plugin that is called.
    pub fn network(&self, config: Value) -> Network<'_> {
        Network { host: self, config, ifname: "eth0".to_owned(), args: String::new(), path_before: None }
    }
}

impl<'h> Network<'h> {
    /// The configuration.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The same network with another configuration key: `None` takes it away.
    pub fn with(mut self, key: &str, value: impl Into<Option<Value>>) -> Self {
        let object = self.config.as_object_mut().expect("a configuration is an object");
        match value.into() {
            Some(value) => object.insert(key.to_owned(), value),
            None => object.remove(key),
        };
        self
    }

    /// The same network under another interface name than `eth0`.
    pub fn ifname(mut self, ifname: &str) -> Self {
        ifname.clone_into(&mut self.ifname);
        self
    }

    /// The same network with `CNI_ARGS`.
    pub fn args(mut self, args: &str) -> Self {
        args.clone_into(&mut self.args);
        self
    }

    /// The same network with one more folder at the front of `CNI_PATH`.
    pub fn path_before(mut self, folder: &str) -> Self {
        self.path_before = Some(folder.to_owned());
        self
    }

    /// A call with all variables of an attachment set.
    pub fn call(&self, command: &str, container: &Container<'_>) -> Call<'h> {
        let name = self.config["type"].as_str().expect("a configuration has a type");
        let mut call = Call::new(self.host, name)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container.id())
            .env("CNI_NETNS", container.netns())
            .env("CNI_IFNAME", &self.ifname)
            .config(&self.config);
        if !self.args.is_empty() {
            call = call.env("CNI_ARGS", &self.args);
        }
        match &self.path_before {
            Some(folder) => call.path_before(folder),
            None => call,
        }
    }

    /// ADD.
    pub fn add(&self, container: &Container<'_>) -> Outcome {
        self.call("ADD", container).run()
    }

    /// ADD that must succeed with the addresses of the result, without their prefix lengths.
    #[track_caller]
    pub fn add_addresses(&self, container: &Container<'_>) -> Vec<String> {
        let result = self.add(container).result();
        let ips = result["ips"].as_array().cloned().unwrap_or_default();
        ips.iter()
            .map(|ip| {
                let cidr = ip["address"].as_str().expect("an address");
                cidr.split('/').next().unwrap_or_default().to_owned()
            })
            .collect()
    }

    /// ADD, started only.
    pub fn start_add(&self, container: &Container<'_>) -> Running {
        let call = self.call("ADD", container);
        Running { child: call.start(), call: format!("{call:?}") }
    }

    /// DEL, as a runtime sends it after a restart: without `prevResult`.
    pub fn del(&self, container: &Container<'_>) -> Outcome {
        self.call("DEL", container).run()
    }

    /// DEL with the result of the ADD.
    pub fn del_after(&self, container: &Container<'_>, result: &Value) -> Outcome {
        self.clone().with("prevResult", result.clone()).call("DEL", container).run()
    }

    /// DEL, started only.
    pub fn start_del(&self, container: &Container<'_>) -> Running {
        let call = self.call("DEL", container);
        Running { child: call.start(), call: format!("{call:?}") }
    }

    /// CHECK with the result of the ADD.
    pub fn check(&self, container: &Container<'_>, result: &Value) -> Outcome {
        self.clone().with("prevResult", result.clone()).call("CHECK", container).run()
    }

    /// STATUS.
    pub fn status(&self) -> Outcome {
        self.hostwide("STATUS", &self.config)
    }

    /// GC in which these containers' attachments are valid, all others are not.
    pub fn gc(&self, valid: &[&Container<'_>]) -> Outcome {
        let valid: Vec<_> = valid
            .iter()
            .map(|container| json!({ "containerID": container.id(), "ifname": self.ifname }))
            .collect();
        let network = self.clone().with("cni.dev/valid-attachments", json!(valid));
        network.hostwide("GC", &network.config)
    }

    /// A call of a command that concerns no container.
    pub fn hostwide(&self, command: &str, config: &Value) -> Outcome {
        self.hostwide_call(command).config(config).run()
    }

    /// The same, not run yet, with the network's own configuration.
    pub fn hostwide_call(&self, command: &str) -> Call<'h> {
        let name = self.config["type"].as_str().expect("a configuration has a type");
        Call::new(self.host, name).env("CNI_COMMAND", command).config(&self.config)
    }
}
