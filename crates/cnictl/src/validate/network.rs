//! One network: a list of plugins, or a single one.

use std::path::{Path, PathBuf};

use cni_core::delegate;
use cni_core::keys::{COMMON, Key, LIST};
use cni_core::request::{Command, Request};
use cni_core::spec::{Attachment, CniArgs, Error, NetworkName, PluginType, Result};
use cni_runtime::{Inherited, Invocation, NetworkConf, PluginConf, load};

use super::known::{self, Known};
use super::source::{Place, Source};
use super::{Finding, links, tree, unknown};
use crate::node::Node;

/// What errors call a configuration: findings have its file.
const WHAT: &str = "the configuration";

/// Where a configuration comes from.
pub(crate) enum Origin<'o> {
    /// A file in this folder, which may have a folder of further plugins beside it.
    File(&'o Path),
    /// A definition of this name, or another configuration: a name may be absent.
    Inside(Option<NetworkName>),
}

/// All that there is to say of a configuration.
pub(crate) fn check(node: &Node, source: &Source<'_>, origin: &Origin<'_>) -> Vec<Finding> {
    match parse(source) {
        Ok(root) => check_node(node, source, &root, origin),
        Err(finding) => vec![finding],
    }
}

fn parse<'s>(source: &'s Source<'_>) -> std::result::Result<tree::Node<'s>, Finding> {
    tree::Node::parse(&source.text).map_err(|err| {
        let place = source.place_in_text(err.line, err.column);
        Finding::wrong(place, format!("not valid JSON: {}", err.problem))
    })
}

fn check_node(node: &Node, source: &Source<'_>, root: &tree::Node<'_>, origin: &Origin<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_list = root.text("type").is_none_or(|kind| kind.is_empty());
    let nodes: Vec<&tree::Node<'_>> = match root.member("plugins") {
        Some(plugins) if is_list => plugins.value.elements().iter().collect(),
        _ if is_list => Vec::new(),
        _ => vec![root],
    };
    if is_list {
        report_odd(source, root, &[LIST], &mut findings);
    }
    let network = match read(source, root, origin) {
        Ok(network) => network,
        Err(err) => {
            findings.push(of_error(source, root, &err));
            // Mistakes in the keys of its plugins are reported all the same.
            nodes.iter().for_each(|plugin| keys_of_plugin(source, plugin, is_list, &mut findings));
            return findings;
        }
    };
    let calls = calls(node, &network).unwrap_or_default();
    for (plugin, request) in nodes.iter().zip(&calls) {
        keys_of_plugin(source, plugin, is_list, &mut findings);
        Plugin { node, source, plugin, request }.check(&mut findings);
    }
    if let Origin::File(folder) = origin {
        match load::files_beside(&network, WHAT, folder) {
            Ok(files) => {
                files.into_iter().for_each(|file| findings.extend(check_beside(node, &network, file)))
            }
            Err(err) => findings.push(of_error(source, root, &err)),
        }
    }
    findings
}

/// All that there is to say of a file beside a list, which has one more plugin of it.
fn check_beside(node: &Node, list: &NetworkConf, file: PathBuf) -> Vec<Finding> {
    let findings = match super::read(&file) {
        Ok(text) => check_plugin(node, list, &Source::whole(&text)),
        Err(err) => vec![Finding::wrong(None, err.to_string())],
    };
    findings.into_iter().map(|finding| Finding { file: Some(file.clone()), ..finding }).collect()
}

