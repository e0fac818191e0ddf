//! Why a login or a request would be let in or not, from the book's own mouth.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::admin::Admin;
use crate::admin::answer::{Body, Problem};
use crate::admin::body::{Considered, ExplainAnswer, ExplainRequest, ExplainedRequest, Needs};
use crate::grant::{Asked, Book};
use crate::model::{Databases, GrantId, Name, Reach, Refusal, Time, Wildcards};
use crate::protocol::http::{self, Path};

pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<ExplainAnswer>, Problem> {
    let at = request.at.unwrap_or_else(|| admin.ledger.now());
    let book = admin.ledger.book();
    let wanted = match &request.request {
        None => None,
        Some(asked) => match read(&book, &request.target, asked, at)? {
            Ok(wanted) => Some(wanted),
            Err(why) => return Ok(Json(nobody(why))),
        },
    };
    let touch = wanted.as_ref().map(http::Asked::named);
    let asked = Asked {
        user: request.user.as_str(),
        target: request.target.as_str(),
        level: request.level.as_ref(),
        database: request.database.as_deref(),
        peer: request.from,
        touch: touch.as_ref(),
    };
    let sessions = admin.registry.list();
    let count = |grant| {
        let live = sessions.iter().filter(|session| session.grant == grant).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    };
    let said = book.explain(&asked, at, &count);
    let level = said.grant.and_then(|id| {
        book.snapshot().grants.iter().find(|grant| grant.id == id).map(|grant| grant.level.clone())
    });
    let considered =
        said.considered.into_iter().map(|(grant, name, verdict)| Considered { grant, name, verdict });
    Ok(Json(ExplainAnswer {
        allowed: said.grant.is_some(),
        needs: wanted.map(|wanted| needs(wanted, &book, &request.target, said.grant)),
        grant: said.grant,
        level,
        until: said.until,
        why: said.why,
        considered: considered.collect(),
    }))
}

/// What a request asks for, by the same code as at the door; the inner error says why nobody may send it. The cluster
/// is not asked: what is behind an alias must be covered as well, and what wildcards stand for is not known here.
fn read(
    book: &Book,
    target: &Name,
    asked: &ExplainedRequest,
    at: Time,
) -> Result<Result<http::Asked, String>, Problem> {
    let protocol = book.target(target.as_str()).map(|target| target.protocol.as_str());
    // Of a target that is not there nothing is known; the book says so.
    let protocol = protocol.unwrap_or("elasticsearch");
    let Some(api) = http::api(protocol) else {
        return Err(Problem::refused(format!("target {target} speaks {protocol}: it is asked no requests")));
    };
    let wanted = Path::parse(&asked.target).map_err(http::Wrong::Bad).and_then(|path| {
        let path = api.dated(&asked.method, &path, at).unwrap_or(Ok(path))?;
        let routed = api.route(&asked.method, &path)?;
        match routed.takes_body() || asked.body.is_empty() {
            true => {
                let body = asked.body.as_bytes();
                let dated = routed.dated(body, at).transpose()?;
                routed.asked(dated.as_deref().unwrap_or(body))
            }
            false => Err(http::Wrong::Bad("this route takes no body")),
        }
    });
    let no_body = if asked.body.is_empty() { " (no body was given)" } else { "" };
    Ok(wanted.map_err(|wrong| match wrong {
        http::Wrong::Bad(_) => format!("{}{no_body}", Refusal::from(wrong)),
        http::Wrong::Denied(_) => Refusal::from(wrong).to_string(),
    }))
}

fn nobody(why: String) -> ExplainAnswer {
    let why = format!("nobody may send it: {why}");
    ExplainAnswer {
        allowed: false,
        needs: None,
        grant: None,
        level: None,
        until: None,
        why,
        considered: Vec::new(),
    }
}

/// What a request takes, and what of that only its target can say. `grant`: the one that would let it in.
fn needs(mut wanted: http::Asked, book: &Book, target: &Name, grant: Option<GrantId>) -> Needs {
    let touch = wanted.named();
    let has_names = matches!(&touch.reach, Reach::Names(names) if !names.is_empty());
    let (indices, everything) = match touch.reach {
        Reach::Names(names) => (names.into_iter().collect(), None),
        Reach::Everything(why) => (Vec::new(), Some(why.to_owned())),
    };
    let found = book.target(target.as_str());
    let api = found.and_then(|target| http::api(&target.protocol));
    let is_everything = grant.is_some_and(|id| {
        let grants = &book.snapshot().grants;
        grants.iter().any(|grant| grant.id == id && grant.databases == Databases::All)
    });
    let has_aliases = api.is_some_and(http::Api::has_aliases);
    let mut notes = Vec::new();
    if wanted.has_wildcards() {
        let wildcards = found.map(|target| target.upstream.wildcards).unwrap_or_default();
        notes.push(wild(wildcards, is_everything).to_owned());
    }
    if has_names && has_aliases && !is_everything {
        notes.push("a name may be an alias: all that it stands for must be covered as well".to_owned());
    }
    if wanted.wants_indices() && !is_everything {
        notes.push(
            "each name must be of an index, an alias or a data stream: a view could have it too".to_owned(),
        );
    }
    if wanted.take_part(&[]).is_some() && !is_everything {
        notes.push("of the answer is shown what the grant covers".to_owned());
    }
    if !notes.is_empty() && has_aliases {
        notes.push("the target has not been asked: it is when the request comes".to_owned());
    }
    Needs {
        level: touch.level,
        kind: if has_aliases || api.is_none() { "indices" } else { "vhosts" }.to_owned(),
        indices,
        wildcards: wanted.wildcards().into_iter().collect(),
        everything,
        notes,
    }
}

fn wild(wildcards: Wildcards, is_everything: bool) -> &'static str {
    match wildcards {
        _ if is_everything => "wildcards are sent as they are",
        Wildcards::Narrow => {
            "wildcards become what the grant covers of all that they stand for; what changes something is refused where that is nothing"
        }
        Wildcards::Resolve => {
            "wildcards become all that they stand for, and one grant must cover all of it (wildcards = \"resolve\")"
        }
    }
}
