//! (being written)
pub fn run(_: &super::arguments::DemoArguments) -> super::failure::Outcome {
    Ok(())
}
