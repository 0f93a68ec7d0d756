//! Loading of a policy set: texts become a validated set, or a list of all their errors, each with its file and line.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{Entities, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use data_encoding::HEXLOWER;
use jiff::tz::TimeZone;
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::cedar::CedarSchema;
use super::class::DistinguishingParts;
use super::index::{self, PolicyIndex};
use super::words::PolicyVocabulary;
use super::{Policies, PolicyError, PolicyFile, fit, notes};

/// Error in a policy set: the source, the offset in it, the message.
type PlacedMistake<'a> = (&'a PolicyFile, Option<usize>, String);

/// Policy with its position.
struct PlacedPolicy<'a> {
    source: &'a PolicyFile,
    offset: Option<usize>,
    policy: Policy,
}

pub(super) fn load(schema: &PolicyFile, sources: &[PolicyFile], zone: TimeZone) -> Result<Policies, PolicyError> {
    let cedar = read_schema(schema, zone).map_err(|mistakes| told(&mistakes))?;
    let mut mistakes = Vec::new();
    let mut placed = Vec::new();
    for source in sources {
        placed.extend(read_file(source, &mut mistakes));
    }
    let placed = named(placed, &mut mistakes);
    validate(&cedar, &placed, &mut mistakes);
    let hierarchy = cedar.schema.action_entities().unwrap_or_else(|_| Entities::empty());
    let (mut index, mut all, mut words) = (PolicyIndex::default(), BTreeMap::new(), PolicyVocabulary::default());
    let mut parts: HashMap<_, DistinguishingParts> = HashMap::new();
    for (id, PlacedPolicy { source, offset, policy }) in &placed {
        let actions = index::actions(policy, &cedar, &hierarchy);
        let notes = notes::read(policy, &actions, |wrong| {
            mistakes.push((source, *offset, format!("policy {id}: {wrong}")));
        });
        if let Err(error) = index.add(policy, &actions) {
            mistakes.push((source, *offset, error));
        }
        words.add(policy, &notes, &actions, &cedar);
        for action in &actions {
            parts.entry(*action).or_default().add(policy, &cedar);
        }
        all.insert(id.clone(), notes);
    }
    if !mistakes.is_empty() {
        return Err(told(&mistakes));
    }
    Ok(Policies {
        cedar,
        index,
        parts,
        notes: all,
        words,
        hash: hash(schema, sources),
    })
}

/// Parses the schema, and checks that the gate's questions fit it; otherwise every decision would fail.
fn read_schema(source: &PolicyFile, zone: TimeZone) -> Result<CedarSchema, Vec<PlacedMistake<'_>>> {
    let (schema, warnings) = Schema::from_cedarschema_str(&source.text).map_err(|error| vec![said(source, &error)])?;
    let warnings: Vec<_> = warnings.map(|warning| said(source, &warning)).collect();
    if !warnings.is_empty() {
        return Err(warnings);
    }
    let unfit = |why: String| {
        let words = format!("the gate's requests do not match the schema: {why}; start from the schema that Tidegate ships");
        vec![(source, None, words)]
    };
    let cedar = CedarSchema::new(schema, zone).ok_or_else(|| unfit("the names of its types".to_owned()))?;
    fit::check(&cedar).map_err(unfit)?;
    Ok(cedar)
}

/// Parses the policies of one file.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the type that has the method is of a crate we do not name"
)]
fn read_file<'a>(source: &'a PolicyFile, mistakes: &mut Vec<PlacedMistake<'a>>) -> Vec<PlacedPolicy<'a>> {
    let set: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            let errors: &cedar_policy::ParseErrors = &errors;
            mistakes.extend(errors.iter().map(|error| said(source, error)));
            return Vec::new();
        }
    };
    for template in set.templates() {
        let offset = template.as_ref().loc().map(|loc| loc.start());
        let words = "a template (?principal, ?resource) has no effect; name a group or a target instead".to_owned();
        mistakes.push((source, offset, words));
    }
    let mut placed: Vec<_> = set
        .policies()
        .map(|policy| PlacedPolicy {
            source,
            offset: policy.as_ref().loc().map(|loc| loc.start()),
            policy: policy.clone(),
        })
        .collect();
    placed.sort_by_key(|placed| placed.offset);
    placed
}

