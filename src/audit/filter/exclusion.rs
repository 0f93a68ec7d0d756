//! Exclusion of whole segments: a filter's conditions on what their summaries say.
//!
//! The law: a segment is excluded only if no record of it is wanted, also for what stands in another segment. A statement and its
//! outcome may stand in two. Where the summaries prove that these are neighbours, the two are looked at together; where they do not,
//! only conditions that each record meets by itself exclude the segment.

use super::{Filter, TimeRange};
use crate::audit::record::EventName;
use crate::audit::sql_analysis::{CommandClass, TableName, words};
use crate::audit::summary::{Field, SegmentSummary};

/// Summaries of a segment and of those before and behind it, as far as there are any that can be used.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Neighbours<'s> {
    pub(in crate::audit) before: Option<&'s SegmentSummary>,
    pub(in crate::audit) this: &'s SegmentSummary,
    pub(in crate::audit) behind: Option<&'s SegmentSummary>,
}

impl Filter {
    /// Returns whether a record that is wanted may stand in this segment.
    pub(in crate::audit) fn may_be_in(&self, Neighbours { before, this, behind }: Neighbours<'_>) -> bool {
        let joins = self.asks_for_content() || self.asks_for_result();
        let has_event = |event: EventName| this.may_have(Field::Event, |found| found == event.as_str());
        // Where a result is asked for, the time of the outcome counts, which may stand in another segment.
        let by_itself = (self.asks_for_result() || self.is_before_until(this) && self.is_since(this))
            && self.names().all(|(field, name)| this.may_have(field, |found| found == name))
            && (joins || self.event.is_none_or(has_event));
        if !by_itself || !joins {
            return by_itself;
        }
        let behind = behind.filter(|behind| this.is_answered_by(behind));
        let before = before.filter(|before| before.is_answered_by(this));
        self.may_join(this, this)
            || (this.may_have(Field::Unanswered, |_| true) && behind.is_none_or(|behind| self.may_join(this, behind)))
            || (this.may_have(Field::Late, |_| true) && before.is_none_or(|before| self.may_join(before, this)))
    }

    /// Returns whether a statement of one segment and its outcome in another may be wanted. Where both are the same segment, also
    /// whether an event of another kind may.
    fn may_join(&self, statements: &SegmentSummary, outcomes: &SegmentSummary) -> bool {
        let has_class = |class: CommandClass| {
            let is_class = |found: &str| found == class.as_str();
            // The server may tell of one that the text does not have.
            statements.may_have(Field::Class, is_class) || outcomes.may_have(Field::Class, is_class)
        };
        // As `Reading::may_name` has it: a word of the name is one of the text.
        let has_word = |word: &str| statements.may_have(Field::Word, |found| found.eq_ignore_ascii_case(word));
        let has_table = |table: &TableName| words(&table.name).all(has_word);
        self.is_before_until(outcomes)
            && self.is_since(outcomes)
            && (self.sqlstate.is_none() || outcomes.may_have(Field::Sqlstate, |code| self.wants_sqlstate(code)))
            && self.class.is_none_or(has_class)
            && self.table.as_ref().is_none_or(has_table)
    }

    /// Returns whether a record of the segment may be as old as those that are wanted.
    fn is_before_until(&self, segment: &SegmentSummary) -> bool {
        TimeRange::of(self).is_before_until(segment.times().0)
    }

    /// Returns whether a record of the segment may be as young as those that are wanted.
    fn is_since(&self, segment: &SegmentSummary) -> bool {
        TimeRange::of(self).is_since(segment.times().1) && self.after.is_none_or(|after| segment.goes_beyond(after))
    }
}
