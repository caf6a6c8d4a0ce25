//! Which paths mean what.

use axum::http::Method;
use uuid::Uuid;

use super::record::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    One {
        kind: Kind,
        id: Uuid,
    },
    /// The id in the path is no UUID.
    Malformed {
        kind: Kind,
        id: String,
    },
    List,
    Catalog,
    /// The path exists, not for this method.
    NotAllowed,
    Unknown,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v1/integrations") else {
            return Self::Unknown;
        };
        let mut parts = rest.split('/').skip(1);
        let (first, id, verb, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (allowed, kind) = match (first, id, verb, more) {
            (None, ..) if rest.is_empty() => (Method::GET, Kind::Catalog),
            (Some("connections"), None, ..) => (Method::GET, Kind::List),
            (Some("connections"), Some(""), ..) => return Self::Unknown,
            (Some("connections"), Some(_), None, _) => (Method::GET, Kind::Poll),
            (Some("connections"), Some(_), Some("finalize"), None) => {
                (Method::POST, Kind::Finalize)
            }
            (Some("connections"), Some(_), Some("refresh-tools"), None) => {
                (Method::POST, Kind::Refresh)
            }
            _ => return Self::Unknown,
        };
        if *method != allowed {
            return Self::NotAllowed;
        }
        match (kind, id) {
            (Kind::Catalog, _) => Self::Catalog,
            (_, None) => Self::List,
            (kind, Some(text)) => match Uuid::try_parse(text) {
                Ok(id) => Self::One { kind, id },
                Err(_) => Self::Malformed {
                    kind,
                    id: text.to_owned(),
                },
            },
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::One { kind, .. } | Self::Malformed { kind, .. } => *kind,
            Self::List => Kind::List,
            Self::Catalog => Kind::Catalog,
            Self::NotAllowed | Self::Unknown => Kind::Other,
        }
    }

    pub(super) fn id(&self) -> Option<Uuid> {
        match self {
            Self::One { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Whether there is something behind it that faults can hit.
    pub(super) fn is_served(&self) -> bool {
        matches!(self, Self::One { .. } | Self::List | Self::Catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let id = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
        let base = "/v1/integrations";
        let get = |path: &str| Route::of(&Method::GET, path);
        let post = |path: &str| Route::of(&Method::POST, path);
        assert_eq!(get(base), Route::Catalog);
        assert_eq!(get(&format!("{base}/connections")), Route::List);
        assert_eq!(get(&format!("{base}/connections/{id}")).kind(), Kind::Poll);
        let finalize = post(&format!("{base}/connections/{id}/finalize"));
        assert_eq!(
            (finalize.kind(), finalize.id().is_some()),
            (Kind::Finalize, true)
        );
        assert_eq!(
            post(&format!("{base}/connections/{id}/refresh-tools")).kind(),
            Kind::Refresh
        );
        assert!(matches!(
            post(&format!("{base}/connections/12/finalize")),
            Route::Malformed { .. }
        ));
        assert_eq!(
            get(&format!("{base}/connections/{id}/finalize")),
            Route::NotAllowed
        );
        for path in [
            "/",
            "/v1/integration",
            "/v1/integrationsx",
            "/v1/integrations/",
            "/v1/integrations/connections/",
            "/v1/integrations/connections/x/y",
            "/v1/integrations/connections/x/finalize/z",
        ] {
            assert_eq!(get(path), Route::Unknown, "{path}");
        }
    }
}
