//! Macro for types that are a checked text: names and ids.

/// Defines a type that holds a text, the check of which is `fn(&str) -> Result<(), Error>`.
macro_rules! text_type {
    ($(#[$doc:meta])* $Name:ident, $Error:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(String);

        impl $Name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $Name {
            type Err = $Error;

            fn from_str(text: &str) -> Result<Self, $Error> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $Name {
            type Error = $Error;

            fn try_from(text: String) -> Result<Self, $Error> {
                $check(&text).map(|()| Self(text))
            }
        }

        impl From<$Name> for String {
            fn from(value: $Name) -> String {
                value.0
            }
        }
    };
}
pub(crate) use text_type;
