//! What one answer of the API says about a connection and its tools, ready to be stored.
//!
//! JSON stays text from the wire to the database, so that every digit survives.

use chrono::DateTime;
use chrono::SubsecRound;
use chrono::Utc;
use sha2::Digest;
use sha2::Sha256;
use uuid::Uuid;

/// Hash of content without its volatile fields: equal means unchanged. 16 bytes of SHA-256.
pub type ContentHash = [u8; 16];

/// An optional field of an answer: absent keeps what is stored, null clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Optional {
    /// The answer does not have the field.
    #[default]
    Absent,
    /// The field is null.
    Null,
    /// The field's JSON text.
    Json(String),
}

impl Optional {
    /// Whether the answer has the field, null or not.
    pub fn is_present(&self) -> bool {
        *self != Self::Absent
    }

    /// The field's JSON text; none where it is absent or null.
    pub fn json(&self) -> Option<&str> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Json(text) => Some(text),
        }
    }
}

/// Something that had to be altered to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field, as a path from the row: `nickname`, `metadata`.
    pub field: String,
    /// What was altered.
    pub what: &'static str,
}

/// A connection as answered. Field names are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are upstream's, described in the table's comments"
)]
pub struct ConnectionSnapshot {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub integration_key: String,
    pub nickname_slug: String,
    pub nickname: String,
    pub vendor: String,
    pub vendor_connection_id: Option<String>,
    pub status: String,
    pub tools_status: String,
    pub tools_synced_at: Option<DateTime<Utc>>,
    pub status_reason: Option<String>,
    pub connected_at: Option<DateTime<Utc>>,
    pub last_refreshed_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub metadata: String,
    pub voice_account_cps: Optional,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Fields without a column, as a JSON object.
    pub extra: String,
    /// What had to be altered.
    pub warnings: Vec<Warning>,
    /// Over all fields but `tools`, `last_refreshed_at` and `last_used_at`.
    pub hash: ContentHash,
    /// `None` where the answer has null or no `tools`. Sorted by id, ids distinct.
    pub tools: Option<Vec<ToolSnapshot>>,
    /// Length of the answer, in bytes.
    pub bytes: usize,
}

/// A tool as answered. Field names are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are upstream's, described in the table's comments"
)]
pub struct ToolSnapshot {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub integration_key: String,
    pub nickname_slug: String,
    pub tool_path: String,
    pub slug: String,
    pub display_name: String,
    pub description: Option<String>,
    pub input_schema: String,
    pub response_schema: Optional,
    pub response_field_map: Optional,
    pub input_defaults: Optional,
    pub is_enabled: bool,
    pub last_seen_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub stale_field_paths: Vec<String>,
    pub default_count: i64,
    pub pinned_count: i64,
    pub stale_input_fields: Vec<String>,
    pub merged_input_preview: String,
    /// Fields without a column, as a JSON object.
    pub extra: String,
    /// What had to be altered.
    pub warnings: Vec<Warning>,
    /// Over all fields but `last_seen_at`.
    pub hash: ContentHash,
}

impl ConnectionSnapshot {
    /// Fingerprint of what settling is about: `tools_status`, `tools_synced_at` and the tools.
    pub fn fingerprint(&self) -> ContentHash {
        let hashes = |tools: &[ToolSnapshot]| tools.iter().map(|tool| tool.hash).collect();
        let hashes: Option<Vec<_>> = self.tools.as_deref().map(hashes);
        fingerprint(&self.tools_status, self.tools_synced_at, hashes.as_deref())
    }
}

/// [`ConnectionSnapshot::fingerprint`] of what is kept of an answer: the hashes of its tools in order of their ids.
pub fn fingerprint<T: AsRef<[u8]>>(
    tools_status: &str,
    tools_synced_at: Option<DateTime<Utc>>,
    tools: Option<&[T]>,
) -> ContentHash {
    let synced_at = tools_synced_at.map(|at| at.trunc_subsecs(6).to_rfc3339());
    let mut parts = vec![
        tools_status.as_bytes(),
        synced_at.as_deref().unwrap_or("null").as_bytes(),
        if tools.is_some() { b"tools" } else { b"none" },
    ];
    parts.extend(tools.into_iter().flatten().map(AsRef::as_ref));
    hash_parts(parts)
}

/// Hash of a sequence of byte strings; where one ends and the next begins matters.
pub fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> ContentHash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut hash = ContentHash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_where_parts_end() {
        assert_ne!(
            hash_parts([b"ab".as_slice(), b"c"]),
            hash_parts([b"a".as_slice(), b"bc"])
        );
        assert_eq!(
            hash_parts([b"ab".as_slice()]),
            hash_parts([b"ab".as_slice()])
        );
    }
}
