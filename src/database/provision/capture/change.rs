//! Captured change as a record of the log: its author, its table, what may be recorded of its values, and its rows.
//!
//! It reads and records nothing.

use std::collections::BTreeMap;

use super::DrainPlace;
use super::images::CapturedColumns;
use super::store::{CapturedChange, ImagePiece, StoreConnection};
use crate::audit::event::{RowOperation, RowsChanged};
use crate::audit::values::ParameterDisplay;
use crate::database::rights::{ColumnMask, MaskedTable};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, ProfileName};

/// Author of a change.
#[derive(Debug, Clone)]
pub(super) enum ChangeAuthor {
    Grant {
        grant: GrantId,
        identity: IdentityName,
        profile: Option<ProfileName>,
    },
    /// Role that no gate made.
    PastTheGate,
}

/// Change with what is known about it.
pub(super) struct ChangeSource<'c> {
    pub(super) place: &'c DrainPlace,
    pub(super) store: &'c StoreConnection,
    /// Masked tables that the database does not have.
    pub(super) missing: &'c [(String, String)],
    pub(super) change: &'c CapturedChange,
    pub(super) author: &'c ChangeAuthor,
}

impl ChangeSource<'_> {
    /// Returns the record of the change, without rows.
    pub(super) fn event(&self, session: impl Fn(&GrantId) -> Option<SessionId>) -> RowsChanged {
        let change = self.change;
        let (grant, identity, profile) = match self.author {
            ChangeAuthor::Grant {
                grant,
                identity,
                profile,
            } => (Some(grant.clone()), Some(identity.clone()), profile.clone()),
            ChangeAuthor::PastTheGate => (None, None, None),
        };
        let operation = match change.operation.as_str() {
            "INSERT" => RowOperation::Insert,
            "DELETE" => RowOperation::Delete,
            "TRUNCATE" => RowOperation::Truncate,
            _ => RowOperation::Update,
        };
        RowsChanged {
            session: grant.as_ref().and_then(session),
            grant,
            identity,
            target: self.place.target.name.clone(),
            profile,
            schema: change.schema.clone(),
            table: change.table.clone(),
            operation: operation.into(),
            role: change.role.clone(),
            backend_pid: change.backend,
            transaction: change.transaction,
            change: u64::try_from(change.id).unwrap_or_default(),
            depth: change.depth,
            statement_at: change.statement_at,
            rows: change.rows,
            offset: 0,
            changes: Vec::new(),
            old_checksum: change.old_sum.clone(),
            new_checksum: change.new_sum.clone(),
            hashed: matches!(self.place.settings.show, ParameterDisplay::Hashed(_)),
            masked: self.columns().masked(),
            generated: change.generated.clone(),
        }
    }

    /// Returns the columns, with the masks of the author's profile; of an author without a profile, those of all profiles. A mask
    /// whose table is gone holds for columns of that name in any table: the table may have been renamed.
    pub(super) fn columns(&self) -> CapturedColumns<'_> {
        let profile = match self.author {
            ChangeAuthor::Grant { profile, .. } => profile.as_ref(),
            ChangeAuthor::PastTheGate => None,
        };
        let settings = &self.place.settings;
        let is_of = |of: &ProfileName| profile.is_none_or(|profile| profile == of);
        let own = || {
            settings
                .masks
                .iter()
                .filter(|(of, _)| is_of(of))
                .flat_map(|(_, tables)| tables)
        };
        let captured = (self.change.schema.clone(), self.change.table.clone());
        let is = |table: &MaskedTable, (schema, name): &(String, String)| table.schema == *schema && table.name == *name;
        let is_masked = |table: &&MaskedTable| {
            let names = self.change.names.iter();
            names.chain([&captured]).any(|name| is(table, name))
        };
        let is_missing = |table: &&MaskedTable| self.missing.iter().any(|name| is(table, name));
        let mut masks: BTreeMap<&str, &ColumnMask> = BTreeMap::new();
        for table in own().filter(|table| is_masked(table) || is_missing(table)) {
            masks.extend(table.columns.iter().map(|(column, mask)| (column.as_str(), mask)));
        }
        let mut wanted = own().filter(is_masked).flat_map(|table| &table.columns);
        CapturedColumns {
            names: &self.change.columns,
            key: &self.change.key,
            masks,
            withheld: wanted.any(|(column, _)| !self.change.columns.contains(column)),
            show: &settings.show,
            value_key: &settings.value_key,
        }
    }
}

/// Images of a row, before and after.
pub(super) type RowImages<'p> = (Option<&'p str>, Option<&'p str>);

/// Returns the rows of a piece, each with the length that it may take in a record. Images at the same place belong together if
/// there are as many before as after; a row that moved to another partition, and was refused there by a trigger, has one only.
///
/// The length depends on what was captured alone, so that a change is always cut into the same records.
pub(super) fn rows<'p>((old, new): &'p ImagePiece, change: &CapturedChange) -> Vec<(RowImages<'p>, usize)> {
    /// Length of a hash with what JSON puts around a value.
    const VALUE_BYTES: usize = 72;
    let names: usize = change.columns.iter().map(|column| column.len() + VALUE_BYTES).sum();
    let (olds, news) = (old.iter().map(String::as_str), new.iter().map(String::as_str));
    let images: Vec<RowImages<'p>> = if change.images.0 == change.images.1 {
        olds.zip(news).map(|(old, new)| (Some(old), Some(new))).collect()
    } else {
        let olds = olds.map(|old| (Some(old), None));
        olds.chain(news.map(|new| (None, Some(new)))).collect()
    };
    let length = |image: Option<&str>| image.map_or(0, |image| image.len() + names);
    images
        .into_iter()
        .map(|images| (images, length(images.0) + length(images.1)))
        .collect()
}
