//! Grants decided in memory: the [`Book`], and the only maker of [`Admission`].

mod admission;
mod book;

pub use admission::Admission;
pub use book::{Book, NotAdmitted, Standing};
