//! Policies of the demo's gate: those of `policies/` in the source tree, compiled into the program.

/// Names of the files beside the configuration, with their texts.
pub(super) const FILES: [(&str, &str); 7] = [
    (
        "policies/schema.cedarschema",
        include_str!("../../policies/schema.cedarschema"),
    ),
    (
        "policies/00-everywhere.cedar",
        include_str!("../../policies/00-everywhere.cedar"),
    ),
    ("policies/10-people.cedar", include_str!("../../policies/10-people.cedar")),
    ("policies/20-ci.cedar", include_str!("../../policies/20-ci.cedar")),
    ("policies/30-payments.cedar", include_str!("../../policies/30-payments.cedar")),
    ("policies/40-night.cedar", include_str!("../../policies/40-night.cedar")),
    ("policies/50-office.cedar", include_str!("../../policies/50-office.cedar")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_folder_are_here() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let (_, policies) = crate::config::policies::read(&folder).unwrap();
        let found: Vec<_> = policies.iter().map(|source| format!("policies/{}", source.name)).collect();
        let ours: Vec<_> = FILES.iter().map(|(name, _)| *name).skip(1).collect();
        assert_eq!(ours, found);
    }
}
