//! What the fuzz targets of the conversation look at.

use std::sync::Arc;

use bytes::BytesMut;

use super::capability::{Capabilities, status};
use super::facts::{Learned, MySqlFacts};
use super::lexer;
use super::query::{Baseline, Variable};
use super::value::{self, Form};

/// Every reading of a statement's text that decides something. Panics when a promise is broken.
pub(crate) fn read_text(text: &[u8]) {
    for mode in lexer::readings(text) {
        let masked = lexer::mask(text, mode);
        assert!(masked.len() <= 4 * text.len() + 16, "{} bytes became {}", text.len(), masked.len());
        assert!(lexer::placeholders(text, mode) <= text.len());
        lexer::used_databases(text, mode, |name| {
            assert!(name.len() <= 3 * text.len());
            true
        });
    }
    let signs = lexer::signs(text);
    assert!(signs.kill || lexer::kill(text, None) == lexer::Kill::None, "a KILL without a sign of it");
    assert!(signs.local || lexer::local_files(text).is_empty());
    assert!(lexer::first_words(text, 5).len() <= 5);
}

/// Where the values of a command are: within it, and shown without a panic.
pub(crate) fn find_values(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else { return };
    let count = usize::from(first & 0x1f);
    let mut head = BytesMut::new();
    let show = |values: &[u8], head: &[u8]| {
        assert!(values.len() <= body.len());
        let parameters = crate::model::Parameters { types: head, values, length: values.len() as u64 };
        value::describe(&parameters);
    };
    if let Some((values, text)) = value::attributes(body, &mut head) {
        assert!(values.len() + text.len() <= body.len());
        show(values, &head);
    }
    for attributes in [false, true] {
        head.clear();
        let form = Form { attributes, counted: first & 0x80 != 0, is_mariadb: first & 0x20 != 0 };
        if let Some((values, _)) = value::execute(body, form, (count, &[3, 0, 254, 0], &[(1, 9)]), &mut head)
        {
            show(values, &head);
        }
    }
    head.clear();
    if let Some(values) = value::bulk(body, first & 0x40 != 0, (count, &[3, 0]), &mut head) {
        show(values, &head);
    }
}

/// A connection that has been probed; the bits choose what it is.
pub(crate) fn facts(bits: u8) -> MySqlFacts {
    let version = if bits & 1 == 0 { "9.7.4" } else { "11.8.9-MariaDB" };
    let agreed =
        [Capabilities::DEPRECATE_EOF, Capabilities::MARIADB_PROGRESS, Capabilities::QUERY_ATTRIBUTES];
    let chosen = agreed.into_iter().zip(1..).filter(|(_, bit)| bits >> bit & 1 == 1);
    let baseline = Baseline {
        account: "conn@%".into(),
        hash: "ab".into(),
        glance: "cd".into(),
        variables: [Variable { name: "autocommit".into(), nullable: false }].into(),
        ..Baseline::default()
    };
    MySqlFacts {
        learned: Arc::new(Learned {
            version: version.into(),
            capabilities: Capabilities::ALWAYS | Capabilities::LONG_PASSWORD,
            collation: 45,
            status: status::AUTOCOMMIT,
        }),
        capabilities: chosen.fold(Capabilities::ALWAYS, |all, (one, _)| all | one),
        user: "conn".into(),
        database: "shop".into(),
        collation: 45,
        thread: 7,
        status: status::AUTOCOMMIT,
        termination: None,
        stamps_comments: false,
        baseline: Some(Arc::new(baseline)),
    }
}
