//! Who acts, for the record.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::config::Env;

/// The operating system's user and host: `alice@db-1`.
pub(super) fn actor(env: &Env) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => env.get("HOSTNAME").unwrap_or("localhost"),
        host => host,
    };
    format!("{}@{host}", user(env))
}

/// The system's word first: variables can be set to anything, or be left over from another user.
fn user(env: &Env) -> String {
    let uid = fs::metadata("/proc/self").ok().map(|process| process.uid());
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    uid.and_then(|uid| name_of(uid, &passwd))
        .or_else(|| {
            env.get("USER")
                .or_else(|| env.get("LOGNAME"))
                .map(str::to_owned)
        })
        .or_else(|| uid.map(|uid| format!("uid {uid}")))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_by_the_system() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n# odd\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("alice"));
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(7, passwd), None);
    }

    #[test]
    fn an_actor_is_a_user_at_a_host() {
        let actor = actor(&Env::default());
        let (user, host) = actor.split_once('@').unwrap();
        assert!(!user.is_empty() && !host.is_empty(), "{actor}");
    }
}
