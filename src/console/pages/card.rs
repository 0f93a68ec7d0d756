//! Connection card: how to connect with each client, ready to paste; and the certificate that verifies the gate.
//!
//! It makes the login by the same call as the API.
//!
//! INVARIANT: the secret is in the answer to the form and nowhere else: no address has it, no page shows it again.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::show;
use crate::console::answer::{PageAnswer, see};
use crate::console::form::{FormFields, QueryFields};
use crate::console::templates::frame::{Frame, Section};
use crate::control::model::GrantLoginBody;
use crate::control::{ApiError, Call, named};
use crate::model::ids::GrantId;

/// Makes a login and shows its card. It is the answer to the form itself: a redirect could not carry the secret.
pub(in crate::console) async fn page(call: Call, Path(id): Path<String>, _: FormFields) -> PageAnswer {
    let id: GrantId = named(&id)?;
    let login = call.grant_login(&id).await?;
    let frame = Frame {
        section: Some(Section::Mine),
        ..Frame::bare("How to connect")
    };
    Ok(show(&call, &QueryFields::default(), frame, &body(&id, &login)))
}

/// Leads those who come back to a card to its grant.
pub(in crate::console) async fn none(Path(id): Path<String>, _: Call) -> PageAnswer {
    let id: GrantId = named(&id)?;
    Ok(see(&format!("/grants/{id}")))
}

/// Answers with the certificate that verifies the gate.
pub(in crate::console) async fn certificate(call: Call) -> Result<Response, ApiError> {
    let certificate = call.gate.tls.current();
    let none = || ApiError::NoSuchPath("/certificate.pem (this gate does not have the certificate of its CA)".to_owned());
    let anchor = certificate.anchor().ok_or_else(none)?.to_owned();
    let headers = [
        (header::CONTENT_TYPE, "application/x-pem-file"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tidegate.pem\""),
    ];
    Ok((headers, anchor).into_response())
}

/// Text for one client.
struct Snippet {
    name: &'static str,
    hint: &'static str,
    text: String,
}

/// Returns the content of the page.
pub(in crate::console) fn body(id: &GrantId, login: &GrantLoginBody) -> Markup {
    let snippets = snippets(login);
    html! {
        p.crumb { a href={ "/grants/" (id) } { "Back to the grant" } }
        h1 { "How to connect" }
        div.notice role="status" { p { strong { "The secret is shown only now." } " It is not stored. A new card has a new one." } }
        dl.facts {
            dt { "Host" } dd.id { (login.host) }
            dt { "Port" } dd.id { (login.port) }
            dt { "Database" } dd.id { (login.database) }
            dt { "User" } dd.id { (login.user) }
            dt { "Password" } dd { code id="secret" { (login.secret) } " " (copy("secret", "the password")) }
        }
        @if login.certificate.is_some() {
            p.note {
                "These demand TLS. To verify the gate as well, get "
                a href="/certificate.pem" { "its certificate" }
                " and set " code { "sslmode=" (login.sslmode) } " with it (" code { "sslrootcert" } ")."
            }
        }
        @for (place, snippet) in snippets.iter().enumerate() {
            section.snippet aria-label=(snippet.name) {
                div.head { h2 { (snippet.name) } (copy(&format!("snippet-{place}"), snippet.name)) }
                @if !snippet.hint.is_empty() { p.note { (snippet.hint) } }
                pre tabindex="0" { code id={ "snippet-" (place) } { (snippet.text) } }
            }
        }
    }
}

/// Shows the button that copies an element's text; the script shows it, because without one it does nothing.
fn copy(id: &str, what: &str) -> Markup {
    html! { button.plain type="button" data-copy=(id) aria-label={ "Copy " (what) } hidden { "Copy" } }
}

/// Returns the texts for the clients. Ids, secrets and names of targets consist of characters that need no escape.
fn snippets(login: &GrantLoginBody) -> Vec<Snippet> {
    programs(login).into_iter().chain(languages(login)).collect()
}

/// Returns the address as a URL has it.
fn in_url(login: &GrantLoginBody) -> String {
    let GrantLoginBody {
        host, port, database, ..
    } = login;
    if host.contains(':') {
        format!("[{host}]:{port}/{database}")
    } else {
        format!("{host}:{port}/{database}")
    }
}

fn programs(login: &GrantLoginBody) -> [Snippet; 6] {
    let GrantLoginBody {
        user,
        secret,
        host,
        port,
        database,
        connection_string,
        ..
    } = login;
    let at = in_url(login);
    let one = |name, hint, text| Snippet { name, hint, text };
    let psql = format!("PGPASSWORD='{secret}' psql \"host={host} port={port} dbname={database} user={user} sslmode=require\"");
    let env = format!(
        "PGHOST={host}\nPGPORT={port}\nPGDATABASE={database}\nPGUSER={user}\nPGPASSWORD={secret}\nPGSSLMODE=require\n\
         DATABASE_URL={connection_string}"
    );
    let dbeaver = format!(
        "dbeaver -con \"driver=postgresql|name=Tidegate {database}|host={host}|port={port}|database={database}|user={user}|\
         password={secret}|prop.sslmode=require|save=false|connect=true\""
    );
    let servers = serde_json::json!({"Servers": {"1": {
        "Name": format!("Tidegate {database}"), "Group": "Tidegate", "Host": host, "Port": port, "MaintenanceDB": database,
        "Username": user, "ConnectionParameters": {"sslmode": "require"},
    }}});
    [
        one("psql", "", psql),
        one("Connection string", "For anything that takes one", connection_string.clone()),
        one(".env", "libpq, and most frameworks", env),
        one(
            "DBeaver",
            "On a command line; or in the program: new connection, PostgreSQL, connect by URL",
            dbeaver,
        ),
        one(
            "DataGrip",
            "New, Data Source from URL",
            format!("jdbc:postgresql://{at}?user={user}&password={secret}&sslmode=require"),
        ),
        one(
            "pgAdmin",
            "As a file for Tools, Import/Export Servers; it asks for the password",
            format!("{servers:#}"),
        ),
    ]
}

fn languages(login: &GrantLoginBody) -> [Snippet; 4] {
    let GrantLoginBody {
        user,
        secret,
        host,
        port,
        database,
        connection_string,
        ..
    } = login;
    let at = in_url(login);
    let one = |name, hint, text| Snippet { name, hint, text };
    let node = format!(
        "new pg.Client({{\n  host: \"{host}\", port: {port}, database: \"{database}\",\n  user: \"{user}\", password: \
         \"{secret}\",\n  ssl: {{ rejectUnauthorized: false }},\n}});"
    );
    [
        one(
            "JDBC",
            "",
            format!("DriverManager.getConnection(\n    \"jdbc:postgresql://{at}?sslmode=require\", \"{user}\", \"{secret}\");"),
        ),
        one(
            "SQLAlchemy",
            "",
            format!("create_engine(\"postgresql+psycopg://{user}:{secret}@{at}?sslmode=require\")"),
        ),
        one(
            "Node",
            "node-postgres; to verify the gate: ssl: { ca: readFileSync(\"tidegate.pem\") }",
            node,
        ),
        one("Go", "pgx", format!("pgx.Connect(ctx, \"{connection_string}\")")),
    ]
}
