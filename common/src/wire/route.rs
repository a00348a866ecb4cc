//! What a route is, and the macro that makes one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::reason::{Reason, Refusal};

/// HTTP methods that the routes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or does.
    Post,
    /// Ends.
    Delete,
}

impl Method {
    /// As on the request line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// What a caller must have to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// A join token (in the body), over a TLS connection with a client certificate.
    Join,
    /// The enrolled TLS key of the host that the path names.
    Host,
    /// An operator token that may read.
    Read,
    /// An operator token that may read the audit log.
    Audit,
    /// An operator token that may change things.
    Admin,
    /// An operator token in a person's name: asks for changes, and hands in votes that people signed.
    Change,
    /// A connected peer of the local socket: who it is comes from the kernel.
    Peer,
}

impl Right {
    /// The name, as in tokens and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Host => "host",
            Self::Read => "read",
            Self::Audit => "audit",
            Self::Admin => "admin",
            Self::Change => "change",
            Self::Peer => "peer",
        }
    }
}

/// One route.
pub trait Route {
    /// Its method.
    const METHOD: Method;
    /// Its path, with `{name}` for what varies, and `{?name,name}` at its end for query parameters that may be left out
    /// (RFC 6570).
    const PATH: &'static str;
    /// What a caller must have.
    const RIGHT: Right;
    /// Whether it answers one reply after the other: as server-sent events over TLS, one a line on the local socket.
    const STREAM: bool;
    /// What it does, in a sentence.
    const DOC: &'static str;
    /// Longest body that it takes, in bytes.
    const BODY_BYTES_MAX: usize = HTTP_BODY_BYTES_MAX;
    /// The JSON body that it takes ([`Nothing`] for none).
    type Request: Serialize + DeserializeOwned + Send;
    /// The JSON body that it answers, or [`Base64`] for bytes.
    type Reply: Serialize + DeserializeOwned + Send;
}

/// A route's facts as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// The type's name.
    pub name: &'static str,
    /// [`Route::METHOD`]
    pub method: Method,
    /// [`Route::PATH`]
    pub path: &'static str,
    /// [`Route::RIGHT`]
    pub right: Right,
    /// [`Route::STREAM`]
    pub stream: bool,
    /// [`Route::DOC`]
    pub doc: &'static str,
    /// [`Route::BODY_BYTES_MAX`]
    pub body_bytes_max: usize,
}

/// `-> (Reply)` answers once, `=> (Reply)` as a stream.
macro_rules! routes {
    (@stream ->) => { false };
    (@stream =>) => { true };
    ($table:ident: $($name:ident $method:ident $path:literal $right:ident ($request:ty) $arrow:tt ($reply:ty) $doc:literal $(at most $bytes:ident)?;)*) => {
        $(
            #[doc = $doc]
            #[derive(Debug)]
            pub enum $name {}
            impl $crate::wire::Route for $name {
                const METHOD: $crate::wire::Method = $crate::wire::Method::$method;
                const PATH: &'static str = $path;
                const RIGHT: $crate::wire::Right = $crate::wire::Right::$right;
                const STREAM: bool = $crate::wire::route::routes!(@stream $arrow);
                const DOC: &'static str = $doc;
                $(const BODY_BYTES_MAX: usize = $bytes;)?
                type Request = $request;
                type Reply = $reply;
            }
        )*
        /// Every route of this table.
        pub const $table: &[$crate::wire::RouteInfo] = &[$($crate::wire::RouteInfo {
            name: stringify!($name),
            method: $crate::wire::Method::$method,
            path: $path,
            right: $crate::wire::Right::$right,
            stream: $crate::wire::route::routes!(@stream $arrow),
            doc: $doc,
            body_bytes_max: <$name as $crate::wire::Route>::BODY_BYTES_MAX,
        }),*];
    };
}
pub(super) use routes;

/// A path without its query parameters, as routers match it.
pub fn path_alone(pattern: &str) -> &str {
    pattern.split_once("{?").map_or(pattern, |(path, _)| path)
}

