//! What an address costs when many are held already: host-local alone, with that many reservations.

use super::contender::{Contender, Verb, Who};
use super::sample::{Series, Summary};
use super::workload::Bench;
use crate::error::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

const PLUGIN: &str = "host-local";

/// Rounds before the first that counts; the first of them finds no index.
const WARM_UP: usize = 2;

/// The figures of one contender at one command with so many reservations held.
#[derive(Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) reservations: usize,
    pub(crate) verb: Verb,
    pub(crate) who: Who,
    #[serde(flatten)]
    pub(crate) figures: Summary,
    #[serde(skip)]
    pub(crate) series: Series,
}

/// Measures all contenders at all sizes in turn, round after round.
pub(crate) fn measure(
    bench: &Bench<'_>,
    contenders: &[Contender],
    sizes: &[usize],
    rounds: usize,
) -> Result<Vec<Grown>> {
    let able: Vec<&Contender> = contenders.iter().filter(|one| one.has(&[PLUGIN])).collect();
    let netns = bench.host.container("growth")?;
    let mut cases: Vec<(&Contender, usize, Value)> = Vec::new();
    for size in sizes {
        for contender in &able {
            let who = contender.who.slug();
            bench.progress.update(format!("{PLUGIN}: writing {size} reservations for {who}"));
            let data_dir = bench.folder.join(format!("growth-{who}"));
            let network = format!("growth-{size}");
            reserve(&data_dir.join(&network), *size)?;
            cases.push((contender, *size, config(&network, &data_dir)));
        }
    }
    let mut series: BTreeMap<(usize, Verb, Who), Series> = BTreeMap::new();
    for round in 0..WARM_UP + rounds {
        bench.progress.update(format!("{PLUGIN}: round {} of {rounds}", (round + 1).saturating_sub(WARM_UP)));
        for turn in 0..cases.len() {
            let (contender, size, config) = &cases[(turn + round) % cases.len()];
            let container_id = format!("grow-{round}");
            for verb in [Verb::Add, Verb::Del] {
                let sample = contender.call(bench.meter, PLUGIN, verb, &netns, &container_id, config)?;
                if round >= WARM_UP {
                    series.entry((*size, verb, contender.who)).or_default().push(sample);
                }
            }
        }
    }
    bench
        .progress
        .print(format!("{PLUGIN} with up to {} reservations: {rounds} rounds", sizes.last().unwrap_or(&0)));
    let grown = series.into_iter().filter_map(|((reservations, verb, who), series)| {
        Some(Grown { reservations, verb, who, figures: series.summary()?, series })
    });
    Ok(grown.collect())
}

fn config(network: &str, data_dir: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": network, "type": "bridge",
        "ipam": { "type": PLUGIN, "subnet": "10.0.0.0/8", "dataDir": data_dir },
    })
}

/// Fills a folder as the Go plugin would have.
fn reserve(folder: &Path, count: usize) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("can't make {}", folder.display()))?;
    for index in 0..count {
        let file = folder.join(spread(index).to_string());
        fs::write(&file, format!("{index:064x}\r\neth0"))
            .context(|| format!("can't write {}", file.display()))?;
    }
    Ok(())
}

/// Distinct addresses all over 10.0.0.0/8, but for its first.
fn spread(index: usize) -> Ipv4Addr {
    // An odd factor reaches each of the 2^24 host numbers once.
    const FACTOR: u32 = 0x9E_37B1;
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX).wrapping_mul(FACTOR) & 0x00FF_FFFF;
    Ipv4Addr::from(0x0A00_0000 | number)
}

#[cfg(test)]
mod tests {
    use super::spread;
    use std::collections::BTreeSet;

    #[test]
    fn spread_addresses_are_distinct_and_in_the_subnet() {
        let addresses: BTreeSet<_> = (0..60_000).map(spread).collect();
        assert_eq!(addresses.len(), 60_000);
        assert!(addresses.iter().all(|address| address.octets()[0] == 10));
    }
}
