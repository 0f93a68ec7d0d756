//! Fields of forms and queries, as browsers send them; forms that are refused.
//!
//! It knows no field by name and decides nothing: a blank field counts as none, because browsers send blank ones too.
//!
//! INVARIANT: what was typed into a form that is refused is in the form that is answered.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::page_status::PageStatus;
use crate::access::{AccessError, local_path};
use crate::base::duration;
use crate::control::model::Problem;
use crate::control::{ApiError, RENEWAL_FIELD};

/// Path of the sign-in.
pub(super) const SIGN_IN_PATH: &str = "/signin";
/// Field of the sign-in for those who are signed in and are to sign in again.
pub(super) const AGAIN_FIELD: &str = "again";
/// Content type of forms.
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// Fields of a form that was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct FormFields(BTreeMap<String, String>);

/// Fields of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct QueryFields(pub(super) FormFields);

impl FormFields {
    /// Parses fields. Of a repeated one the first counts.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    /// Returns a field without the blanks around it; `None` if it is blank.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// Returns a field as its owner's text.
    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// Parses a field.
    pub(super) fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, FormError>
    where
        T::Err: Display,
    {
        self.parsed_with(name, str::parse)
    }

    /// Parses a field with a duration, like `30m`.
    pub(super) fn duration(&self, name: &'static str) -> Result<Option<Duration>, FormError> {
        self.parsed_with(name, duration::parse)
    }

    /// Parses a field with this function.
    pub(super) fn parsed_with<T, E: Display>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FormError> {
        let parsed = self.text(name).map(parse).transpose();
        parsed.map_err(|error| FormError::of_field(name, &error))
    }

