//! The page that `/` shows: one file, everything in it.

use super::response::Response;

/// HTML, style and script; the script asks this server alone.
pub const PAGE: &str = include_str!("page.html");

/// What a browser may do with an answer: run this very script, with this very style (their SHA-256), and ask this
/// server. Nothing is loaded from anywhere, nothing is framed, and no string becomes markup.
pub const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-bdjFoOcAaR5tWMQbpGDRYtxf0N43J85ldLYs8Zgxr0w='; \
    style-src 'sha256-0RLe0GgRKRvImnNjCme35uEA3HcXEcOc6PRLOzXvrQE='; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// The page as an answer.
pub const fn response() -> Response {
    Response {
        status: 200,
        kind: "text/html; charset=utf-8",
        body: std::borrow::Cow::Borrowed(PAGE.as_bytes()),
        more: "",
    }
}
