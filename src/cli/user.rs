//! `user add|list|disable|enable|rotate|groups`: local users, for operators.
//!
//! Each command is one call to the control API; the gate makes the tokens and stores their hashes.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;

use super::args::RemoteArgs;
use super::speech::{complain, note};
use super::views;
use crate::base::clock::Clock;
use crate::base::duration;
use crate::control::model::{
    DisableBody, EmptyBody, GroupsBody, IssuedUser, NewUserBody, RegroupedUser, RotateBody, UserView, UsersBody,
};
use crate::model::names::{GroupName, IdentityName};

/// Creates, lists and changes local users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Creates a user and prints their token, once
    #[command(after_help = "\
Examples:
  tidegate user add ana@example.com --group qa
  tidegate user add ci:shop/orders --group ci --expires 30d --output json | jq -r .token > ci.token")]
    Add {
        /// Name of the user; the audit log shows it with each statement
        name: IdentityName,
        /// Group of the user; can be repeated
        #[arg(long = "group", short, value_name = "GROUP")]
        groups: Vec<GroupName>,
        /// Life of the token, like 30d [default: set by the gate]
        #[arg(long, value_parser = duration::parse, value_name = "TIME")]
        expires: Option<Duration>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Lists the users
    List {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Disables an identity and ends its grants and sessions
    Disable {
        /// Name of the user, or of an identity with an issuer's token
        name: IdentityName,
        /// Also accepts an identity that is unknown to the gate: no user, grant or request
        #[arg(long)]
        unseen: bool,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Enables an identity again; its grants stay ended
    Enable {
        /// Name of the user
        name: IdentityName,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Replaces a user's token and prints the new one, once
    Rotate {
        /// Name of the user
        name: IdentityName,
        /// Life of the new token, like 30d [default: set by the gate]
        #[arg(long, value_parser = duration::parse, value_name = "TIME")]
        expires: Option<Duration>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Replaces all groups of a user; without groups, removes the user from all
    #[command(after_help = "\
Example:
  tidegate user groups ana@example.com qa oncall")]
    Groups {
        /// Name of the user
        name: IdentityName,
        /// New groups
        groups: Vec<GroupName>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

pub(super) async fn run(config: &Path, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add {
            name,
            groups,
            expires,
            remote,
        } => {
            let body = NewUserBody {
                name,
                groups: groups.into_iter().collect(),
                token_seconds: expires.map(|life| life.as_secs()),
            };
            issued(&remote, &remote.place.operator(config)?.post("/v1/users", &body).await?)
        }
        UserCommand::Rotate { name, expires, remote } => {
            let body = RotateBody {
                token_seconds: expires.map(|life| life.as_secs()),
            };
            let made = remote.place.operator(config)?.post(&path(&name, "rotate"), &body).await?;
            issued(&remote, &made)
        }
        UserCommand::List { remote } => {
            let users: UsersBody = remote.place.operator(config)?.get("/v1/users", &()).await?;
            remote.show(&users, |users| views::users(&users.users, now()))
        }
        UserCommand::Disable { name, unseen, remote } => {
            let body = DisableBody { unseen };
            let user: UserView = remote.place.operator(config)?.post(&path(&name, "disable"), &body).await?;
            if !user.local {
                note(&format!(
                    "note: {name} is not a local user; issuers' tokens for this name are refused"
                ));
            }
            changed(&remote, &user)
        }
        UserCommand::Enable { name, remote } => changed(
            &remote,
            &remote
                .place
                .operator(config)?
                .post(&path(&name, "enable"), &EmptyBody {})
                .await?,
        ),
        UserCommand::Groups { name, groups, remote } => {
            let body = GroupsBody {
                groups: groups.into_iter().collect(),
            };
            let regrouped: RegroupedUser = remote.place.operator(config)?.post(&path(&name, "groups"), &body).await?;
            warn(&regrouped.warnings);
            remote.show(&regrouped, |regrouped| {
                views::users(std::slice::from_ref(&regrouped.user), now())
            })
        }
    }
}

/// Says what was done all the same; also where only errors are wanted, for it is most often one.
fn warn(warnings: &[String]) {
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
}

fn issued(remote: &RemoteArgs, issued: &IssuedUser) -> anyhow::Result<()> {
    warn(&issued.warnings);
    remote.show(issued, |issued| views::issued_user(issued, now()))
}

fn changed(remote: &RemoteArgs, user: &UserView) -> anyhow::Result<()> {
    remote.show(user, |user| views::users(std::slice::from_ref(user), now()))
}

fn now() -> Timestamp {
    Clock::system(None).now()
}

/// Returns the API path of an action. Names may contain slashes, so all but RFC 3986's unreserved characters are escaped.
fn path(name: &IdentityName, verb: &str) -> String {
    let escaped = name.as_str().bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    format!("/v1/users/{}/{verb}", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_the_path() {
        let name = "ci:shop/orders".parse().unwrap();
        assert_eq!(path(&name, "rotate"), "/v1/users/ci%3Ashop%2Forders/rotate");
    }
}
