use super::super::capability::Capabilities;
use super::rig::Rig;
use crate::protocol::session::Side;

#[test]
fn a_query_and_its_answer_pass_untouched() {
    let mut rig = Rig::new(Capabilities::DEPRECATE_EOF);
    let query = b"\x09\0\0\0\x03select 1";
    rig.feed(Side::Downstream, query);
    assert_eq!(rig.to_server, query);
    let answer = b"\x01\0\0\x01\x01\x03\0\0\x02def\x02\0\0\x03\x011\x07\0\0\x04\xfe\0\0\x02\0\0\0";
    rig.feed(Side::Upstream, answer);
    assert_eq!(rig.to_client, answer);
    assert_eq!(rig.end, None);
}
