//! ES|QL: the indices that a query reads, and where its wildcards stand. A query is read by its grammar: a command that
//! is not known here is refused, for it may bring in another index; a function that is not known is for who may read
//! everything.
//!
//! `FROM` names views too, which read whatever they were made to. Views share their names with indices, aliases and
//! data streams, so what is one of these is no view: see [`Asked::wants_indices`].
//!
//! <https://www.elastic.co/docs/reference/query-languages/esql/esql-commands>, by which this was made: no Elasticsearch
//! that has the language can be had for tests.

mod known;
mod lexer;
#[cfg(test)]
mod tests;

use super::asked::{Asked, At};
use super::expression::{Expand, Expression};
use super::json::{Json, Members};
use super::{Wrong, ids, names, query};
use crate::model::limits;
use lexer::{Lexer, Source, Token};

const UNKNOWN: &str = "something in the body that the proxy does not know";
const NESTED: Wrong = Wrong::Bad("the query is nested too deeply");
const COMMAND: Wrong = Wrong::Bad("a command of the query is none that the proxy knows in its place");
const SUBQUERY: Wrong = Wrong::Bad(
    "a query within the query stands where the proxy knows none, behind FROM and IN; a field of that name goes into \
     back quotes",
);
const STRANGE: Wrong = Wrong::Bad("the query is not the ES|QL that the proxy knows");

/// The body of `POST /_query`.
pub(super) fn body(body: &Members<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    let text = body.get("query").and_then(Json::text).ok_or(Wrong::Bad("query must be a text"))?;
    for (name, value) in body {
        match (name.as_ref(), value) {
            // Values, or names of fields: no name of an index can be a parameter.
            ("query" | "params", _) => {}
            ("filter", filter) => query::clause(filter, &mut asked.reach)?,
            ("keep_alive", Json::Text(keep)) => {
                let keep = Some(ids::keep(keep)?);
                asked.gives = asked.gives.map(|gives| ids::Gives { keep, ..gives });
            }
            (
                "columnar"
                | "locale"
                | "profile"
                | "include_ccs_metadata"
                | "include_execution_metadata"
                | "allow_partial_results"
                | "keep_on_completion"
                | "wait_for_completion_timeout"
                | "time_zone",
                value,
            ) => query::scalar(value, &mut asked.reach),
            ("settings", Json::Object(settings)) if settings.keys().all(|name| is_setting(name)) => {}
            _ => asked.reach.everything(UNKNOWN),
        }
    }
    asked.wants_indices = true;
    Reader { lexer: Lexer::new(text), asked, depth: 0 }.statement()
}

/// The name of an index as it is put into a query. In quotes only where it must be: older versions know none there.
pub(super) fn spelt(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name.chars().all(plain) && !name.eq_ignore_ascii_case("metadata") {
        true => Some(name.to_owned()),
        false => {
            (!name.contains(['"', '\\']) && !name.contains(char::is_control)).then(|| format!("\"{name}\""))
        }
    }
}

/// What concerns the reading of values alone. Others lead to other projects, or are not known.
fn is_setting(name: &str) -> bool {
    ["time_zone", "unmapped_fields", "approximation"].contains(&name)
}

struct Reader<'a, 'b> {
    lexer: Lexer<'a>,
    asked: &'b mut Asked,
    depth: usize,
}

impl Reader<'_, '_> {
    /// `SET …; FROM … | …`
    fn statement(mut self) -> Result<(), Wrong> {
        while self.lexer.peek_word()?.as_deref() == Some("set") {
            self.set()?;
        }
        self.pipeline()?;
        match self.lexer.peek()? {
            None => Ok(()),
            Some(_) => Err(STRANGE),
        }
    }

