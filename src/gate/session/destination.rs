//! Target and profile that a client names in its startup packet.
//!
//! This module knows only the names of the targets: the existence of a profile and the client's rights are checked later.
//!
//! INVARIANT: a name that is a target's own means that target, whatever characters it contains.

use std::borrow::Cow;

use crate::database::upstream::Target;

/// Destination that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// Name of the target, or the text as sent if it is not one.
    pub(super) target: String,
    /// Name of the profile.
    pub(super) profile: Option<String>,
}

/// Names by which targets can be reached: each target's own, and that of its database.
pub(super) struct TargetNames<'a>(Vec<(&'a str, &'a str)>);

impl<'a> TargetNames<'a> {
    pub(super) fn of(targets: impl Iterator<Item = &'a Target>) -> Self {
        Self(
            targets
                .map(|target| (target.name.as_str(), target.database.as_str()))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(target, _)| *target == name)
    }

    /// Returns the target that a name means: the one with this name, else the one with a database of this name, so that the
    /// result of `current_database()` works too. If several have that database, it is the one of the client's grant, or none.
    fn meant(&self, name: &str, granted: Option<&str>) -> Option<&'a str> {
        if let Some((target, _)) = self.0.iter().find(|(target, _)| *target == name) {
            return Some(target);
        }
        let with_database = || {
            self.0
                .iter()
                .filter(|(_, database)| *database == name)
                .map(|(target, _)| *target)
        };
        let of_grant = with_database().find(|target| Some(*target) == granted);
        of_grant.or_else(|| with_database().next().filter(|_| with_database().count() == 1))
    }
}

impl Destination {
    /// Parses a database name: `target`, or with a profile `target.profile`, `target/profile` or `target%2Fprofile`.
    ///
    /// `granted` is the target of the client's grant, if it came with one.
    pub(super) fn read(database: &str, targets: &TargetNames<'_>, granted: Option<&str>) -> Self {
        let (name, profile) = if targets.has(database) {
            (Cow::Borrowed(database), None)
        } else {
            split(database, |name| targets.meant(name, granted).is_some())
        };
        Self {
            target: targets.meant(&name, granted).unwrap_or(&name).to_owned(),
            profile,
        }
    }

    /// Returns both as one name, as a grant is checked against it: `target` or `target/profile`.
    pub(super) fn database(&self) -> String {
        match &self.profile {
            Some(profile) => format!("{}/{profile}", self.target),
            None => self.target.clone(),
        }
    }
}

/// Splits off the profile. Names of profiles have no dots, and those of targets no slashes. A dot divides only after the name of
/// a target, so that errors show a mistyped name as it was typed.
fn split(database: &str, is_target: impl Fn(&str) -> bool) -> (Cow<'_, str>, Option<String>) {
    // Drivers send the text after the last `/` of their URL unchanged, still encoded.
    let decoded = database.replace("%2F", "/").replace("%2f", "/");
    if let Some((target, profile)) = decoded.split_once('/') {
        return (Cow::Owned(target.to_owned()), Some(profile.to_owned()));
    }
    match database.rsplit_once('.') {
        Some((target, profile)) if is_target(target) => (Cow::Borrowed(target), Some(profile.to_owned())),
        _ => (Cow::Borrowed(database), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [(&str, &str); 5] = [
        ("orders", "orders"),
        ("orders.read-write", "orders_rw"),
        ("shop.eu", "shop"),
        ("qa-1", "payroll"),
        ("qa-2", "payroll"),
    ];

    fn read(database: &str, granted: Option<&str>) -> String {
        Destination::read(database, &TargetNames(TARGETS.to_vec()), granted).database()
    }

    #[test]
    fn every_spelling_of_a_profile() {
        for database in ["shop.eu.admin", "shop.eu/admin", "shop.eu%2Fadmin", "shop.eu%2fadmin"] {
            assert_eq!(read(database, None), "shop.eu/admin", "{database}");
        }
        assert_eq!(read("orders.read-only", None), "orders/read-only");
    }

    #[test]
    fn a_targets_own_name_comes_before_everything() {
        assert_eq!(read("orders.read-write", None), "orders.read-write");
        assert_eq!(read("orders.read-write", Some("orders")), "orders.read-write");
        assert_eq!(read("orders.read-write.x", None), "orders.read-write/x");
        assert_eq!(read("orders/read-write", None), "orders/read-write");
    }

    #[test]
    fn a_database_of_one_target_means_that_target() {
        assert_eq!(read("shop", None), "shop.eu");
        assert_eq!(read("shop.admin", None), "shop.eu/admin");
        assert_eq!(read("orders_rw", None), "orders.read-write");
        // Of several, only that of the grant.
        assert_eq!(read("payroll", None), "payroll");
        assert_eq!(read("payroll", Some("qa-2")), "qa-2");
        assert_eq!(read("payroll/admin", Some("qa-1")), "qa-1/admin");
        assert_eq!(read("payroll", Some("orders")), "payroll");
    }

    #[test]
    fn what_names_no_target_stays_as_it_was_sent() {
        for database in ["ordrs", "ordrs.read-only", "gr_4k2m9x0a7b.k7", ".", ""] {
            assert_eq!(read(database, None), database);
        }
    }
}
