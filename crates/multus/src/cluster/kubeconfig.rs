//! Reading a kubeconfig as Go's client does.

use std::path::Path;

use cni_core::spec::{Error, Result};
use kube::config::{Kubeconfig, KubeconfigError};

use super::causes::causes;

/// A kubeconfig whose current user has at most a token, and no file of one.
pub(super) struct Current {
    pub(super) kubeconfig: Kubeconfig,
    /// The current cluster's `proxy-url`.
    pub(super) proxy: Option<String>,
}

/// Reads the file, and the token of the current user. What other users have is not looked at.
///
/// # Errors
/// What is wrong with it, without any of its content.
pub(super) fn read(path: &Path) -> Result<Current> {
    let wrong = |why: String| Error::invalid_config(format!("kubeconfig {}: {why}", path.display()));
    let kubeconfig = Kubeconfig::read_from(path).map_err(|err| wrong(without_secrets(&err)))?;
    current(kubeconfig).map_err(wrong)
}

fn current(mut kubeconfig: Kubeconfig) -> Result<Current, String> {
    let name = kubeconfig.current_context.clone().unwrap_or_default();
    let context = kubeconfig.contexts.iter().find(|named| named.name == name);
    let context = context.and_then(|named| named.context.clone());
    let (cluster, user) = context.map(|context| (context.cluster, context.user)).unwrap_or_default();
    let clusters = kubeconfig.clusters.iter_mut().filter(|named| named.name == cluster);
    let mut proxy = None;
    for cluster in clusters.filter_map(|named| named.cluster.as_mut()) {
        // The library would read the environment where there is none, and refuse a malformed proxy even
        // where it is not used.
        proxy = cluster.proxy_url.replace("http://unused.invalid".to_owned());
    }
    let users = kubeconfig.auth_infos.iter_mut().filter(|named| Some(&named.name) == user.as_ref());
    for info in users.filter_map(|named| named.auth_info.as_mut()) {
        let written = serde_json::to_value(&*info).unwrap_or_default();
        let token = written["token"].as_str().unwrap_or_default();
        let token = match info.token_file.take().filter(|file| !file.is_empty()) {
            None => token.to_owned(),
            // The file comes first, because its token is renewed. One call is too short for it to expire.
            Some(file) => match read_token(Path::new(&file)) {
                Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
                Ok(_) if token.is_empty() => return Err(format!("tokenFile {file} is empty")),
                Err(err) if token.is_empty() => return Err(format!("tokenFile {file}: {err}")),
                _ => token.to_owned(),
            },
        };
        if token.contains(char::is_control) {
            return Err("the token has a newline or another control character in it".to_owned());
        }
        info.token = Some(token).filter(|token| !token.is_empty()).map(Into::into);
    }
    Ok(Current { kubeconfig, proxy })
}

/// The longest token file that is read, in bytes.
const MAX_TOKEN: usize = 1 << 20;

fn read_token(file: &Path) -> std::io::Result<String> {
    String::from_utf8(cni_core::fs::read_bounded(file, MAX_TOKEN)?).map_err(std::io::Error::other)
}

/// The text of a kubeconfig for the current cluster of another one, and a user with a token. All that
/// says how the server is reached and trusted is taken over, no credentials are.
///
/// # Errors
/// The kubeconfig can't be read, or its current context names no cluster.
pub(crate) fn with_token(path: &Path, token: &str) -> Result<String> {
    let wrong = |why: String| Error::invalid_config(format!("kubeconfig {}: {why}", path.display()));
    let read = Kubeconfig::read_from(path).map_err(|err| wrong(without_secrets(&err)))?;
    let current = read.contexts.into_iter().find(|named| Some(&named.name) == read.current_context.as_ref());
    let name = current.and_then(|named| named.context).map(|context| context.cluster).unwrap_or_default();
    let cluster = read.clusters.into_iter().find(|named| named.name == name).and_then(|named| named.cluster);
    let cluster = cluster.ok_or_else(|| wrong("the current context names no cluster".to_owned()))?;
    let text = serde_json::to_string_pretty(&serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "local", "cluster": cluster }],
        "users": [{ "name": "multus", "user": { "token": token } }],
        "contexts": [{ "name": "multus", "context": { "cluster": "local", "user": "multus" } }],
        "current-context": "multus",
    }));
    text.map(|text| text + "\n").map_err(|_| wrong("its cluster can't be written".to_owned()))
}

