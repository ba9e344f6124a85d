//! A table of what is in the kernel: links, addresses and routes of the host and its containers.

use crate::error::{Context, Result};
use crate::private_host::ip;
use crate::table::{Style, Table};
use serde_json::Value;

/// A network namespace to look into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// As shown.
    pub(crate) title: &'a str,
    /// As `ip -n` knows it; `None` for the host.
    pub(crate) netns: Option<&'a str>,
}

/// A table of all links but `lo`, grouped by place.
pub(crate) fn links(places: &[Place<'_>]) -> Result<Table> {
    let mut table = Table::new(["where", "interface", "kind", "MAC", "addresses", "routes over it"]);
    for place in places {
        table.line();
        let routes = [place.query("-4 route show")?, place.query("-6 route show")?].concat();
        let mut title = Style::Bold.paint(place.title);
        let links = place.links()?;
        if links.is_empty() {
            let none = Style::Dim.paint("none");
            table.row([title, none, String::new(), String::new(), String::new(), String::new()]);
            continue;
        }
        for link in links {
            let ifname = text(&link["ifname"]);
            table.row([
                std::mem::take(&mut title),
                Style::Accent.paint(&ifname),
                kind(&link),
                text(&link["address"]),
                addresses(&link),
                routes_over(&routes, &ifname),
            ]);
        }
    }
    Ok(table)
}

impl Place<'_> {
    /// The links here, without `lo`.
    pub(crate) fn links(&self) -> Result<Vec<Value>> {
        let mut links = self.query("-d addr show")?;
        links.retain(|link| link["ifname"] != "lo");
        Ok(links)
    }

    fn query(&self, arguments: &str) -> Result<Vec<Value>> {
        let netns = self.netns.map(|name| format!("-n {name} ")).unwrap_or_default();
        let output = ip(&format!("{netns}-j {arguments}"))?;
        let list: Vec<Value> = match output.trim() {
            "" => Vec::new(),
            json => {
                serde_json::from_str(json).context(|| format!("can't read the output of ip {arguments}"))?
            }
        };
        // For links that a filter leaves out, ip prints empty objects.
        Ok(list.into_iter().filter(|one| one.as_object().is_some_and(|one| !one.is_empty())).collect())
    }
}

fn kind(link: &Value) -> String {
    let kind = text(&link["linkinfo"]["info_kind"]);
    match link["master"].as_str() {
        Some(master) => format!("{kind}, port of {master}"),
        None => kind,
    }
}

/// The configured addresses: the kernel adds the link-local ones itself.
fn addresses(link: &Value) -> String {
    let all = link["addr_info"].as_array().cloned().unwrap_or_default();
    let global = all.iter().filter(|address| address["scope"] == "global");
    let texts: Vec<String> =
        global.map(|address| format!("{}/{}", text(&address["local"]), address["prefixlen"])).collect();
    texts.join("\n")
}

fn routes_over(routes: &[Value], ifname: &str) -> String {
    let ours = routes.iter().filter(|route| route["dev"] == ifname);
    let ours = ours.filter(|route| !text(&route["dst"]).starts_with("fe80:"));
    let texts: Vec<String> = ours
        .map(|route| match route["gateway"].as_str() {
            Some(gateway) => format!("{} via {gateway}", text(&route["dst"])),
            None => text(&route["dst"]),
        })
        .collect();
    texts.join("\n")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{addresses, routes_over};
    use serde_json::json;

    #[test]
    fn link_local_addresses_and_routes_are_left_out() {
        let link = json!({ "addr_info": [
            { "scope": "global", "local": "10.22.0.2", "prefixlen": 24 },
            { "scope": "link", "local": "fe80::1", "prefixlen": 64 },
        ]});
        assert_eq!(addresses(&link), "10.22.0.2/24");
        let routes = [
            json!({ "dev": "eth0", "dst": "default", "gateway": "10.22.0.1" }),
            json!({ "dev": "eth1", "dst": "10.0.0.0/8" }),
            json!({ "dev": "eth0", "dst": "fe80::/64" }),
        ];
        assert_eq!(routes_over(&routes, "eth0"), "default via 10.22.0.1");
    }
}