    /// `SET name = value;`
    fn set(&mut self) -> Result<(), Wrong> {
        self.lexer.word()?;
        let name = self.lexer.word()?.ok_or(STRANGE)?;
        if !is_setting(&name) {
            self.asked.reach.everything("a setting of the query that the proxy does not know");
        }
        if !self.lexer.takes(b'=')? {
            return Err(STRANGE);
        }
        let mut braces = 0_usize;
        while let Some(token) = self.lexer.token()? {
            match token {
                Token::Sign(';') if braces == 0 => return Ok(()),
                Token::Sign('{') => braces += 1,
                Token::Sign('}') => braces = braces.checked_sub(1).ok_or(STRANGE)?,
                Token::Sign('.' | ':' | ',' | '-' | '+') | Token::Text | Token::Number | Token::Word(_) => {}
                _ => return Err(STRANGE),
            }
        }
        Err(STRANGE)
    }

    /// A source and what is done with it, up to the end or to the parenthesis that closes it.
    fn pipeline(&mut self) -> Result<(), Wrong> {
        let word = self.lexer.word()?.ok_or(COMMAND)?;
        match word.as_str() {
            "from" | "ts" => self.from()?,
            "row" => self.expression()?,
            "show" if self.lexer.word()?.as_deref() == Some("info") => {}
            _ => return Err(COMMAND),
        }
        self.commands()
    }

    fn commands(&mut self) -> Result<(), Wrong> {
        while self.lexer.takes(b'|')? {
            self.command()?;
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), Wrong> {
        let word = self.lexer.word()?.ok_or(COMMAND)?;
        match word.as_str() {
            "change_point" | "dissect" | "drop" | "eval" | "fuse" | "grok" | "inlinestats" | "keep"
            | "limit" | "metrics_info" | "mmr" | "mv_expand" | "registered_domain" | "rename" | "sample"
            | "sort" | "stats" | "ts_collapse" | "ts_info" | "uri_parts" | "user_agent" | "where" => {
                self.expression()
            }
            "inline" if self.lexer.word()?.as_deref() == Some("stats") => self.expression(),
            "lookup" if self.lexer.word()?.as_deref() == Some("join") => self.lookup(),
            "enrich" => {
                // What it reads was named where the policy was made.
                self.asked.reach.everything("ENRICH, whose policy names indices of its own");
                let policy = self.lexer.source()?.text;
                names::unsealed(&policy)?;
                self.expression()
            }
            "completion" | "rerank" | "ip_location" => {
                self.asked.reach.everything("a model or a database that is asked");
                self.expression()
            }
            "fork" => self.fork(),
            _ => Err(COMMAND),
        }
    }

    /// `FROM logs-1, metrics-*, (FROM … | …) METADATA _id`
    fn from(&mut self) -> Result<(), Wrong> {
        let mut run: Vec<Source> = Vec::new();
        loop {
            match self.lexer.takes(b'(')? {
                true => {
                    self.sources(std::mem::take(&mut run))?;
                    self.inner(Self::pipeline)?;
                }
                false => run.push(self.lexer.source()?),
            }
            if !self.lexer.takes(b',')? {
                break;
            }
        }
        self.sources(run)?;
        match self.lexer.peek()? {
            None | Some(b'|' | b')') => Ok(()),
            Some(_) => self.metadata(),
        }
    }

    fn metadata(&mut self) -> Result<(), Wrong> {
        if self.lexer.word()?.as_deref() != Some("metadata") {
            return Err(STRANGE);
        }
        loop {
            self.lexer.word()?.ok_or(STRANGE)?;
            if !self.lexer.takes(b',')? {
                return Ok(());
            }
        }
    }

    /// Names that stand side by side are one expression, with what is taken away of it.
    fn sources(&mut self, run: Vec<Source>) -> Result<(), Wrong> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let at = At::Text(first.start, last.end);
        let names = run.iter().flat_map(|source| source.text.split(','));
        let expression = Expression::of(names.clone(), Expand::OPEN, &mut self.asked.reach)?;
        // Wildcards that are looked for say themselves what they lead to.
        let is_said = |name: &&str| expression.is_none() || !name.contains('*');
        self.said(names.map(|name| name.trim_start_matches('-')).filter(is_said));
        self.asked.place(at, expression)
    }

