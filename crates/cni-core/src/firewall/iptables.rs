//! Masquerade rules that the Go plugins made with iptables, which a node still has after it
//! was moved to these plugins. Nothing is ever added here.
//!
//! For each container there is a chain `CNI-` and 24 hexadecimal digits in the table `nat`,
//! and in `POSTROUTING` a jump to it for every address, with the comment
//! `name: "NETWORK" id: "CONTAINER"`.

use std::path::PathBuf;
use std::process::Command;

use super::masquerade::hash;
use crate::spec::{Attachment, Code, ContainerId, Error, NetworkName, Result};

/// The chain of a container on a network: 28 characters, of which iptables allows no more.
fn chain_name(network: &NetworkName, container_id: &str) -> String {
    format!("CNI-{}", hash(&format!("{network}{container_id}"), 24))
}

/// Removes the chain of one container and the jumps to it.
pub(super) fn tear_down(network: &NetworkName, container_id: &ContainerId) -> Result<()> {
    let chain = chain_name(network, container_id);
    each_tool(|rules| {
        rules.iter().filter_map(|rule| jump_target(rule)).filter(|target| *target == chain).collect()
    })
}

/// Removes the chains of all containers of a network but the valid ones.
pub(super) fn collect(network: &NetworkName, valid: &[Attachment]) -> Result<()> {
    let of_network = format!(r#"name: \"{network}\" id: "#);
    let valid: Vec<String> =
        valid.iter().map(|attachment| chain_name(network, &attachment.container_id)).collect();
    each_tool(|rules| {
        let of_network = rules.iter().filter(|rule| rule.contains(&of_network));
        let targets = of_network.filter_map(|rule| jump_target(rule));
        targets.filter(|target| !valid.iter().any(|chain| chain == target)).collect()
    })
}

/// The chain of ours that a rule as `iptables -S` prints it jumps to.
fn jump_target(rule: &str) -> Option<&str> {
    let (_, target) = rule.split_once(" -j ")?;
    let target = target.split_whitespace().next()?;
    target.starts_with("CNI-").then_some(target)
}

/// For IPv4 and IPv6, where the tool is there: looks at the rules of `POSTROUTING` and removes
/// those that jump to the chains that `stale` picks, and the chains.
fn each_tool(stale: impl Fn(&[String]) -> Vec<&str>) -> Result<()> {
    let mut errors = Vec::new();
    for tool in ["iptables", "ip6tables"].into_iter().filter_map(find) {
        // An error here is a kernel without the table, in which no rule can be.
        let Ok(listed) = run(&tool, &["-S", "POSTROUTING"]) else { continue };
        let rules: Vec<String> = listed.lines().map(str::to_owned).collect();
        for chain in each_once(stale(&rules)) {
            errors.extend(remove(&tool, &rules, chain).err());
        }
    }
    Error::all(errors)
}

/// A chain has a jump for each address, and those of other chains may stand between them.
fn each_once(mut chains: Vec<&str>) -> Vec<&str> {
    chains.sort_unstable();
    chains.dedup();
    chains
}

fn remove(tool: &PathBuf, rules: &[String], chain: &str) -> Result<()> {
    for rule in rules.iter().filter(|rule| jump_target(rule) == Some(chain)) {
        let words = words(rule.strip_prefix("-A ").unwrap_or(rule));
        let mut args = vec!["-D"];
        args.extend(words.iter().map(String::as_str));
        run(tool, &args)?;
    }
    run(tool, &["-F", chain])?;
    run(tool, &["-X", chain])?;
    Ok(())
}

/// The words of a line of `iptables -S`, which quotes comments as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut chars) = (Vec::new(), None::<String>, false, line.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn find(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}

fn run(tool: &PathBuf, args: &[&str]) -> Result<String> {
    let doing = || format!("{} -t nat {}", tool.display(), args.join(" "));
    let output = Command::new(tool)
        .args(["-w", "-t", "nat"])
        .args(args)
        .output()
        .map_err(|err| Error::io(doing(), err).with_code(Code::FIREWALL))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(Code::FIREWALL, format!("{}: {}", doing(), said.lines().next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"-A POSTROUTING -s 10.1.2.3/32 -m comment --comment "name: \"net\" id: \"c1\"" -j CNI-0123456789abcdef01234567"#;

    #[test]
    fn a_listed_rule_is_read_as_a_shell_would() {
        let words = words(RULE);
        assert_eq!(words[6], "--comment");
        assert_eq!(words[7], r#"name: "net" id: "c1""#);
        assert_eq!(words.len(), 10);
        assert_eq!(jump_target(RULE), Some("CNI-0123456789abcdef01234567"));
        assert_eq!(jump_target("-A POSTROUTING -j KUBE-POSTROUTING"), None);
    }

    #[test]
    fn a_chain_is_removed_once_however_its_jumps_are_mixed() {
        assert_eq!(each_once(vec!["CNI-b", "CNI-a", "CNI-b"]), ["CNI-a", "CNI-b"]);
    }

    #[test]
    fn a_chain_has_the_name_that_the_go_plugins_give_it() {
        // printf netc1 | sha512sum
        assert_eq!(chain_name(&"net".parse().unwrap(), "c1"), "CNI-623e1c388032b20529218ecc");
    }
}