/// The error of a kubeconfig without any of its content: an excerpt in a YAML error may be a token.
pub(super) fn without_secrets(err: &KubeconfigError) -> String {
    match err {
        KubeconfigError::Parse(err) => {
            let text = err.to_string();
            let place = text.split_once(':').map_or("", |(place, _)| place);
            let is_place = place.starts_with("line ") && place.len() < 40;
            let place = if is_place { format!(", {place}") } else { String::new() };
            format!("is not a valid kubeconfig{place}")
        }
        other => causes(other),
    }
}

/// Reads a kubeconfig and asserts that an error quotes none of it.
pub(crate) fn fuzz(text: &str) {
    match Kubeconfig::from_yaml(text) {
        // Files that it names are not opened.
        Ok(mut kubeconfig) => {
            kubeconfig.auth_infos.clear();
            drop(current(kubeconfig));
        }
        Err(err) => {
            let message = without_secrets(&err);
            let secrets = text.split_whitespace().filter(|part| part.len() >= 24);
            secrets.for_each(|secret| assert!(!message.contains(secret), "{message}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token that is used of a user with these keys.
    fn token(user: &str) -> Result<Option<String>, String> {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: 'https://h'}}}}]\n\
             users: [{{name: other, user: {{tokenFile: /nonexistent}}}}, {{name: u, user: {user}}}]"
        );
        let current = current(Kubeconfig::from_yaml(&text).unwrap())?;
        let info = current.kubeconfig.auth_infos[1].auth_info.clone().unwrap();
        assert!(info.token_file.is_none());
        Ok(serde_json::to_value(&info).unwrap()["token"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_token_file_comes_before_a_token_and_other_users_do_not_matter() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        std::fs::write(file.path(), "of-file\n").unwrap();
        assert_eq!(token(&format!("{{token: t, tokenFile: {path}}}")), Ok(Some("of-file".into())));
        assert_eq!(token("{token: t, tokenFile: /nonexistent}"), Ok(Some("t".into())));
        assert_eq!(token("{token: t}"), Ok(Some("t".into())));
        assert_eq!(token("{token: ''}"), Ok(None));
        assert!(token("{tokenFile: /nonexistent}").unwrap_err().contains("/nonexistent"));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(token(&format!("{{tokenFile: {path}}}")).is_err());
    }

    #[test]
    fn another_user_gets_the_current_cluster_and_none_of_the_credentials() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n\
             clusters: [{name: other, cluster: {server: 'https://x'}}, \
             {name: k, cluster: {server: 'https://h', tls-server-name: n, certificate-authority-data: Zg==}}]\n\
             users: [{name: u, user: {client-key-data: s3cret}}]",
        )
        .unwrap();
        let text = with_token(file.path(), "t").unwrap();
        let read = Kubeconfig::from_yaml(&text).unwrap();
        let cluster = read.clusters[0].cluster.clone().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://h"));
        assert_eq!(cluster.tls_server_name.as_deref(), Some("n"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Zg=="));
        assert!(text.contains("\"token\": \"t\"") && !text.contains("s3cret"), "{text}");
        std::fs::write(file.path(), "current-context: c").unwrap();
        with_token(file.path(), "t").unwrap_err();
    }

    #[test]
    fn a_token_with_a_newline_is_an_error_that_does_not_quote_it() {
        let error = token(r#"{token: "s3cret\nx"}"#).unwrap_err();
        assert!(error.contains("newline") && !error.contains("s3cret"), "{error}");
    }
}
