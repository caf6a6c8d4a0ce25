//! Writing ConnectionResponse and ConnectionToolResponse, by hand and fast: mostly copying.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::catalog::DESCRIPTIONS;
use super::catalog::INTEGRATIONS;
use super::catalog::Integration;
use super::catalog::METADATA;
use super::catalog::NICKNAMES;
use super::catalog::RESPONSE_FIELD_MAPS;
use super::catalog::RESPONSE_SCHEMAS;
use super::catalog::SHAPES;
use super::catalog::STALE_FIELD_PATHS;
use super::catalog::STALE_INPUT_FIELDS;
use super::catalog::STATUS_REASONS;
use super::chance::Chance;
use super::clock::Micros;
use super::clock::SECOND;
use super::clock::rfc3339;
use super::world::Content;
use super::world::Shown;
use super::world::Tool;

/// Fields that an edit has set (raw JSON) or taken away (`None`).
pub(super) type Overrides = BTreeMap<String, Option<String>>;

/// What id and seed alone decide about a connection.
pub(super) struct Nature {
    seed: u64,
    id: Uuid,
    organization: Uuid,
    integration: &'static Integration,
    nickname: &'static str,
    slug: String,
    zulu: bool,
    created_at: Micros,
    chance: Chance,
}

/// Just before the simulator's first users; all connections are created in the 300 days after it.
const FIRST_DAY: Micros = 1_704_067_200 * SECOND;

pub(super) fn created_at(seed: u64, id: Uuid) -> Micros {
    let age = Chance::new(seed, id, "created", 0).below(300 * 86_400 * 1_000_000);
    FIRST_DAY + Micros::try_from(age).unwrap_or(0)
}

impl Nature {
    pub(super) fn of(seed: u64, id: Uuid) -> Self {
        let mut chance = Chance::new(seed, id, "nature", 0);
        let (nickname, slug) = chance.pick(&NICKNAMES);
        Self {
            seed,
            id,
            organization: Chance::new(seed, Uuid::nil(), "organization", 0).uuid(),
            integration: &INTEGRATIONS[chance.index(INTEGRATIONS.len())],
            nickname,
            slug: format!("{slug}_{:04x}", chance.below(0x1_0000)),
            zulu: chance.below(2) == 0,
            created_at: created_at(seed, id),
            chance,
        }
    }

