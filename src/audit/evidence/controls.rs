//! Controls, the tables of the report that are evidence for them, and what the report cannot show. Pure.
//!
//! This module does not judge whether a control is met; that is up to the auditor. Controls are those of NIST SP 800-53 Rev. 5
//! and of the AICPA's Trust Services Criteria (2017, points of focus of 2022), in our own wording.

use crate::audit::report::ReportTable;

/// Control with its evidence in the report, and with what has to come from elsewhere.
struct AuditControl {
    name: &'static str,
    asks: &'static str,
    shown: &'static str,
    not_shown: &'static str,
}

const CONTROLS: &[AuditControl] = &[
    AuditControl {
        name: "NIST AC-2(2) Temporary and emergency accounts",
        asks: "Temporary and emergency accounts are removed or disabled automatically after a set time.",
        shown: "Grants: each with its window and its end. Break-glass: emergency access and its review. How late sessions ended: that the \
                end was kept.",
        not_shown: "Accounts that were made in the databases or the identity provider past the gate.",
    },
    AuditControl {
        name: "NIST AC-6 Least privilege",
        asks: "People have only the access that their task needs.",
        shown: "Grants: profile, reason, ticket and deciding policies beside the actual use. Unused grants: access that was not needed. \
                Denials: what the policies held back. Roles: each grant's own role at the database, and when it was gone.",
        not_shown: "What a profile may do at the database, and whether the reason was a good one.",
    },
    AuditControl {
        name: "NIST AC-12 Session termination",
        asks: "Sessions end automatically under defined conditions.",
        shown: "Why sessions ended: expired, revoked, killed, idle, disabled. How late sessions ended: the time until the database \
                confirmed it, every delay over a second by itself.",
        not_shown: "Sessions that go to the database past the gate.",
    },
    AuditControl {
        name: "NIST AU-2 Event logging",
        asks: "It is decided which events are logged, and they are.",
        shown: "Verification: how many records. Every table: the kinds of events there are. Policy changes: what was decided by which set.",
        not_shown: "The decision itself which events your organisation needs.",
    },
    AuditControl {
        name: "NIST AU-3 Content of audit records",
        asks: "Records say what happened, when, where, from where, with what outcome, by whom.",
        shown: "Grants and refusals: identity, target, time, source, outcome. The log itself (`tidegate log`, `tidegate audit export`): \
                every statement with its text, parameters and outcome.",
        not_shown: "The statements: this report counts them.",
    },
    AuditControl {
        name: "NIST AU-9 Protection of audit information",
        asks: "Audit records are protected from change, deletion and unauthorised reading.",
        shown: "Verification: any change, gap or reordering is found; who signed. Gate and log: keys changed, segments removed.",
        not_shown: "Who may read the log's folder, and that the signing key is out of the reach of whoever can change the log: keep \
                    checkpoints elsewhere.",
    },
    AuditControl {
        name: "NIST AU-10 Non-repudiation",
        asks: "It can be proved who did something.",
        shown: "Grants: each tied to one identity, its approvers and the policies; verification: that these records are as they were \
                written. Logins refused: proofs that failed.",
        not_shown: "That a person's token or secret was not used by somebody else.",
    },
    AuditControl {
        name: "NIST AU-12 Audit record generation",
        asks: "The system makes the records, and goes on making them.",
        shown: "Gate and log: every time in which the log could not be written, with the records refused or given up. A statement that \
                cannot be recorded is not forwarded.",
        not_shown: "Times in which no gate ran, but as the gap between a stop and a start.",
    },
    AuditControl {
        name: "SOC 2 CC6.1 Logical access security",
        asks: "Access to protected information is restricted by logical access measures.",
        shown: "Denials and logins refused: the measure at work. Grants: who got in, and for how long. Policy changes: the rules in force.",
        not_shown: "Network paths to the databases past the gate, and encryption at rest.",
    },
    AuditControl {
        name: "SOC 2 CC6.2 Registration and authorisation of users",
        asks: "Users are registered and authorised before they are given access, and removed when it is no longer authorised.",
        shown: "Identity changes: local users made, regrouped, disabled, by whom. Grants: the approver of each.",
        not_shown: "People of an identity provider: its own records show when they came and left.",
    },
    AuditControl {
        name: "SOC 2 CC6.3 Access is role-based, least and separated",
        asks: "Access is authorised, changed and removed by role, with least privilege and separation of duties.",
        shown: "Grants: requester and approvers are different people; profile; end. Unused grants. Break-glass: exceptions, and who \
                reviewed them.",
        not_shown: "A periodic review of the policies themselves.",
    },
];

/// Returns the table of controls.
pub(super) fn table() -> ReportTable {
    ReportTable::of(
        "controls",
        "Controls",
        "What of this report is evidence for which control, and what has to come from elsewhere. It does not say that a control \
               is met.",
    )
    .filled(
        CONTROLS,
        &[
            ("control", |control| control.name.to_owned()),
            ("asks", |control| control.asks.to_owned()),
            ("shown here", |control| control.shown.to_owned()),
            ("not shown here", |control| control.not_shown.to_owned()),
        ],
    )
}
