//! The machines as a whole: against transcripts of real servers and clients (`golden/`), in pieces of
//! any size, against noise; and, on request, against a running server ([`live`]).

mod golden;
mod live;
