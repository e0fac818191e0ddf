//! Why a login or a request would be let in or not, from the book's own mouth.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::admin::Admin;
use crate::admin::answer::{Body, Problem};
use crate::admin::body::{Considered, ExplainAnswer, ExplainRequest, ExplainedRequest, Needs};
use crate::grant::{Asked, Book};
use crate::model::{Name, Reach, Refusal, Time};
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
        needs: wanted.map(|wanted| needs(&wanted)),
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
    Ok(wanted.map_err(|wrong| Refusal::from(wrong).to_string()))
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

fn needs(wanted: &http::Asked) -> Needs {
    let touch = wanted.named();
    let (indices, everything) = match touch.reach {
        Reach::Names(names) => (names.into_iter().collect(), None),
        Reach::Everything(why) => (Vec::new(), Some(why.to_owned())),
    };
    Needs { level: touch.level, indices, wildcards: wanted.wildcards().into_iter().collect(), everything }
}
