//! Whether one grant fits what is asked for, and the first reason why it does not. The one place
//! where that is decided: admission, the look at live sessions and `explain` all come here.

use std::fmt;
use std::net::IpAddr;

use crate::model::{
    AccessLevel, Claim, Databases, EndCause, Ended, Grant, GrantId, Reach, Subject, Target, Time, Touch,
    User, pattern,
};

/// What somebody wants, whoever they are: a claim without its proof, for `explain`.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub user: &'a str,
    pub target: &'a str,
    pub level: Option<&'a AccessLevel>,
    /// `None`: the target's default one.
    pub database: Option<&'a str>,
    /// `None`: from anywhere; addresses are not looked at.
    pub peer: Option<IpAddr>,
    /// What a request touches, where the proxy authorizes: the database is not looked at then.
    pub touch: Option<&'a Touch>,
}

impl<'a> From<&'a Claim> for Asked<'a> {
    fn from(claim: &'a Claim) -> Self {
        Self {
            user: claim.user.as_str(),
            target: claim.target.as_str(),
            level: claim.level.as_ref(),
            database: claim.database.as_deref(),
            peer: Some(claim.peer),
            touch: None,
        }
    }
}

/// What a grant is held against: [`Asked`] with everything looked up.
#[derive(Clone, Copy)]
pub(super) struct Want<'a> {
    pub user: &'a User,
    pub target_name: &'a str,
    /// `None`: there is no such target (any more).
    pub target: Option<&'a Target>,
    pub level: Option<&'a AccessLevel>,
    /// The database that is or will be entered: the target's default one already put in. `None`
    /// where the target has none either, which leaves it to the server.
    pub database: Option<&'a str>,
    pub peer: Option<IpAddr>,
    pub touch: Option<&'a Touch>,
}

