//! Grants decided in memory: the [`Book`], and the only maker of [`Admission`].

mod admission;
mod book;
mod fit;

#[cfg(test)]
mod tests;

pub use admission::{Admission, Scope};
pub use book::{Book, Explanation, NotAdmitted, Standing};
pub use fit::Asked;
