use super::refusal::Refusal;

/// One thing that a client asks for, as far as it can be known from its bytes. Labels and warns;
/// a policy may refuse it, never permit what the connector's rights do not.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// The statement's text as the client sent it, or empty where there is none.
    pub text: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Refuse(Refusal),
}