    /// The whole ConnectionResponse as the given content looks at the moment.
    pub(super) fn write(&self, content: &Content, shown: &Shown) -> String {
        let mut text = String::with_capacity(1024 + shown.tools.len() * 4096);
        let mut chance = self.chance.clone();
        let time = |at| quoted_time(at, self.zulu);
        let some_time = |at: Option<Micros>| at.map_or_else(|| "null".to_owned(), time);
        let mut object = Object::new(&mut text, content.overrides.as_deref());
        object.text("id", &self.id.to_string());
        object.text("organization_id", &self.organization.to_string());
        object.text("integration_key", self.integration.key);
        object.text("nickname_slug", &self.slug);
        object.text("nickname", self.nickname);
        object.text("vendor", "nango");
        match chance.below(4) {
            0 => object.raw("vendor_connection_id", "null"),
            _ => object.text(
                "vendor_connection_id",
                &format!("nango-{:016x}", chance.number()),
            ),
        }
        object.shown("status", shown.own_status, &format!("\"{}\"", shown.status));
        object.shown(
            "tools_status",
            shown.settled,
            &format!("\"{}\"", shown.tools_status),
        );
        object.shown(
            "tools_synced_at",
            shown.settled,
            &some_time(shown.tools_synced_at),
        );
        object.raw("status_reason", chance.pick(&STATUS_REASONS));
        object.raw("connected_at", &some_time(shown.connected_at));
        let refreshes = chance.below(4) > 0;
        object.raw(
            "last_refreshed_at",
            &some_time(shown.seen_at.filter(|_| refreshes)),
        );
        let used = self.created_at + Micros::try_from(chance.below(1 << 43)).unwrap_or(0);
        let is_used = chance.below(3) > 0;
        object.raw("last_used_at", &some_time(Some(used).filter(|_| is_used)));
        object.raw(
            "metadata",
            &format!(
                "{{\"region\":\"{}\",\"seats\":{},{}}}",
                chance.pick(&["eu-central-1", "us-east-2", "ap-south-1"]),
                chance.below(500),
                chance.pick(&METADATA)
            ),
        );
        match chance.below(4) {
            0 => {}
            1 => object.raw("voice_account_cps", "null"),
            2 => object.raw("voice_account_cps", "1.50"),
            _ => object.raw("voice_account_cps", "30"),
        }
        object.raw("created_at", &time(self.created_at));
        object.raw("updated_at", &time(shown.updated_at));
        if let Some(out) = object.begin("tools", shown.settled) {
            out.push('[');
            for (n, tool) in shown.tools.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                self.write_tool(out, tool, shown.seen_at);
            }
            out.push(']');
        }
        object.end();
        text
    }

    pub(super) fn tool_id(&self, index: u32) -> Uuid {
        Chance::new(self.seed, self.id, "tool id", u64::from(index)).uuid()
    }

    fn write_tool(&self, out: &mut String, tool: &Tool, seen_at: Option<Micros>) {
        let mut chance = Chance::new(self.seed, self.id, "tool", u64::from(tool.index));
        let time = |at| quoted_time(at, self.zulu);
        let created_at = self.created_at + Micros::from(tool.index + 1) * 1_000_003;
        let name = self.tool_name(tool.index);
        let shape = &SHAPES[chance.index(SHAPES.len())];
        let title = match tool.revision {
            0 => format!("{{\"title\":\"{name}\","),
            revision => format!("{{\"title\":\"{name}\",\"x-revision\":{revision},"),
        };
        let mut object = Object::new(out, tool.overrides.as_deref());
        object.text("id", &self.tool_id(tool.index).to_string());
        object.text("connection_id", &self.id.to_string());
        object.text("organization_id", &self.organization.to_string());
        object.text("integration_key", self.integration.key);
        object.text("nickname_slug", &self.slug);
        object.text("tool_path", &format!("{}/{name}", self.integration.key));
        object.text("slug", &format!("{}_{name}", self.slug));
        match tool.revision {
            0 => object.text(
                "display_name",
                &format!("{}: {name}", self.integration.display_name),
            ),
            revision => object.text("display_name", &format!("{name} (revision {revision})")),
        }
        object.raw("description", chance.pick(&DESCRIPTIONS));
        object.raw("input_schema", &(title.clone() + shape.schema));
        if let Some(schema) = chance.pick(&RESPONSE_SCHEMAS) {
            object.raw("response_schema", schema);
        }
        if let Some(map) = chance.pick(&RESPONSE_FIELD_MAPS) {
            object.raw("response_field_map", map);
        }
        let configured = match chance.below(4) {
            0 => false,
            1 => {
                object.raw("input_defaults", "null");
                false
            }
            _ => {
                object.raw("input_defaults", shape.input_defaults);
                true
            }
        };
        object.raw("is_enabled", ["true", "true", "false"][chance.index(3)]);
        object.raw("last_seen_at", &time(seen_at.unwrap_or(created_at)));
        object.raw("created_at", &time(created_at));
        object.raw("updated_at", &time(tool.changed_at.unwrap_or(created_at)));
        object.raw("stale_field_paths", chance.pick(&STALE_FIELD_PATHS));
        let (defaults, pinned, preview) = if configured {
            (
                shape.default_count,
                shape.pinned_count,
                shape.preview.as_str(),
            )
        } else {
            ("0", "0", shape.schema)
        };
        object.raw("default_count", defaults);
        object.raw("pinned_count", pinned);
        object.raw("stale_input_fields", chance.pick(&STALE_INPUT_FIELDS));
        object.raw("merged_input_preview", &(title + preview));
        object.end();
    }

    fn tool_name(&self, index: u32) -> String {
        let names = self.integration.tools;
        let index = index as usize;
        match names.get(index) {
            Some(name) => (*name).to_owned(),
            None => format!("{}_{}", names[index % names.len()], index / names.len() + 1),
        }
    }
}

fn quoted_time(at: Micros, zulu: bool) -> String {
    format!("\"{}\"", rfc3339(at, zulu))
}

/// Writes one JSON object, an edit's overrides going before what is generated.
struct Object<'a> {
    out: &'a mut String,
    overrides: Option<&'a Overrides>,
    used: Vec<&'static str>,
    separator: char,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String, overrides: Option<&'a Overrides>) -> Self {
        Self {
            out,
            overrides,
            used: Vec::new(),
            separator: '{',
        }
    }

    /// A value that is text already escaped.
    fn text(&mut self, name: &'static str, text: &str) {
        if let Some(out) = self.begin(name, true) {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
    }

    fn raw(&mut self, name: &'static str, json: &str) {
        self.shown(name, true, json);
    }

    /// A value whose override is out of force while `editable` is false.
    fn shown(&mut self, name: &'static str, editable: bool, json: &str) {
        if let Some(out) = self.begin(name, editable) {
            out.push_str(json);
        }
    }

    /// `None` where an override has written the field, or left it out.
    fn begin(&mut self, name: &'static str, editable: bool) -> Option<&mut String> {
        if let Some(overrides) = self.overrides
            && let Some(given) = overrides.get(name)
        {
            self.used.push(name);
            if editable {
                if let Some(json) = given {
                    self.key(&format!("\"{name}\""));
                    self.out.push_str(json);
                }
                return None;
            }
        }
        self.out.push(self.separator);
        self.separator = ',';
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        Some(self.out)
    }

    fn key(&mut self, quoted: &str) {
        self.out.push(self.separator);
        self.separator = ',';
        self.out.push_str(quoted);
        self.out.push(':');
    }

    /// Adds the fields that only an edit knows.
    fn end(mut self) {
        for (name, given) in self.overrides.into_iter().flatten() {
            if let Some(json) = given
                && !self.used.contains(&name.as_str())
            {
                self.key(&super::fields::quoted(name));
                self.out.push_str(json);
            }
        }
        self.out.push('}');
    }
}
