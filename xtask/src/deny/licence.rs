//! Licence expressions of manifests, see <https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions>.

/// Whether a user may choose licences that are all allowed; `None` if the text is no expression.
///
/// `MIT/Apache-2.0`, as older manifests have it, means OR.
pub(super) fn is_satisfied(text: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = text.split_whitespace().peekable();
    let satisfied = any_of(&mut tokens, allowed)?;
    tokens.next().is_none().then_some(satisfied)
}

type Tokens<'a, 't> = std::iter::Peekable<std::str::SplitWhitespace<'t>>;

fn any_of(tokens: &mut Tokens<'_, '_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut satisfied = all_of(tokens, allowed)?;
    while tokens.next_if_eq(&"OR").is_some() {
        satisfied |= all_of(tokens, allowed)?;
    }
    Some(satisfied)
}

fn all_of(tokens: &mut Tokens<'_, '_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut satisfied = one(tokens, allowed)?;
    while tokens.next_if_eq(&"AND").is_some() {
        satisfied &= one(tokens, allowed)?;
    }
    Some(satisfied)
}

fn one(tokens: &mut Tokens<'_, '_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    match tokens.next()? {
        "(" => {
            let satisfied = any_of(tokens, allowed)?;
            tokens.next_if_eq(&")").map(|_| satisfied)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        name if tokens.next_if_eq(&"WITH").is_some() => {
            Some(allowed(&format!("{name} WITH {}", tokens.next()?)))
        }
        name => Some(allowed(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_satisfied;

    #[test]
    fn a_choice_needs_one_and_a_sum_needs_all() {
        let allowed = |name: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&name);
        for (text, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("GPL-3.0/MIT", Some(true)),
            ("GPL-3.0 AND MIT", Some(false)),
            ("(GPL-3.0 OR MIT) AND ISC", Some(true)),
            ("GPL-3.0 OR MIT AND Zlib", Some(false)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("Apache-2.0", Some(false)),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
            ("", None),
        ] {
            assert_eq!(is_satisfied(text, &allowed), expected, "{text}");
        }
    }
}