/// Why a grant does not fit, in the order in which it is looked at: the later, the nearer it came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Misfit<'a> {
    OtherSubject,
    OtherTarget,
    Ended(&'a Ended),
    Expired(Time),
    NotYetOpen(Time),
    NoTarget,
    LevelNotAsked(&'a AccessLevel),
    LevelMustBeNamed(&'a AccessLevel),
    LevelTooLow(&'a AccessLevel),
    OtherGrant,
    OtherDatabase,
    /// The first name, and how many more.
    OtherName(&'a str, usize),
    NotEverything(&'static str),
    OtherAddress(IpAddr),
    TargetSuspended(&'a str),
    NoConnector(&'a AccessLevel),
    LevelSuspended(&'a AccessLevel, &'a str),
    /// Only for who comes in; a live session has its place.
    SessionsUsedUp(u32),
}

/// The first reason why this grant does not let in what is wanted at this time; `None`: it does.
/// How many sessions it has is looked at by [`used_up`], for that only matters at the door.
pub(super) fn misfit<'a>(grant: &'a Grant, want: &Want<'a>, now: Time) -> Option<Misfit<'a>> {
    let for_them = match &grant.subject {
        Subject::User(name) => *name == want.user.name,
        Subject::Group(name) => want.user.groups.contains(name),
    };
    if !for_them {
        return Some(Misfit::OtherSubject);
    }
    if grant.target.as_str() != want.target_name {
        return Some(Misfit::OtherTarget);
    }
    // An end that is stored is final, whatever the clock says now.
    if let Some(ended) = &grant.ended {
        return Some(Misfit::Ended(ended));
    }
    if grant.window.end <= now {
        return Some(Misfit::Expired(grant.window.end));
    }
    if !grant.window.contains(now) {
        return Some(Misfit::NotYetOpen(grant.window.start));
    }
    let Some(target) = want.target else { return Some(Misfit::NoTarget) };
    match want.level {
        Some(level) if *level != grant.level => return Some(Misfit::LevelNotAsked(&grant.level)),
        None if !grant.level.is_ordered() => return Some(Misfit::LevelMustBeNamed(&grant.level)),
        _ => {}
    }
    let default = target.database.as_deref();
    match want.touch {
        Some(touch) => {
            if let Some(misfit) = untouchable(grant, touch, default) {
                return Some(misfit);
            }
        }
        None if !covers(&grant.databases, want.database, default) => return Some(Misfit::OtherDatabase),
        None => {}
    }
    if let Some(peer) = want.peer.filter(|peer| !grant.allows_address(*peer)) {
        return Some(Misfit::OtherAddress(peer));
    }
    unreachable_level(target, &grant.level)
}

/// Whether a connector of this level may be used now.
fn unreachable_level<'a>(target: &'a Target, level: &'a AccessLevel) -> Option<Misfit<'a>> {
    if let Some(why) = &target.suspended {
        return Some(Misfit::TargetSuspended(why));
    }
    let Some(connector) = target.connectors.get(level) else {
        return Some(Misfit::NoConnector(level));
    };
    connector.suspended.as_deref().map(|why| Misfit::LevelSuspended(level, why))
}

/// `Default` is the target's default database and nothing else; where the target has none, it is
/// the database that the server gives to who names none. A list never covers that one: nobody
/// knows its name.
fn covers(databases: &Databases, wanted: Option<&str>, default: Option<&str>) -> bool {
    match databases {
        Databases::All => true,
        Databases::Default => wanted == default,
        Databases::Listed(names) => wanted.is_some_and(|wanted| names.contains(wanted)),
    }
}

/// Why a request may not touch what it touches under this grant. The grant's databases are patterns of indices;
/// `Default` is the target's own pattern, and none where it has none. A level of the target's own has no place in the
/// order, so nothing says what it may do.
fn untouchable<'a>(grant: &'a Grant, touch: &'a Touch, default: Option<&str>) -> Option<Misfit<'a>> {
    if touch.grant.is_some_and(|begun| begun != grant.id) {
        return Some(Misfit::OtherGrant);
    }
    if !grant.level.is_ordered() || grant.level < touch.level {
        return Some(Misfit::LevelTooLow(&grant.level));
    }
    let covered = |name: &str| match &grant.databases {
        Databases::All => true,
        Databases::Default => default.is_some_and(|default| pattern::fits(default, name)),
        Databases::Listed(patterns) => patterns.iter().any(|listed| pattern::fits(listed, name)),
    };
    match &touch.reach {
        Reach::Names(names) => {
            let mut others = names.iter().filter(|name| !covered(name));
            others.next().map(|name| Misfit::OtherName(name.as_str(), others.count()))
        }
        Reach::Everything(_) if grant.databases == Databases::All => None,
        Reach::Everything(why) => Some(Misfit::NotEverything(why)),
    }
}

/// Why no more session may start under this grant; `None`: one may.
pub(super) fn used_up<'a>(grant: &Grant, sessions: &dyn Fn(GrantId) -> u32) -> Option<Misfit<'a>> {
    let max = grant.sessions_max?;
    (sessions(grant.id) >= max).then_some(Misfit::SessionsUsedUp(max))
}

impl Misfit<'_> {
    /// How near the grant came; the nearest is what an operator wants to hear of.
    pub fn rank(&self) -> u8 {
        match self {
            Self::OtherSubject => 0,
            Self::OtherTarget => 1,
            Self::Ended(_) => 2,
            Self::Expired(_) => 3,
            Self::NotYetOpen(_) => 4,
            Self::NoTarget => 5,
            Self::LevelNotAsked(_) | Self::LevelMustBeNamed(_) | Self::LevelTooLow(_) => 6,
            Self::OtherGrant => 6,
            Self::OtherDatabase | Self::OtherName(..) | Self::NotEverything(_) => 7,
            Self::OtherAddress(_) => 8,
            Self::TargetSuspended(_) => 9,
            Self::NoConnector(_) => 10,
            Self::LevelSuspended(..) => 11,
            Self::SessionsUsedUp(_) => 12,
        }
    }

    /// What a live session is told whose grant does not fit any more.
    pub fn cause(&self) -> EndCause {
        match self {
            Self::Ended(ended) => ended.cause,
            Self::Expired(_) => EndCause::Expired,
            Self::NoTarget | Self::TargetSuspended(_) | Self::LevelSuspended(..) => EndCause::TargetSuspended,
            Self::OtherSubject
            | Self::OtherTarget
            | Self::NotYetOpen(_)
            | Self::LevelNotAsked(_)
            | Self::LevelMustBeNamed(_)
            | Self::LevelTooLow(_)
            | Self::OtherGrant
            | Self::OtherDatabase
            | Self::OtherName(..)
            | Self::NotEverything(_)
            | Self::OtherAddress(_)
            | Self::NoConnector(_)
            | Self::SessionsUsedUp(_) => EndCause::NoLongerMatches,
        }
    }
}

/// For the operator; a client never sees it.
impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSubject => f.write_str("is given to somebody else"),
            Self::OtherTarget => f.write_str("is for another target"),
            Self::Ended(ended) => {
                write!(f, "ended at {}: {}", ended.at, ended.cause.sentence())?;
                ended.reason.iter().try_for_each(|reason| write!(f, " ({reason})"))
            }
            Self::Expired(at) => write!(f, "expired at {at}"),
            Self::NotYetOpen(at) => write!(f, "opens at {at}"),
            Self::LevelNotAsked(level) => write!(f, "is for the level {level}, which was not asked for"),
            Self::LevelMustBeNamed(level) => {
                write!(f, "is for the level {level}, which must be asked for by name")
            }
            Self::LevelTooLow(level) => write!(f, "is for the level {level}, and this takes more"),
            Self::OtherGrant => f.write_str("is another one than this was begun under"),
            Self::OtherDatabase => f.write_str("does not cover the database"),
            Self::OtherName(name, 0) => write!(f, "does not cover {name:?}"),
            Self::OtherName(name, more) => write!(f, "does not cover {name:?} and {more} more"),
            Self::NotEverything(why) => write!(f, "is not for everything ('*'), which this takes: {why}"),
            Self::OtherAddress(peer) => write!(f, "is not for the address {peer}"),
            Self::NoTarget => f.write_str("is for a target that does not exist"),
            Self::TargetSuspended(why) => write!(f, "would fit, but the target is suspended ({why})"),
            Self::NoConnector(level) => {
                write!(f, "would fit, but the target has no connector for the level {level}")
            }
            Self::LevelSuspended(level, why) => {
                write!(f, "would fit, but the target's level {level} is suspended ({why})")
            }
            Self::SessionsUsedUp(max) => write!(f, "would fit, but all its {max} sessions are in use"),
        }
    }
}
