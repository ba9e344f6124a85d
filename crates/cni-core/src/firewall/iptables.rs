//! Masquerade rules that the Go plugins made with iptables, which a node still has after it
//! was moved to these plugins. None is ever added here.
//!
//! For each container there is a chain `CNI-` and 24 hexadecimal digits in the table `nat`,
//! and in `POSTROUTING` a jump to it for every address, with the comment
//! `name: "NETWORK" id: "CONTAINER"`.
//!
//! iptables keeps them in nf_tables or, where its older variant is used, in tables of its own (legacy).
//! Those in nf_tables are looked up and deleted by netlink. Those in legacy tables only the program
//! can change; it is executed only where the kernel lists such a table.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{change, hash};
use crate::netfilter::{Chain, Expression, Failure, Family, Netfilter, Rule, Table, Transaction};
use crate::spec::{Attachment, Code, ContainerId, Error, NetworkName, Result};

/// Where iptables-nft keeps the rules.
const TABLES: [Table<'_>; 2] =
    [Table { family: Family::Ip, name: "nat" }, Table { family: Family::Ip6, name: "nat" }];

const POSTROUTING: &str = "POSTROUTING";

/// The legacy variants for IPv4 and IPv6: the kernel's list of their tables, and the programs.
const LEGACY: [(&str, [&str; 2]); 2] = [
    ("/proc/thread-self/net/ip_tables_names", ["iptables-legacy", "iptables"]),
    ("/proc/thread-self/net/ip6_tables_names", ["ip6tables-legacy", "ip6tables"]),
];

/// The chain of a container on a network: 28 characters, the most that iptables allows.
fn chain_name(network: &NetworkName, container_id: &str) -> String {
    format!("CNI-{}", hash(&format!("{network}{container_id}"), 24))
}

/// Removes the chain of one container and the jumps to it.
pub(super) fn tear_down(network: &NetworkName, container_id: &ContainerId) -> Result<()> {
    let chain = chain_name(network, container_id);
    let in_nf_tables = change(|netfilter| {
        for table in TABLES {
            if netfilter.has_chain(&table.chain(&*chain))? {
                delete(netfilter, table, |rule| rule.jump_target() == Some(&chain), vec![chain.clone()])?;
            }
        }
        Ok(())
    });
    let in_legacy = each_legacy(|rules| {
        rules.iter().filter_map(|rule| jump_target(rule)).filter(|target| *target == chain).collect()
    });
    Error::all(in_nf_tables.err().into_iter().chain(in_legacy.err()).collect())
}

/// Whether a container has rules.
pub(super) fn has_chain(network: &NetworkName, container_id: &ContainerId) -> Result<bool> {
    let chain = chain_name(network, container_id);
    let in_nf_tables = change(|netfilter| {
        Ok(netfilter.has_chain(&TABLES[0].chain(&*chain))?
            || netfilter.has_chain(&TABLES[1].chain(&*chain))?)
    })?;
    let mut found = in_nf_tables.unwrap_or(false);
    for tool in legacy()? {
        found |= run(&tool, &["-S", POSTROUTING])?.lines().any(|rule| jump_target(rule) == Some(&chain));
    }
    Ok(found)
}

/// Removes the chains of all containers of a network but the valid ones.
pub(super) fn collect(network: &NetworkName, valid: &[Attachment]) -> Result<()> {
    let valid: Vec<String> =
        valid.iter().map(|attachment| chain_name(network, &attachment.container_id)).collect();
    let is_stale = |target: &str| target.starts_with("CNI-") && !valid.iter().any(|chain| chain == target);

    let of_network = format!(r#"name: "{network}" id: "#);
    let in_nf_tables = change(|netfilter| {
        for table in TABLES {
            let stale = |rule: &Rule| {
                rule.jump_target().is_some_and(is_stale)
                    && comment(rule).is_some_and(|comment| comment.starts_with(&of_network))
            };
            let rules = netfilter.rules(&table.chain(POSTROUTING), |_| true)?;
            let chains = rules.iter().filter(|rule| stale(rule)).filter_map(Rule::jump_target);
            let chains = each_once(chains.map(str::to_owned).collect());
            delete(netfilter, table, stale, chains)?;
        }
        Ok(())
    });

    let of_network = format!(r#"name: \"{network}\" id: "#);
    let in_legacy = each_legacy(|rules| {
        let of_network = rules.iter().filter(|rule| rule.contains(&of_network));
        of_network.filter_map(|rule| jump_target(rule)).filter(|target| is_stale(target)).collect()
    });
    Error::all(in_nf_tables.err().into_iter().chain(in_legacy.err()).collect())
}

/// Deletes rules of `POSTROUTING`, and chains that no other rule jumps to.
fn delete(
    netfilter: &Netfilter,
    table: Table<'_>,
    stale: impl Fn(&Rule) -> bool,
    chains: Vec<String>,
) -> Result<(), Failure> {
    let postrouting: Chain<'_> = table.chain(POSTROUTING);
    let mut transaction = Transaction::new();
    for rule in netfilter.rules(&postrouting, |_| true)?.iter().filter(|rule| stale(rule)) {
        transaction.delete_rule(&postrouting, rule);
    }
    for chain in chains {
        transaction.delete_chain(&table.chain(chain));
    }
    netfilter.commit(&transaction, "removing masquerade rules of iptables")
}

/// The comment of a rule of iptables-nft: a match of iptables, or as of nft(8).
fn comment(rule: &Rule) -> Option<&str> {
    let matches = rule.expressions.iter().find_map(|expression| match expression {
        Expression::Xtables { name, info } if name == "comment" => {
            let end = info.iter().position(|byte| *byte == 0).unwrap_or(info.len());
            std::str::from_utf8(&info[..end]).ok()
        }
        _ => None,
    });
    matches.or(rule.comment.as_deref())
}

/// The chain of a Go plugin to which a rule as `iptables -S` prints it jumps.
fn jump_target(rule: &str) -> Option<&str> {
    let (_, target) = rule.split_once(" -j ")?;
    let target = target.split_whitespace().next()?;
    target.starts_with("CNI-").then_some(target)
}

/// For each legacy table: removes those rules of `POSTROUTING` that jump to the chains which `stale`
/// picks, and the chains.
fn each_legacy(stale: impl Fn(&[String]) -> Vec<&str>) -> Result<()> {
    let mut errors = Vec::new();
    for tool in legacy()? {
        match run(&tool, &["-S", POSTROUTING]) {
            Ok(listed) => {
                let rules: Vec<String> = listed.lines().map(str::to_owned).collect();
                for chain in each_once(stale(&rules)) {
                    errors.extend(remove(&tool, &rules, chain).err());
                }
            }
            Err(err) => errors.push(err),
        }
    }
    Error::all(errors)
}

/// The programs for the legacy tables that the kernel has.
fn legacy() -> Result<Vec<PathBuf>> {
    let mut tools = Vec::new();
    for (names, programs) in LEGACY {
        if has_nat(Path::new(names))? {
            tools.extend(programs.into_iter().filter_map(find).find(is_legacy));
        }
    }
    Ok(tools)
}

/// Whether a list of the kernel has the table `nat`. A kernel without legacy tables has no list.
fn has_nat(names: &Path) -> Result<bool> {
    match std::fs::read_to_string(names) {
        Ok(names) => Ok(names.lines().any(|name| name == "nat")),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
        Err(err) => {
            let reading = format!("reading the names of iptables' tables in {}", names.display());
            Err(Error::io(reading, err).with_code(Code::FIREWALL))
        }
    }
}

/// Whether a program is of the legacy variant: the other one names nf_tables in its version, and
/// does not see these tables.
fn is_legacy(program: &PathBuf) -> bool {
    let version = Command::new(program).arg("-V").output();
    version.is_ok_and(|output| {
        output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("nf_tables")
    })
}

/// A chain has a jump for each address, and those of other chains may stand between them.
fn each_once<T: Ord>(mut chains: Vec<T>) -> Vec<T> {
    chains.sort_unstable();
    chains.dedup();
    chains
}

fn remove(tool: &PathBuf, rules: &[String], chain: &str) -> Result<()> {
    for rule in rules.iter().filter(|rule| jump_target(rule) == Some(chain)) {
        let arguments = arguments(rule.strip_prefix("-A ").unwrap_or(rule));
        let mut args = vec!["-D"];
        args.extend(arguments.iter().map(String::as_str));
        run(tool, &args)?;
    }
    run(tool, &["-F", chain])?;
    run(tool, &["-X", chain])?;
    Ok(())
}

/// The arguments in a line of `iptables -S`, which quotes comments as for a shell.
fn arguments(line: &str) -> Vec<String> {
    let (mut found, mut current, mut quoted, mut chars) = (Vec::new(), None::<String>, false, line.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                current.get_or_insert_default();
            }
            '\\' if quoted => current.get_or_insert_default().extend(chars.next()),
            ' ' if !quoted => found.extend(current.take()),
            c => current.get_or_insert_default().push(c),
        }
    }
    found.extend(current);
    found
}

fn find(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}

fn run(tool: &PathBuf, args: &[&str]) -> Result<String> {
    let operation = || format!("{} -t nat {}", tool.display(), args.join(" "));
    let output = Command::new(tool)
        .args(["-w", "-t", "nat"])
        .args(args)
        .output()
        .map_err(|err| Error::io(operation(), err).with_code(Code::FIREWALL))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let reported = String::from_utf8_lossy(&output.stderr);
    let reason = reported.lines().next().unwrap_or_default();
    Err(Error::new(Code::FIREWALL, format!("{}: {reason}", operation())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"-A POSTROUTING -s 10.1.2.3/32 -m comment --comment "name: \"net\" id: \"c1\"" -j CNI-0123456789abcdef01234567"#;

    #[test]
    fn a_listed_rule_is_read_as_a_shell_would() {
        let arguments = arguments(RULE);
        assert_eq!(arguments[6], "--comment");
        assert_eq!(arguments[7], r#"name: "net" id: "c1""#);
        assert_eq!(arguments.len(), 10);
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

    #[test]
    fn a_list_of_tables_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let names = folder.path().join("names");
        assert!(!has_nat(&names).unwrap(), "a kernel without the list");
        std::fs::write(&names, "filter\n").unwrap();
        assert!(!has_nat(&names).unwrap());
        std::fs::write(&names, "filter\nnat\n").unwrap();
        assert!(has_nat(&names).unwrap());
        assert_eq!(has_nat(folder.path()).unwrap_err().code(), Code::FIREWALL);
    }
}
