//! The machines as a whole: one rule at a time ([`accept`], [`dial`]), against transcripts of real servers and
//! clients and in pieces of any size ([`golden`]), against what is published of other servers ([`published`]), and, on
//! request, against running servers ([`live`]).

mod accept;
mod dial;
mod golden;
mod live;
mod published;

#[test]
fn the_registry_knows_the_protocol() {
    let entry = crate::protocol::by_name("mysql").unwrap();
    assert_eq!((entry.name, entry.port), ("mysql", 3306));
}
