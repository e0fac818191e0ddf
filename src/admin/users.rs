//! Users: seen, added, removed.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Key, Problem};
use crate::admin::body::{self, Done, UserRequest, UserView};
use crate::identity::ChangeError;
use crate::model::limits::GRANT_LIST_MAX;
use crate::model::{Actor, Change, Name, Snapshot, Subject, Time, User};
use crate::proxy::SessionInfo;

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<UserView>> {
    let book = admin.ledger.book();
    let (sessions, now) = (admin.registry.list(), admin.ledger.now());
    let snapshot = book.snapshot();
    let mut views: Vec<_> = snapshot.users.iter().map(|user| view(user, snapshot, &sessions, now)).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    Json(views)
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, key: Key) -> Result<Json<UserView>, Problem> {
    let name = key.name()?;
    let book = admin.ledger.book();
    let user = find(book.snapshot(), &name)?;
    Ok(Json(view(user, book.snapshot(), &admin.registry.list(), admin.ledger.now())))
}

pub(super) fn find<'a>(snapshot: &'a Snapshot, name: &Name) -> Result<&'a User, Problem> {
    snapshot.users.iter().find(|user| user.name == *name).ok_or_else(|| {
        Problem::not_found(format!("there is no user {name}"))
            .hint(format!("tidegate user add {name} makes one"))
    })
}

fn view(user: &User, snapshot: &Snapshot, sessions: &[SessionInfo], now: Time) -> UserView {
    let live = |window, ended| body::State::of(window, ended, now);
    let mine = |subject: &Subject| match subject {
        Subject::User(name) => *name == user.name,
        Subject::Group(name) => user.groups.contains(name),
    };
    let credentials = snapshot.credentials.iter().filter(|credential| {
        credential.user == user.name && live(&credential.window, credential.ended.as_ref()).is_live()
    });
    let grants = snapshot.grants.iter().filter(|grant| {
        mine(&grant.subject) && live(&grant.window, grant.ended.as_ref()) == body::State::Open
    });
    UserView {
        name: user.name.clone(),
        groups: user.groups.clone(),
        credentials: credentials.count(),
        grants: grants.count(),
        sessions: sessions.iter().filter(|session| session.user == user.name).count(),
    }
}

pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<UserRequest>,
) -> Result<Json<UserView>, Problem> {
    if request.groups.len() > GRANT_LIST_MAX {
        return Err(Problem::request(format!("a user is in at most {GRANT_LIST_MAX} groups")));
    }
    let user = User { name: request.name, groups: request.groups };
    let added = user.clone();
    admin
        .change(&actor, "user.add", None, move |snapshot| {
            if snapshot.users.iter().any(|known| known.name == user.name) {
                return Err(ChangeError::Refused(format!(
                    "there is a user {} already; groups are changed with a resource file and tidegate apply",
                    user.name
                )));
            }
            Ok(vec![Change::PutUser { user }])
        })
        .await?;
    let book = admin.ledger.book();
    Ok(Json(view(&added, book.snapshot(), &admin.registry.list(), admin.ledger.now())))
}

pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
) -> Result<Json<Done>, Problem> {
    let name = key.name()?;
    find(admin.ledger.book().snapshot(), &name)?;
    let done = format!("the user {name} is removed, with every credential; live sessions are being cut");
    admin
        .take_away(&actor, "user.remove", None, move |snapshot| {
            if !snapshot.users.iter().any(|user| user.name == name) {
                return Err(ChangeError::Refused(format!("there is no user {name}")));
            }
            Ok(vec![Change::RemoveUser { name }])
        })
        .await?;
    Ok(Json(Done { done }))
}