/// The names of a path's query parameters.
pub fn query_names(pattern: &str) -> impl Iterator<Item = &str> {
    let list = pattern.split_once("{?").and_then(|(_, rest)| rest.strip_suffix('}'));
    list.into_iter().flat_map(|list| list.split(','))
}

/// A path with its `{…}` parts filled in, in order; query parameters follow, and are left out where they have no value
/// or an empty one. Values in the path keep only what a segment may have (`[A-Za-z0-9._~/-]`); anything else is left out,
/// so that a value cannot change the path. In a query all else is escaped (RFC 3986, percent-encoding).
pub fn path_with(pattern: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = path_alone(pattern);
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (_, tail) = after.split_once('}').unwrap_or(("", ""));
        if let Some(value) = values.next() {
            fill(&mut out, value);
        }
        rest = tail;
    }
    out.push_str(rest);
    let mut sign = '?';
    for (name, value) in query_names(pattern).zip(values).filter(|(_, value)| !value.is_empty()) {
        out.push(sign);
        out.extend([name, "="]);
        value.bytes().for_each(|byte| escape(&mut out, byte));
        sign = '&';
    }
    out
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._~/-".contains(c)
}

fn fill(out: &mut String, value: &str) {
    out.extend(value.chars().filter(|c| is_plain(*c)));
}

fn escape(out: &mut String, byte: u8) {
    if is_plain(char::from(byte)) {
        out.push(char::from(byte));
    } else {
        out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// A query's value without its escapes; `None` where an escape is none, or the bytes are no UTF-8.
pub fn unescaped(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(match byte {
            b'%' => u8::try_from(digit(bytes.next())? << 4 | digit(bytes.next())?).ok()?,
            b'+' => b' ',
            plain => plain,
        });
    }
    String::from_utf8(out).ok()
}

/// Bytes as base64 text in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&data_encoding::BASE64.encode(&self.0))
    }
}
impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        data_encoding::BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// No request body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Nothing to say in a reply but that it was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The body of every reply that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Why, as a code.
    pub reason: Reason,
    /// What, where and what to do.
    pub detail: String,
    /// Whether the same may succeed later.
    pub retry: bool,
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        Self { reason: refusal.reason, detail: refusal.detail.as_str().to_owned(), retry: refusal.reason.retry() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_change_the_path() {
        assert_eq!(path_with("/v1/hosts/{id}/nonce", &["h-abc"]), "/v1/hosts/h-abc/nonce");
        assert_eq!(path_with("/v1/hosts/{id}", &["a?b#c%2f d"]), "/v1/hosts/abc2fd");
        assert_eq!(path_with("/v1/a/{x}/b/{y}", &["1"]), "/v1/a/1/b/");
    }

    #[test]
    fn a_query_parameter_is_no_part_of_the_path_and_may_be_left_out() {
        let pattern = "/v1/a/{x}/b{?from}";
        assert_eq!((path_alone(pattern), query_names(pattern).collect::<Vec<_>>()), ("/v1/a/{x}/b", vec!["from"]));
        assert_eq!(path_with(pattern, &["1"]), "/v1/a/1/b");
        assert_eq!(path_with(pattern, &["1", "7&x=?#"]), "/v1/a/1/b?from=7%26x%3D%3F%23");
        assert_eq!((path_alone("/v1/{x}"), query_names("/v1/{x}").count()), ("/v1/{x}", 0));
    }

    #[test]
    fn of_several_query_parameters_those_without_a_value_are_left_out() {
        let pattern = "/v1/a{?b,c,d}";
        assert_eq!(query_names(pattern).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(path_with(pattern, &["", "x y", "/s.slice/é@1"]), "/v1/a?c=x%20y&d=/s.slice/%C3%A9%401");
        assert_eq!(unescaped("/s.slice/%C3%A9%401").as_deref(), Some("/s.slice/é@1"));
        for garbled in ["%", "%4", "%zz", "%ff", "%-1"] {
            assert_eq!(unescaped(garbled), None, "{garbled}");
        }
    }
}