fn check_plugin(node: &Node, list: &NetworkConf, source: &Source<'_>) -> Vec<Finding> {
    let root = match parse(source) {
        Ok(root) => root,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    keys_of_plugin(source, &root, true, &mut findings);
    match PluginConf::parse(source.text.as_bytes(), WHAT) {
        Ok(plugin) => {
            let mut list = list.clone();
            list.push(plugin);
            if let Some(request) = calls(node, &list).unwrap_or_default().last() {
                Plugin { node, source, plugin: &root, request }.check(&mut findings);
            }
        }
        Err(err) => findings.push(of_error(source, &root, &err)),
    }
    findings
}

fn read(source: &Source<'_>, root: &tree::Node<'_>, origin: &Origin<'_>) -> Result<NetworkConf> {
    // From the start of the text, so that line and column of an error are those of the text.
    let text = &source.text[..root.at + root.raw.len()];
    let blank: String = text[..root.at].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    let text = format!("{blank}{}", &text[root.at..]);
    match origin {
        Origin::File(_) => NetworkConf::parse_without_folder(text.as_bytes(), WHAT, &Inherited::default()),
        Origin::Inside(name) => {
            let inherited = Inherited { name: name.clone(), version: None };
            NetworkConf::parse(text.as_bytes(), WHAT, &inherited)
        }
    }
}

/// The calls of ADD for some container.
fn calls(node: &Node, network: &NetworkConf) -> Result<Vec<Request>> {
    let invocation = Invocation {
        attachment: Attachment { container_id: "validate".parse()?, ifname: "eth0".parse()? },
        netns: Some("/proc/1/ns/net".into()),
        args: CniArgs::default(),
        capability_args: Default::default(),
    };
    node.runtime.calls(Command::Add, network, &invocation)
}

fn keys_of_plugin(source: &Source<'_>, plugin: &tree::Node<'_>, in_list: bool, findings: &mut Vec<Finding>) {
    let Some(known) = plugin.text("type").and_then(|name| known::find(&name)) else { return };
    let ipam_type = plugin.member("ipam").and_then(|ipam| ipam.value.text("type"));
    let ipam = ipam_type.as_deref().and_then(known::find);
    let mut tables: Vec<&[Key]> = vec![COMMON, known.keys];
    if !in_list {
        tables.push(LIST);
    }
    // The keys of an IPAM plugin that this project does not have are not known.
    const FOREIGN_IPAM: &[Key] = &[Key::new("ipam", cni_core::keys::Value::Any, "", "")];
    tables.push(match &ipam {
        Some(ipam) => ipam.keys,
        None if ipam_type.is_some() => FOREIGN_IPAM,
        None => &[],
    });
    report_odd(source, plugin, &tables, findings);
}

fn report_odd(source: &Source<'_>, node: &tree::Node<'_>, tables: &[&[Key]], findings: &mut Vec<Finding>) {
    let mut odd = Vec::new();
    unknown::keys(node, tables, &mut odd);
    findings.extend(
        odd.into_iter().map(|odd| Finding {
            is_wrong: !odd.is_read,
            ..Finding::wrong(source.place(odd.at), odd.message)
        }),
    );
}

/// One plugin of a network.
struct Plugin<'p, 't> {
    node: &'p Node,
    source: &'p Source<'p>,
    plugin: &'p tree::Node<'t>,
    request: &'p Request,
}

impl Plugin<'_, '_> {
    fn check(&self, findings: &mut Vec<Finding>) {
        let Some(plugin_type) = &self.request.conf.plugin_type else { return };
        self.installed("type", self.plugin, plugin_type, findings);
        let known = known::find(plugin_type);
        match &known {
            Some(known) => self.values(known, findings),
            None => {
                let message =
                    format!("{plugin_type} is not a plugin of this project: its keys are not known");
                findings.push(Finding::remark(self.place("type"), message));
            }
        }
        if let Some(ipam) = &self.request.conf.ipam {
            self.ipam(ipam, findings);
        }
        for (key, problem) in links::problems(plugin_type, self.plugin) {
            findings.push(Finding::wrong(self.place(key), problem));
        }
        if plugin_type.as_str() == "multus" {
            self.delegates(findings);
        }
    }

    fn ipam(&self, ipam: &PluginType, findings: &mut Vec<Finding>) {
        if let Some(member) = self.plugin.member("ipam") {
            self.installed("type", &member.value, ipam, findings);
        }
        match known::find(ipam) {
            Some(known) if known.is_ipam() => {
                // A runtime may give the ranges at ADD.
                let is_given_later =
                    self.plugin.member("capabilities").is_some_and(|c| c.value.member("ipRanges").is_some());
                if !is_given_later {
                    self.values(&known, findings);
                }
            }
            Some(_) => {
                let message = format!("{ipam} is not an IPAM plugin");
                findings.push(Finding::wrong(self.place("ipam"), message));
            }
            None => {}
        }
    }

    /// The values, as the plugin itself reads them.
    fn values(&self, known: &Known, findings: &mut Vec<Finding>) {
        let mut request = self.request.clone();
        let masked = self.source.masked(self.plugin.at, self.plugin.raw.len());
        let has_places = masked.is_some();
        if let Some(masked) = masked {
            request.text = masked;
        }
        if let Err(err) = (known.config)(&request) {
            let (place, message) = split(&err);
            let place = place.filter(|_| has_places).unwrap_or_else(|| self.source.place(self.plugin.at));
            findings.push(Finding::wrong(place, message));
        }
    }

    fn delegates(&self, findings: &mut Vec<Finding>) {
        let Some(delegates) = self.plugin.member("delegates") else { return };
        let name = self.request.conf.name.clone();
        for delegate in delegates.value.elements() {
            findings.extend(check_node(
                self.node,
                self.source,
                delegate,
                &Origin::Inside(Some(name.clone())),
            ));
        }
    }

    fn installed(
        &self,
        key: &str,
        object: &tree::Node<'_>,
        plugin_type: &PluginType,
        findings: &mut Vec<Finding>,
    ) {
        if let Err(err) = delegate::find(plugin_type, &self.node.runtime.path) {
            let at = object.member(key).map_or(object.at, |member| member.value.at);
            findings.push(Finding::wrong(self.source.place(at), err.to_string()));
        }
    }

    fn place(&self, key: &str) -> Place {
        self.source.place(self.plugin.member(key).map_or(self.plugin.at, |member| member.value.at))
    }
}

/// The finding for an error that has line and column of the configuration.
fn of_error(source: &Source<'_>, root: &tree::Node<'_>, err: &Error) -> Finding {
    let (place, message) = split(err);
    let place = match place {
        Some(Place { line, column }) => source.place_in_text(line, column),
        None => source.place(root.at),
    };
    Finding::wrong(place, message)
}

/// The place that the message of an error names ("line 3, column 7: "), and the message without it.
fn split(err: &Error) -> (Option<Place>, String) {
    let text = err.to_string();
    let parse = || {
        let (before, rest) = text.split_once("line ")?;
        let (line, rest) = rest.split_once(", column ")?;
        let (column, rest) = rest.split_once(": ")?;
        let place = Place { line: line.parse().ok()?, column: column.parse().ok()? };
        Some((place, format!("{before}{rest}")))
    };
    match parse() {
        Some((place, message)) => (Some(place), message),
        None => (None, text),
    }
}
