//! Closed vocabularies: enums whose members have stable names in the log, and names that only a later version knows.
//!
//! This module defines no vocabulary itself.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Closed set of names.
pub trait Vocabulary: Copy + Eq {
    /// Returns the name of a member.
    fn name(self) -> &'static str;

    /// Returns the member with this name.
    fn from_name(name: &str) -> Option<Self>;
}

/// Defines an enum whose members have names, also for serde, and its [`Vocabulary`].
macro_rules! vocabulary {
    ($(#[$meta:meta])* pub enum $Set:ident { $($(#[$doc:meta])* $Member:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $Set { $($(#[$doc])* #[serde(rename = $name)] $Member,)+ }

        impl $Set {
            /// All members.
            pub const ALL: &'static [Self] = &[$(Self::$Member,)+];

            /// Returns the name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$Member => $name,)+ }
            }
        }

        impl $crate::model::names::Vocabulary for $Set {
            fn name(self) -> &'static str {
                self.as_str()
            }

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Member),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $Set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use vocabulary;

/// Value of a closed vocabulary as it is read back: a later version may have written a name that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnumOrUnknown<T> {
    /// Member of the vocabulary.
    Known(T),
    /// Name that this version does not know.
    Unknown(Box<str>),
}

impl<T: Vocabulary> EnumOrUnknown<T> {
    /// Returns the member, if this version knows it.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(member) => Some(*member),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(member) => member.name(),
            Self::Unknown(name) => name,
        }
    }
}

impl<T> From<T> for EnumOrUnknown<T> {
    fn from(member: T) -> Self {
        Self::Known(member)
    }
}

impl<T: Vocabulary> PartialEq<T> for EnumOrUnknown<T> {
    fn eq(&self, member: &T) -> bool {
        self.known() == Some(*member)
    }
}

impl<T: Vocabulary> fmt::Display for EnumOrUnknown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T: Vocabulary> Serialize for EnumOrUnknown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for EnumOrUnknown<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(T::from_name(&name).map_or_else(|| Self::Unknown(name.into()), Self::Known))
    }
}
