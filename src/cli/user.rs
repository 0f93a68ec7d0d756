//! `user add|list|disable|enable|rotate|groups`: local users, for operators.
//!
//! Each command is one call to the control API; the gate makes the tokens and stores their hashes.

use std::path::Path;

use clap::Subcommand;

use super::args::Remote;
use super::client::{Client, escape};
use super::reach::Whose;
use super::speech::note;
use super::{complain, render, show};
use crate::control::model::{DisableBody, EmptyBody, GroupsBody, IssuedUser, NewUserBody, RegroupedUser, UserView, Users};
use crate::names::{GroupName, IdentityName};

/// Creates, lists and changes local users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a user and prints their token, once
    #[command(after_help = "\
Examples:
  tidegate user add ana@example.com --group qa
  tidegate user add ci:shop/orders --group ci --output json | jq -r .token > ci.token")]
    Add {
        /// Name of the user; the audit log shows it with each statement
        name: IdentityName,
        /// Group of the user; can be repeated
        #[arg(long = "group", short, value_name = "GROUP")]
        groups: Vec<GroupName>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists the users
    List {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: Remote,
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
        remote: Remote,
    },
    /// Enables an identity again; its grants stay ended
    Enable {
        /// Name of the user
        name: IdentityName,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: Remote,
    },
    /// Replaces a user's token and prints the new one, once
    Rotate {
        /// Name of the user
        name: IdentityName,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: Remote,
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
        remote: Remote,
    },
}

pub(super) async fn run(config: &Path, command: Command) -> anyhow::Result<()> {
    let client = |remote: &Remote| Client::new(Whose::Operator, config, &remote.place);
    match command {
        Command::Add { name, groups, remote } => {
            let body = NewUserBody {
                name,
                groups: groups.into_iter().collect(),
            };
            issued(&remote, &client(&remote)?.post("/v1/users", &body).await?)
        }
        Command::Rotate { name, remote } => {
            let made = client(&remote)?.post(&path(&name, "rotate"), &EmptyBody {}).await?;
            issued(&remote, &made)
        }
        Command::List { remote } => {
            let users: Users = client(&remote)?.get("/v1/users", &()).await?;
            render::show(remote.printing.output, &users, |users| show::users(&users.users))
        }
        Command::Disable { name, unseen, remote } => {
            let body = DisableBody { unseen };
            let user: UserView = client(&remote)?.post(&path(&name, "disable"), &body).await?;
            if !user.local {
                note(&format!(
                    "note: {name} is not a local user; issuers' tokens for this name are refused"
                ));
            }
            changed(&remote, &user)
        }
        Command::Enable { name, remote } => {
            changed(&remote, &client(&remote)?.post(&path(&name, "enable"), &EmptyBody {}).await?)
        }
        Command::Groups { name, groups, remote } => {
            let body = GroupsBody {
                groups: groups.into_iter().collect(),
            };
            let regrouped: RegroupedUser = client(&remote)?.post(&path(&name, "groups"), &body).await?;
            warn(&regrouped.warnings);
            render::show(remote.printing.output, &regrouped, |regrouped| {
                show::users(std::slice::from_ref(&regrouped.user))
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

fn issued(remote: &Remote, issued: &IssuedUser) -> anyhow::Result<()> {
    warn(&issued.warnings);
    render::show(remote.printing.output, issued, show::issued_user)
}

fn changed(remote: &Remote, user: &UserView) -> anyhow::Result<()> {
    render::show(remote.printing.output, user, |user| show::users(std::slice::from_ref(user)))
}

/// Returns the API path of an action. Names may contain slashes, so they are escaped.
fn path(name: &IdentityName, verb: &str) -> String {
    let mut path = "/v1/users/".to_owned();
    escape(name.as_str(), &mut path);
    path.push('/');
    path.push_str(verb);
    path
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