    /// Returns true if a checkbox was checked.
    pub(super) fn checked(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// Returns the fields that are not blank, but these.
    pub(super) fn without(&self, names: &[&str]) -> Vec<(&str, &str)> {
        let filled = self.0.keys().filter(|name| !names.contains(&name.as_str()));
        filled.filter_map(|name| Some((name.as_str(), self.text(name)?))).collect()
    }
}

/// Reason why a form has no effect.
#[derive(Debug)]
pub(super) struct FormError {
    /// Field that is to be corrected, if it is a single one.
    field: Option<&'static str>,
    error: ApiError,
}

impl FormError {
    /// Creates the error of a field.
    pub(super) fn of_field(field: &'static str, reason: &impl Display) -> Self {
        Self {
            field: Some(field),
            error: ApiError::Malformed(reason.to_string()),
        }
    }
}

impl From<ApiError> for FormError {
    fn from(error: ApiError) -> Self {
        Self { field: None, error }
    }
}

impl From<AccessError> for FormError {
    fn from(error: AccessError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<FormError> for ApiError {
    fn from(FormError { field, error }: FormError) -> Self {
        match (field, error) {
            (Some(field), Self::Malformed(reason)) => Self::Malformed(format!("{field}: {reason}")),
            (_, error) => error,
        }
    }
}

/// Form that was refused, to be shown again as it was filled in.
#[derive(Debug)]
pub(super) struct RefusedForm {
    /// Fields as they were typed.
    pub(super) fields: FormFields,
    /// Form of the page, if it has several.
    name: &'static str,
    field: Option<&'static str>,
    status: PageStatus,
    /// Path of the page that has the form.
    pub(super) page: String,
    /// Reason.
    pub(super) problem: Problem,
}

impl RefusedForm {
    /// Returns the form to show again. An error that no other input would mend, or of a caller who has to sign in again, is
    /// returned as it is.
    pub(super) fn new(name: &'static str, fields: FormFields, error: FormError) -> Result<Self, ApiError> {
        let (field, problem) = (error.field, error.error.problem());
        if problem.status >= 500 || problem.status == 401 {
            return Err(error.error);
        }
        Ok(Self {
            fields,
            name,
            field,
            status: PageStatus::of(&error.error),
            page: "/".to_owned(),
            problem,
        })
    }

    /// Notes the path of the page that has the form, to come back to from a new sign-in.
    pub(super) fn on_page(self, page: impl Into<String>) -> Self {
        Self {
            page: page.into(),
            ..self
        }
    }

    /// Returns the status of the answer.
    pub(super) fn status(&self) -> PageStatus {
        self.status
    }

    /// Returns true if it is this form of the page.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Returns the reason if it is this field that is to be corrected.
    pub(super) fn wrong(&self, field: &str) -> Option<&str> {
        (self.field == Some(field)).then_some(self.problem.detail.as_str())
    }
}

/// Returns a path with these fields as its query.
pub(super) fn path(path: &str, fields: &[(&str, &str)]) -> String {
    if fields.is_empty() {
        return path.to_owned();
    }
    let mut query = form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    query.extend_pairs(fields).finish()
}

/// Returns the path of the sign-in for a person whose sign-in is too old for what they want to do, and who goes on to `next`.
pub(super) fn again_path(next: &str) -> String {
    path(SIGN_IN_PATH, &[(AGAIN_FIELD, "yes"), ("next", local_path(next))])
}

impl<S: Send + Sync> FromRequest<S> for FormFields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if kind.and_then(|kind| kind.split(';').next()).map(str::trim) != Some(FORM_TYPE) {
            let error = ApiError::Malformed(format!("this page takes a form ({FORM_TYPE})"));
            return Err(error.into_response());
        }
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| ApiError::Malformed(error.body_text()).into_response())?;
        Ok(Self::parse(&body))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut fields = FormFields::parse(parts.uri.query().unwrap_or_default().as_bytes());
        // It is about this call, and in no link of its page.
        fields.0.remove(RENEWAL_FIELD);
        Ok(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_fields_are_none_and_the_first_counts() {
        let fields = FormFields::parse(b"reason=a+b%20c&ticket=+&window=30m&reason=other&sessions=x&glass=on");
        assert_eq!(fields.text("reason"), Some("a b c"));
        assert_eq!((fields.text("ticket"), fields.text("nothing")), (None, None));
        assert_eq!(fields.duration("window").unwrap(), Some(Duration::from_mins(30)));
        assert!(fields.parsed::<u32>("sessions").is_err() && fields.duration("sessions").is_err());
        assert!(fields.checked("glass") && !fields.checked("ticket"));
        let rest = fields.without(&["reason", "window"]);
        assert_eq!(rest, [("glass", "on"), ("sessions", "x")]);
    }

    #[test]
    fn an_error_names_its_field() {
        let fields = FormFields::parse(b"window=soon&reason=x");
        let refused = RefusedForm::new("ask", fields.clone(), fields.duration("window").unwrap_err()).unwrap();
        assert_eq!(
            (refused.status().status, refused.wrong("reason")),
            (axum::http::StatusCode::BAD_REQUEST, None)
        );
        assert!(refused.wrong("window").is_some() && refused.is("ask") && !refused.is("extend"));
        assert_eq!(refused.fields.text("reason"), Some("x"));
        let error = ApiError::from(fields.duration("window").unwrap_err());
        assert!(error.to_string().starts_with("window: "), "{error}");
        // Typing something else mends neither of these.
        for error in [ApiError::Stopping, ApiError::Unauthorized] {
            assert!(RefusedForm::new("ask", FormFields::default(), error.into()).is_err());
        }
    }

    #[test]
    fn a_path_holds_any_text() {
        let made = path("/log", &[("text", "a&b=\"<'>"), ("table", "ü")]);
        assert_eq!(made, "/log?text=a%26b%3D%22%3C%27%3E&table=%C3%BC");
        let (_, query) = made.split_once('?').unwrap();
        assert_eq!(FormFields::parse(query.as_bytes()).text("text"), Some("a&b=\"<'>"));
        assert_eq!(path("/log", &[]), "/log");
        assert_eq!(again_path("//evil.example"), "/signin?again=yes&next=%2F");
    }
}
