//! The guest's end of the control channel, run on this host against frames made by hand: the helper, and
//! the shell server in two shells.

mod channel;
mod ending;
mod guest;
mod isolation;
mod oracle;
mod questions;
mod statuses;
mod streams;
mod workers;

/// Runs a test once for each way that serves the channel.
macro_rules! each_way {
    ($($(#[$note:meta])* fn $name:ident($guest:ident: Guest) $body:block)*) => {$(
        $(#[$note])*
        mod $name {
            use super::*;

            fn test(mut $guest: Guest) $body

            #[test]
            fn helper() {
                test(Guest::start(crate::channel_guest::guest::Way::Helper));
            }

            #[test]
            fn sh() {
                test(Guest::start(crate::channel_guest::guest::Way::Shell("sh")));
            }

            #[test]
            fn bash() {
                test(Guest::start(crate::channel_guest::guest::Way::Shell("bash")));
            }
        }
    )*};
}
pub(crate) use each_way;