/// Returns the policies by their `@id`.
fn named<'a>(placed: Vec<PlacedPolicy<'a>>, mistakes: &mut Vec<PlacedMistake<'a>>) -> BTreeMap<String, PlacedPolicy<'a>> {
    let mut named: BTreeMap<String, PlacedPolicy<'a>> = BTreeMap::new();
    for (number, placed) in placed.into_iter().enumerate() {
        let (source, offset) = (placed.source, placed.offset);
        let id = match placed.policy.annotation("id").map(str::trim) {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => {
                let words = "a policy has no @id(\"...\"), which identifies it in the log";
                mistakes.push((source, offset, words.to_owned()));
                format!("without an id {number}")
            }
        };
        if let Some(first) = named.get(&id) {
            let place = place(first.source, first.offset);
            mistakes.push((
                source,
                offset,
                format!("policy {id}: the same @id is used in {place}; ids must be unique"),
            ));
            continue;
        }
        let policy = placed.policy.new_id(PolicyId::new(&id));
        named.insert(id, PlacedPolicy { policy, ..placed });
    }
    named
}

/// Validates the policies against the schema. A policy that can never apply is an error too, because its author relies on it.
fn validate<'a>(cedar: &CedarSchema, placed: &BTreeMap<String, PlacedPolicy<'a>>, mistakes: &mut Vec<PlacedMistake<'a>>) {
    let set = match PolicySet::from_policies(placed.values().map(|placed| placed.policy.clone())) {
        Ok(set) => set,
        Err(error) => return mistakes.extend(placed.values().take(1).map(|first| (first.source, None, error.to_string()))),
    };
    let result = Validator::new(cedar.schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result
        .validation_errors()
        .map(|error| (error.policy_id(), error as &dyn Diagnostic));
    let warnings = result
        .validation_warnings()
        .map(|warning| (warning.policy_id(), warning as &dyn Diagnostic));
    for (id, diagnostic) in errors.chain(warnings) {
        let id: &str = id.as_ref();
        if let Some(placed) = placed.get(id) {
            let (source, offset, words) = said(placed.source, diagnostic);
            mistakes.push((source, offset.or(placed.offset), words));
        }
    }
}

/// Returns Cedar's message on one line, with its position.
fn said<'a>(source: &'a PolicyFile, diagnostic: &dyn Diagnostic) -> PlacedMistake<'a> {
    let offset = diagnostic
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let mut words = diagnostic.to_string();
    if let Some(label) = diagnostic
        .labels()
        .and_then(|mut labels| labels.find_map(|label| label.label().map(str::to_owned)))
    {
        words = format!("{words}: {label}");
    }
    if let Some(help) = diagnostic.help() {
        words = format!("{words}; {help}");
    }
    (source, offset, words.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

/// Formats a position as `file:line`.
fn place(source: &PolicyFile, offset: Option<usize>) -> String {
    let line = offset.map(|offset| 1 + source.text.bytes().take(offset).filter(|byte| *byte == b'\n').count());
    line.map_or_else(|| source.name.clone(), |line| format!("{}:{line}", source.name))
}

/// Returns all errors in the order of files and lines.
fn told(mistakes: &[PlacedMistake<'_>]) -> PolicyError {
    let mut mistakes: Vec<_> = mistakes.iter().collect();
    mistakes.sort_by_key(|(source, offset, _)| (&source.name, *offset));
    let told = mistakes
        .into_iter()
        .map(|(source, offset, words)| format!("{}: {words}", place(source, *offset)));
    let mut told: Vec<_> = told.collect();
    told.dedup();
    PolicyError(told)
}

/// Returns the SHA-256 over names and texts in the order of names. The length of each is hashed too, so that no text can move
/// from one into the next.
fn hash(schema: &PolicyFile, sources: &[PolicyFile]) -> String {
    let mut sources: Vec<_> = std::iter::once(schema).chain(sources).collect();
    sources.sort_by_key(|source| &source.name);
    let mut hash = Sha256::new();
    for part in sources.iter().flat_map(|source| [&source.name, &source.text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    HEXLOWER.encode(&hash.finalize())
}
