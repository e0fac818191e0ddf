//! Walks through a statement and names what it finds.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CopySource, CreateTableLikeKind, Expr, FromTable, GrantObjects, Ident, ObjectName, ObjectNamePart,
    ObjectType, Query, Select, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, UtilityOption,
    Value, Visit, Visitor,
};
use sqlparser::tokenizer::Token;

use super::Label;

/// What the tables are to the statement that names them outside of its queries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It reads them, but for those in [`Find::targets`].
    Read,
    /// It makes, alters or drops them.
    Write,
}

/// Names of common table expressions that hide tables.
struct Scope {
    visible: Vec<String>,
    /// Of a WITH that is not recursive: a name is visible only behind the query that it stands for.
    later: Vec<(*const Query, String)>,
}

pub(super) struct Find<'l> {
    label: &'l mut Label,
    /// The server takes names without quotes in lower case.
    folds: bool,
    /// Of the statements around, the innermost last: their role, and how many queries were around them.
    roles: Vec<(Role, usize)>,
    /// One for each query around.
    scopes: Vec<Scope>,
    /// Names of this statement that are written to. Only compared, never followed.
    targets: Vec<*const ObjectName>,
    /// Names that are no tables.
    others: Vec<*const ObjectName>,
    /// Within an EXPLAIN that runs nothing.
    only_planned: usize,
}

impl<'l> Find<'l> {
    pub fn new(label: &'l mut Label, folds: bool) -> Self {
        Self {
            label,
            folds,
            roles: Vec::new(),
            scopes: Vec::new(),
            targets: Vec::new(),
            others: Vec::new(),
            only_planned: 0,
        }
    }

    /// `first` is the first token of the statement's text.
    pub fn statement(&mut self, first: &Token, statement: &Statement) {
        match (verb(statement), first) {
            (Some(verb), _) => self.label.verb(verb),
            // A WITH is told by what follows it.
            (None, Token::Word(word)) if !matches!(statement, Statement::Query(_)) => {
                self.label.verb(&word.value.to_ascii_uppercase());
            }
            _ => {}
        }
        // Nothing here breaks off.
        let _ = Visit::visit(statement, self);
    }

    fn read(&mut self, name: String) {
        self.label.add(|label| &mut label.reads, name);
    }

    fn write(&mut self, name: String) {
        match self.only_planned {
            0 => self.label.add(|label| &mut label.writes, name),
            _ => self.read(name),
        }
    }

    fn call(&mut self, name: &ObjectName) {
        self.label.add(|label| &mut label.calls, written(name, true));
    }

    fn writes<'n>(&mut self, names: impl IntoIterator<Item = &'n ObjectName>) {
        names.into_iter().for_each(|name| self.write(written(name, self.folds)));
    }

    fn target(&mut self, table: &TableFactor) {
        if let TableFactor::Table { name, .. } = table {
            self.targets.push(name);
        }
    }

    fn is_common_table(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.visible.iter().any(|known| known == name))
    }

    /// What stands in places that the walk does not take for tables.
    fn elsewhere(&mut self, statement: &Statement) {
        match statement {
            Statement::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.targets.push(name);
                }
            }
            Statement::Update(update) => self.target(&update.table.relation),
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                let relation = |table: &TableWithJoins| self.target(&table.relation);
                from.iter().for_each(relation);
                self.writes(&delete.tables);
            }
            Statement::Merge(merge) => self.target(&merge.table),
            Statement::Copy { source: CopySource::Table { table_name, .. }, to, .. } => match to {
                true => self.read(written(table_name, self.folds)),
                false => self.write(written(table_name, self.folds)),
            },
            Statement::Drop { object_type, names, table, .. } => {
                let is_table = matches!(
                    object_type,
                    ObjectType::Table
                        | ObjectType::View
                        | ObjectType::MaterializedView
                        | ObjectType::Index
                        | ObjectType::Sequence
                );
                if is_table {
                    self.writes(names);
                }
                self.others.extend(names.iter().map(std::ptr::from_ref));
                self.writes(table);
            }
            Statement::CreateTable(create) => {
                for name in create.inherits.iter().flatten() {
                    self.read(written(name, self.folds));
                }
                if let Some(CreateTableLikeKind::Parenthesized(like) | CreateTableLikeKind::Plain(like)) =
                    &create.like
                {
                    self.read(written(&like.name, self.folds));
                }
            }
            Statement::CreateTrigger(trigger) => self.write(written(&trigger.table_name, self.folds)),
            Statement::DropTrigger(trigger) => self.writes(&trigger.table_name),
            Statement::Vacuum(vacuum) => self.writes(&vacuum.table_name),
            Statement::Comment { object_name, .. } => self.write(written(object_name, self.folds)),
            Statement::Grant(grant) => self.privileges(grant.objects.as_ref()),
            Statement::Revoke(revoke) => self.privileges(revoke.objects.as_ref()),
            Statement::Call(function) => self.call(&function.name),
            _ => {}
        }
    }

    fn privileges(&mut self, objects: Option<&GrantObjects>) {
        if let Some(
            GrantObjects::Tables(names) | GrantObjects::Views(names) | GrantObjects::Sequences(names),
        ) = objects
        {
            self.writes(names);
            self.others.extend(names.iter().map(std::ptr::from_ref));
        }
    }

    /// `TABLE orders`, alone or in a UNION.
    fn whole_tables(&mut self, body: &SetExpr) {
        let mut rest = vec![body];
        while let Some(body) = rest.pop() {
            match body {
                SetExpr::Table(table) => {
                    let parts = [&table.schema_name, &table.table_name].into_iter().flatten();
                    let mut name = parts.cloned().collect::<Vec<_>>().join(".");
                    if self.folds {
                        name.make_ascii_lowercase();
                    }
                    if !self.is_common_table(&name) {
                        self.read(name);
                    }
                }
                SetExpr::SetOperation { left, right, .. } => rest.extend([&**right, &**left]),
                _ => {}
            }
        }
    }
}

