//! `dhcp leases`: what the daemon holds.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cni_core::spec::{Cidr, Code, Error, Result};

use crate::caller::Caller;
use crate::protocol::{Answer, Command, Id, Report};

const USAGE: &str = "\
dhcp leases: lists the leases that the daemon holds

  -o json             print JSON instead of a table
  --watch             print them again every second; with --renew, all of them after that one
  --renew ID          renew one now: CONTAINER/NETWORK/IFNAME, or the beginning of it
  --socketpath PATH   the daemon's socket";

/// How often `--watch` prints.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default, PartialEq, Eq, Debug)]
struct Options {
    json: bool,
    watch: bool,
    renew: Option<String>,
    socket: Option<PathBuf>,
}

/// Runs `dhcp leases` with its arguments.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let options = match parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("dhcp leases: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut text = first(&options);
    loop {
        let printed = text.and_then(|text| {
            std::io::stdout().write_all(text.as_bytes()).map_err(|err| Error::io("printing", err))
        });
        match printed {
            Err(err) => {
                eprintln!("dhcp leases: {err}");
                return ExitCode::FAILURE;
            }
            Ok(()) if !options.watch => return ExitCode::SUCCESS,
            Ok(()) => std::thread::sleep(PERIOD),
        }
        text = reports(&options).and_then(|reports| form(&options, &reports));
    }
}

fn parse(args: &[OsString]) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    let mut args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "-o" | "--output" => match value()?.as_str() {
                "json" => options.json = true,
                other => return Err(format!("{arg} {other:?}: the one other form is json")),
            },
            "--watch" | "-w" => options.watch = true,
            "--renew" => options.renew = Some(value()?),
            "--socketpath" | "-socketpath" => options.socket = Some(value()?.into()),
            "--help" | "-h" | "-help" => return Ok(None),
            _ => return Err(format!("{arg:?} is not one of its arguments")),
        }
    }
    Ok(Some(options))
}

/// What is printed first: the lease that is renewed, or all.
fn first(options: &Options) -> Result<String> {
    let mut reports = reports(options)?;
    if let Some(beginning) = &options.renew {
        reports = vec![renew(options, beginning, &reports)?];
    }
    form(options, &reports)
}

/// Leases in the form that is wanted.
fn form(options: &Options, reports: &[Report]) -> Result<String> {
    if !options.json {
        return Ok(table(reports));
    }
    let text = serde_json::to_string_pretty(reports).map_err(|err| Error::io("writing JSON", err))?;
    Ok(text + "\n")
}

fn reports(options: &Options) -> Result<Vec<Report>> {
    let mut reports = Caller::connect(options.socket.as_deref())?.leases()?;
    reports.sort_by_key(|report| report.id.text());
    Ok(reports)
}

fn renew(options: &Options, beginning: &str, reports: &[Report]) -> Result<Report> {
    let meant: Vec<&Report> = reports.iter().filter(|it| it.id.text().starts_with(beginning)).collect();
    let [report] = meant[..] else {
        let msg = format!("{} leases have an id that begins with {beginning:?}", meant.len());
        return Err(Error::new(Code::INVALID_CONFIG, msg));
    };
    match Caller::connect(options.socket.as_deref())?.call(Command::Renew(report.id.clone()), |_| ())? {
        Answer::Lease(report) => Ok(*report),
        other => Err(crate::unexpected(&other)),
    }
}

/// A line a lease, in columns.
fn table(reports: &[Report]) -> String {
    let header = ["CONTAINER", "NETWORK", "INTERFACE", "ADDRESS", "SERVER", "STATE", "RENEWAL", "EXPIRY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(reports.iter().flat_map(rows_of));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The rows of an attachment: its lease of DHCPv4, that of DHCPv6, and what the kernel made of router
/// advertisements.
fn rows_of(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let server = report.server.map(|server| server.to_string());
    let row = |address, server, state: &str, renewal, expiry| {
        row(&report.id, &Lease { address, server, state, renewal, expiry })
    };
    if report.state != "off" {
        rows.push(row(report.address, server, &report.state, report.renewal, report.expiry));
    }
    if let Some(ipv6) = &report.ipv6 {
        // The client stops where the routers announce no DHCPv6.
        if ipv6.state != "stopped" {
            let server = ipv6.server.clone().map(String::from);
            rows.push(row(ipv6.address, server, &ipv6.state, ipv6.renewal, ipv6.expiry));
        }
        let made = ipv6
            .slaac
            .iter()
            .map(|address| row(Some(*address), Some("router".to_owned()), "slaac", None, None));
        rows.extend(made);
    }
    rows
}

/// What the table says of an address.
struct Lease<'a> {
    address: Option<Cidr>,
    server: Option<String>,
    state: &'a str,
    renewal: Option<u64>,
    expiry: Option<u64>,
}

fn row(id: &Id, lease: &Lease<'_>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let time = |seconds: Option<u64>| match seconds {
        _ if lease.address.is_none() => "-".to_owned(),
        Some(seconds) => duration(seconds),
        None if lease.state == "slaac" => "kernel".to_owned(),
        None => "never".to_owned(),
    };
    vec![
        id.attachment.container_id.to_string(),
        id.network.to_string(),
        id.attachment.ifname.to_string(),
        or_dash(lease.address.map(|address| address.to_string())),
        or_dash(lease.server.clone()),
        lease.state.to_owned(),
        time(lease.renewal),
        time(lease.expiry),
    ]
}

/// Seconds as a person reads them: `2h05m`, `3m20s`, `45s`.
fn duration(seconds: u64) -> String {
    match seconds {
        3600.. => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_named() {
        let parse = |args: &[&str]| parse(&args.iter().map(OsString::from).collect::<Vec<_>>());
        let all = parse(&["-o", "json", "--watch", "--renew", "c1/net"]).unwrap().unwrap();
        assert!(all.json && all.watch && all.renew.as_deref() == Some("c1/net"));
        assert_eq!(parse(&["--help"]), Ok(None));
        for (bad, named) in [(&["-o", "yaml"][..], "yaml"), (&["--renew"], "--renew"), (&["x"], "x")] {
            assert!(parse(bad).unwrap_err().contains(named));
        }
    }

    #[test]
    fn the_table_has_a_line_a_lease() {
        let report: Report = serde_json::from_str(
            r#"{"network":"net","containerID":"c1","ifname":"eth0","netns":"/x","state":"bound",
                "address":"10.0.0.2/24","gateway":null,"server":"10.0.0.1","mtu":null,"renewal":45,"expiry":7500}"#,
        )
        .unwrap();
        let lost = Report { address: None, server: None, state: "selecting".to_owned(), ..report.clone() };
        let text = table(&[report, lost]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["c1", "net", "eth0", "10.0.0.2/24", "10.0.0.1", "bound", "45s", "2h05m"]);
        assert_eq!(lines[2][3..], ["-", "-", "selecting", "-", "-"]);
        let dual: Report = serde_json::from_str(
            r#"{"network":"net","containerID":"c1","ifname":"eth0","netns":"/x","state":"off",
                "address":null,"gateway":null,"server":null,"mtu":null,"renewal":null,"expiry":null,
                "ipv6":{"state":"bound","address":"fd00::7/128","server":"000401","slaac":["fd00::1/64"],
                "renewal":5,"expiry":null}}"#,
        )
        .unwrap();
        let text = table(&[dual]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1][3..], ["fd00::7/128", "000401", "bound", "5s", "never"]);
        assert_eq!(lines[2][3..], ["fd00::1/64", "router", "slaac", "kernel", "kernel"]);
    }
}