    fn said<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.asked.sources.extend(names.map(str::to_owned));
    }

    /// `LOOKUP JOIN index ON …`: one index, without wildcards.
    fn lookup(&mut self) -> Result<(), Wrong> {
        let index = self.lexer.source()?.text;
        names::name(&index, &mut self.asked.reach)?;
        self.said([index.as_str()].into_iter());
        match self.lexer.word()?.as_deref() {
            Some("on") => self.expression(),
            _ => Err(STRANGE),
        }
    }

    /// `FORK (WHERE … | …) (…)`
    fn fork(&mut self) -> Result<(), Wrong> {
        let mut branches = 0;
        while self.lexer.takes(b'(')? {
            branches += 1;
            self.inner(|reader| {
                reader.command()?;
                reader.commands()
            })?;
        }
        if branches > 0 { Ok(()) } else { Err(STRANGE) }
    }

    /// What stands in parentheses, of which the first was taken.
    fn inner(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Wrong>) -> Result<(), Wrong> {
        if self.depth >= limits::HTTP_SUBQUERIES_DEPTH_MAX {
            return Err(NESTED);
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        match self.lexer.takes(b')')? {
            true => Ok(()),
            false => Err(STRANGE),
        }
    }

    /// All that stands up to the next command: fields, values, functions. No name of an index can stand in it.
    fn expression(&mut self) -> Result<(), Wrong> {
        let mut open = Vec::new();
        let mut before = None;
        loop {
            match self.lexer.peek()? {
                None | Some(b'|' | b')') if open.is_empty() => return Ok(()),
                None | Some(b'|') => return Err(SUBQUERY),
                Some(_) => {}
            }
            let Some(token) = self.lexer.token()? else { return Err(STRANGE) };
            match &token {
                Token::Sign(sign @ ('(' | '[' | '{')) => {
                    if open.len() >= limits::HTTP_JSON_DEPTH_MAX {
                        return Err(NESTED);
                    }
                    if *sign == '(' && self.opens(before.as_ref())? {
                        self.inner(Self::pipeline)?;
                        before = Some(Token::Sign(')'));
                        continue;
                    }
                    open.push(*sign);
                }
                Token::Sign(sign @ (')' | ']' | '}')) => {
                    let matches =
                        matches!((open.pop(), sign), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}'));
                    if !matches {
                        return Err(STRANGE);
                    }
                }
                Token::Sign(';') => return Err(STRANGE),
                // No two names stand side by side.
                Token::Word(word) => match &before {
                    Some(Token::Word(before)) if !known::links(before) && !known::links(word) => {
                        return Err(STRANGE);
                    }
                    _ => {}
                },
                _ => {}
            }
            before = Some(token);
        }
    }

    /// What a parenthesis opens: the arguments of what stands ahead of it, a part of the expression, or (`true`) a
    /// query whose rows are looked through, behind IN.
    fn opens(&mut self, before: Option<&Token>) -> Result<bool, Wrong> {
        const QUERIES: [&str; 3] = ["from", "ts", "row"];
        const OTHERS: [&str; 6] = ["show", "promql", "eql", "explain", "external", "set"];
        let is_plain = |name: &str| known::is_plain(&name.to_ascii_lowercase());
        let known = match before {
            Some(Token::Word(word)) => known::is_keyword(word) || is_plain(word),
            Some(Token::Quoted(name)) => is_plain(name),
            // A parameter may stand in for the name of a function.
            Some(Token::Parameter) => false,
            Some(Token::Text | Token::Number | Token::Sign(')' | ']' | '}')) => return Err(STRANGE),
            Some(Token::Sign(_)) | None => true,
        };
        if !known {
            self.asked.reach.everything("a function that the proxy does not know");
        }
        let Some(word) = self.lexer.peek_word()? else { return Ok(false) };
        match (QUERIES.contains(&word.as_str()), before) {
            (true, Some(Token::Word(before))) if before == "in" => Ok(true),
            (true, _) => Err(SUBQUERY),
            (false, _) if OTHERS.contains(&word.as_str()) => Err(SUBQUERY),
            (false, _) => Ok(false),
        }
    }
}