/// `None` where the first word of the text is the verb, or the statement within says it.
fn verb(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::Insert(insert) if insert.replace_into => Some("REPLACE"),
        Statement::Insert(_) => Some("INSERT"),
        Statement::Update(_) => Some("UPDATE"),
        Statement::Delete(_) => Some("DELETE"),
        Statement::Merge(_) => Some("MERGE"),
        Statement::Query(query) => {
            let mut body = &*query.body;
            while let SetExpr::Query(inner) = body {
                body = &inner.body;
            }
            match body {
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => None,
                SetExpr::Values(_) => Some("VALUES"),
                _ => Some("SELECT"),
            }
        }
        _ => None,
    }
}

fn role(statement: &Statement) -> Role {
    match statement {
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Query(_)
        | Statement::Copy { .. }
        | Statement::Explain { .. }
        | Statement::ExplainTable { .. }
        | Statement::Prepare { .. }
        | Statement::Declare { .. }
        | Statement::Analyze(_)
        | Statement::Lock(_)
        | Statement::Set(_)
        | Statement::Call(_) => Role::Read,
        _ => Role::Write,
    }
}

/// Whether an EXPLAIN runs its statement. In doubt it does, and literals are doubt: a label must not hang
/// on what is in one.
fn runs(analyze: bool, options: Option<&Vec<UtilityOption>>) -> bool {
    let is_off = |argument: &Expr| match argument {
        Expr::Value(value) => value.value == Value::Boolean(false),
        Expr::Identifier(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("off"),
        _ => false,
    };
    let named =
        options.into_iter().flatten().filter(|option| option.name.value.eq_ignore_ascii_case("analyze"));
    analyze || named.map(|option| option.arg.as_ref()).any(|argument| !argument.is_some_and(is_off))
}

/// A part of a name as the server takes it: without quotes it may be in lower case. A literal in a name's place
/// (the parser takes one, no server does) is never shown: it may be anything.
fn part(ident: &Ident, folds: bool) -> String {
    match ident.quote_style {
        Some('\'') => "?".to_owned(),
        Some(_) => ident.value.clone(),
        None if !folds => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn written(name: &ObjectName, folds: bool) -> String {
    let mut text = String::new();
    for piece in &name.0 {
        let ident = match piece {
            ObjectNamePart::Identifier(ident) => ident,
            ObjectNamePart::Function(function) => &function.name,
        };
        if !text.is_empty() {
            text.push('.');
        }
        text += &part(ident, folds);
    }
    text
}

impl Visitor for Find<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        if !self.roles.is_empty()
            && self.only_planned == 0
            && let Some(verb) = verb(statement)
        {
            self.label.verb(verb);
        }
        self.roles.push((role(statement), self.scopes.len()));
        self.elsewhere(statement);
        if let Statement::Explain { analyze, options, .. } = statement
            && (self.only_planned > 0 || !runs(*analyze, options.as_ref()))
        {
            self.only_planned += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.roles.pop();
        if matches!(statement, Statement::Explain { .. }) {
            self.only_planned = self.only_planned.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let mut scope = Scope { visible: Vec::new(), later: Vec::new() };
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = part(&table.alias.name, self.folds);
            match query.with.as_ref().is_some_and(|with| with.recursive) {
                true => scope.visible.push(name),
                false => scope.later.push((&*table.query, name)),
            }
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        // Its own tables are known by now; the body was walked through, but for these.
        self.whole_tables(&query.body);
        self.scopes.pop();
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.later.iter().position(|(of, _)| std::ptr::eq(*of, query))
        {
            let (_, name) = scope.later.remove(at);
            scope.visible.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for target in select.into.iter().flat_map(|into| &into.targets) {
            match target {
                Expr::Identifier(ident) => self.write(part(ident, self.folds)),
                Expr::CompoundIdentifier(parts) => {
                    self.write(
                        parts.iter().map(|ident| part(ident, self.folds)).collect::<Vec<_>>().join("."),
                    );
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let same = |known: &*const ObjectName| std::ptr::eq(*known, relation);
        if self.others.iter().any(same) {
            return ControlFlow::Continue(());
        }
        let name = written(relation, self.folds);
        let (role, queries) = self.roles.last().copied().unwrap_or((Role::Read, 0));
        if self.targets.iter().any(same) || (role == Role::Write && self.scopes.len() == queries) {
            self.write(name);
        } else if !self.is_common_table(&name) {
            self.read(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.others.push(name);
                self.call(name);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.call(&function.name);
        }
        ControlFlow::Continue(())
    }
}
