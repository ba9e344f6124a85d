use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::cluster::PatchForm;
use super::kinds::{self, SERVICE_ACCOUNTS, Target};
use super::protobuf;
use super::status::Status;

/// A request, with all of it that an answer depends on.
pub(super) struct ApiRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) content_type: String,
    pub(super) token: Option<String>,
    /// The user whose certificate the connection was made with.
    pub(super) certificate: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Authenticates, authorises, and does what is requested: a status code and an object.
pub(super) fn answer(server: &Server, request: &ApiRequest) -> Result<(u16, Value), Status> {
    let user = authenticate(server, request)?;
    if let Some(answer) = kinds::discovery(&request.path) {
        return answer.map(|answer| (200, answer));
    }
    let target = Target::parse(&request.path)
        .ok_or_else(|| Status::new(404, "the server could not find the requested resource"))?;
    authorise(server, &user, request, &target)?;
    act(server, request, &target)
}

/// The user's name; someone without credentials is `system:anonymous`.
fn authenticate(server: &Server, request: &ApiRequest) -> Result<String, Status> {
    if let Some(user) = &request.certificate {
        return Ok(user.clone());
    }
    match &request.token {
        None => Ok("system:anonymous".to_owned()),
        Some(token) => server.user_of_token(token).ok_or_else(|| Status::new(401, "Unauthorized")),
    }
}

fn authorise(server: &Server, user: &str, request: &ApiRequest, target: &Target) -> Result<(), Status> {
    let verb = match (request.method.as_str(), &target.name) {
        ("GET", Some(_)) => "get",
        ("GET", None) if request.query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")) => {
            "watch"
        }
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => return Err(Status::new(405, "the server does not allow this method on the requested resource")),
    };
    let (group, resource) = (target.kind.group, target.resource());
    if server.role_of(user).is_some_and(|role| role.grants(verb, group, &resource)) {
        return Ok(());
    }
    let name = target.name.as_deref().unwrap_or_default();
    let what = target.kind.qualified();
    let quoted = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let place = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let message = format!(
        "{what}{quoted} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
    );
    Err(Status::new(403, message).about(target.kind, name))
}

fn act(server: &Server, request: &ApiRequest, target: &Target) -> Result<(u16, Value), Status> {
    if target.kind == SERVICE_ACCOUNTS && target.subresource.as_deref() == Some("token") {
        return issue_token(server, request, target);
    }
    let mut cluster = server.cluster.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(target.subresource.as_deref(), None | Some("status")) {
        return Err(Status::new(404, "the server could not find the requested resource"));
    }
    let body = || {
        if request.content_type.ends_with("protobuf") {
            return protobuf::object(&request.body).ok_or_else(|| Status::new(400, "the body is no object"));
        }
        serde_json::from_slice::<Value>(&request.body)
            .map_err(|err| Status::new(400, format!("the body is no JSON: {err}")))
    };
    match (request.method.as_str(), target.name.as_deref()) {
        ("GET", Some(name)) => Ok((200, cluster.get(target, name)?)),
        ("GET", None) if request.query.contains("watch=") => {
            Err(Status::new(405, "this server can't be watched"))
        }
        ("GET", None) => Ok((200, cluster.list(target))),
        ("POST", None) => Ok((201, cluster.create(target.kind, &target.namespace, body()?)?)),
        ("PUT", Some(name)) => Ok((200, cluster.update(target, name, body()?)?)),
        ("PATCH", Some(name)) => {
            let form = PatchForm::of(&request.content_type).ok_or_else(|| {
                Status::new(
                    415,
                    format!("the content type of the patch is not supported: {}", request.content_type),
                )
            })?;
            Ok((200, cluster.patch(target, name, form, &body()?)?))
        }
        ("DELETE", Some(name)) => {
            cluster.delete(target, name)?;
            let metadata = json!({});
            Ok((
                200,
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Success" }),
            ))
        }
        _ => Err(Status::new(405, "the server does not allow this method on the requested resource")),
    }
}

/// TokenRequest: a token of the service account, which ends when the request wants it to.
fn issue_token(server: &Server, request: &ApiRequest, target: &Target) -> Result<(u16, Value), Status> {
    let ("POST", Some(name)) = (request.method.as_str(), target.name.as_deref()) else {
        return Err(Status::new(405, "the server does not allow this method on the requested resource"));
    };
    server.cluster.lock().unwrap_or_else(PoisonError::into_inner).get(target, name)?;
    let mut body: Value = serde_json::from_slice(&request.body)
        .map_err(|err| Status::new(400, format!("the body is no JSON: {err}")))?;
    let seconds = body["spec"]["expirationSeconds"].as_u64().unwrap_or(3600);
    let user = format!("system:serviceaccount:{}:{name}", target.namespace);
    let token = server.issue(&user, Duration::from_secs(seconds));
    body["spec"]["expirationSeconds"] = seconds.into();
    body["status"] = json!({ "token": token });
    Ok((201, body))
}
