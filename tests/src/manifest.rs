use std::path::Path;

/// The `spec.config` of a NetworkAttachmentDefinition in YAML, byte for byte as Kubernetes gives
/// it on, and the definition's name.
///
/// Understands the two ways in which the examples write a configuration, and no more of YAML: a
/// single-quoted scalar over several lines, and a folded block (`>-`). In both a line break
/// becomes a space.
pub fn nad_config(file: &Path) -> (String, String) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("  name: "))
        .unwrap_or_else(|| panic!("{}: no metadata.name", file.display()));
    let Some((_, config)) = text.split_once("  config: ") else {
        panic!("{}: no spec.config", file.display());
    };
    let folded = |lines: &str| lines.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let config = match config.strip_prefix('\'') {
        Some(quoted) => {
            let (inside, _) =
                quoted.rsplit_once('\'').unwrap_or_else(|| panic!("{}: no end quote", file.display()));
            folded(inside)
        }
        None => folded(config.trim_start_matches(">-")).trim().to_owned(),
    };
    (name.to_owned(), config)
}
