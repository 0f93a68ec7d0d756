//! OpenAPI document, built from the handlers that are served, so that every path is described and every description has a path.
//!
//! It only describes; the handlers define the answers.

use axum::Extension;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::RefOr;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{Object, Ref, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::authenticate::Call;
use super::model::{GrantView, Problem, RequestView, SignInView, UnreadableLine, UserView};
use crate::gate::session::SessionView;
use crate::model::request::RequestState;

/// Name of the security scheme.
const BEARER_SCHEME: &str = "bearer";

/// General part of the document, beside the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "PostgreSQL access that closes on time: requests, approvals, grants, sessions and the audit log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, UnreadableLine, GrantView, RequestView, SessionView, SignInView, RequestState, UserView)),
    modifiers(&BearerScheme)
)]
pub(super) struct ApiDocument;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        bearer.description = Some("A user's token, a token of a trusted issuer (JWT), the secret of a sign-in, or the admin token. A browser that has signed in at the console sends a cookie instead.".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(BEARER_SCHEME, SecurityScheme::Http(bearer));
    }
}

/// Adds to every path the parts they share: the security requirement and the error response. Makes one object of a schema that is
/// flattened into another.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    for schema in document.components.get_or_insert_default().schemas.values_mut() {
        if let Some(object) = as_one_object(schema) {
            *schema = Schema::Object(object).into();
        }
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let refused = ResponseBuilder::new()
        .description("An error: what failed, why, and a remedy")
        .content("application/problem+json", problem)
        .build();
    for (path, item) in &mut document.paths.paths {
        if !path.starts_with("/v1/") {
            continue;
        }
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            // A chat signs its calls.
            if !path.starts_with("/v1/chat/") {
                operation.security = Some(vec![SecurityRequirement::new(BEARER_SCHEME, Vec::<String>::new())]);
            }
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), refused.clone().into());
        }
    }
}

/// Returns the object with the properties of all parts; `None` if one of them is a reference or has alternatives.
fn as_one_object(schema: &RefOr<Schema>) -> Option<Object> {
    match schema {
        RefOr::T(Schema::Object(object)) => Some(object.clone()),
        RefOr::T(Schema::AllOf(parts)) => {
            let mut whole = Object::new();
            for part in &parts.items {
                let part = as_one_object(part)?;
                whole.properties.extend(part.properties);
                whole.required.extend(part.required);
            }
            whole.description.clone_from(&parts.description);
            Some(whole)
        }
        _ => None,
    }
}

/// Serialized document.
#[derive(Debug, Clone)]
pub(super) struct RenderedDocument(pub(super) Bytes);

#[utoipa::path(get, path = "/v1/openapi.json", tag = "openapi", summary = "This document", responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)))]
pub(super) async fn openapi(Extension(RenderedDocument(text)): Extension<RenderedDocument>, _call: Call) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}
