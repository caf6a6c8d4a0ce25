//! True answers that something has happened to, hundreds in one drain. A failure names the seed; `POISON_SEED` replays
//! it, `POISON_CASES` asks for more.

use crate::poison::impatient_world;
use crate::poison::mutation::Mutation;
use crate::poison::pairs;
use crate::poison::reading;
use crate::poison::sync;
use crate::world::World;
use feather_sync::feather::Received;
use feather_sync::sim::Sim;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("POISON_SEED").unwrap_or_else(rand::random)
}

#[tokio::test]
async fn no_mutated_answer_makes_reading_or_judging_panic_or_lets_a_secret_out() {
    let seed = seed();
    println!("POISON_SEED={seed}");
    let mut mutation = Mutation::seeded(seed);
    let sim = Sim::start(feather_sync::sim::Scenario::from_toml("tools = 3").unwrap()).unwrap();
    let truth = sim.truth_text(reading::CONNECTION);
    let truth = truth.replacen(
        "\"nickname\":\"",
        &format!("\"nickname\":\"{}", reading::KEY),
        1,
    );
    let refusal = format!(
        r#"{{"error":"busy","message":"your key: {}","retryable":true,"retry_after":1.5,"nested":{{"a":[1]}}}}"#,
        reading::KEY
    );
    let mut classes = std::collections::BTreeMap::<_, u32>::new();
    for _ in 0..number("POISON_CASES").unwrap_or(2_000) {
        let (status, body) = match mutation.below(8) {
            0 => (
                [400, 404, 429, 500, 503, 999][mutation.below(6)],
                mutation.of(&refusal),
            ),
            _ => (200, mutation.of(&truth)),
        };
        let verdict = reading::check(Received {
            status,
            headers: feather_sync::feather::HeaderMap::new(),
            body,
        });
        *classes.entry(verdict.class).or_default() += 1;
    }
    // Not so gentle that nothing breaks, nor so rough that nothing is left.
    assert!(
        classes.len() >= 5 && classes.get(&None).is_some_and(|well| *well > 400),
        "{classes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_mutated_answers_in_one_drain_end_each_for_itself_and_disturb_no_neighbour() {
    let seed = seed();
    println!("POISON_SEED={seed}");
    let mut mutation = Mutation::seeded(seed);
    let (world, upstream) = impatient_world().await;
    let pairs = pairs(usize::try_from(number("POISON_CASES").unwrap_or(300)).unwrap());
    let mut bodies = Vec::new();
    for (ill, _) in &pairs {
        let body = mutation.of(&world.sim.truth_text(*ill));
        upstream.answer(
            *ill,
            [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), body.clone()].concat(),
        );
        bodies.push(body);
    }
    sync(&world, &upstream, &pairs).await;
    let mut ends = std::collections::BTreeMap::<_, u32>::new();
    for ((ill, _), body) in pairs.iter().zip(bodies) {
        let story = world.story(*ill).await;
        let end = story.last().unwrap().clone();
        let known = [
            "synced",
            "dead/protocol",
            "dead/mismatch",
            "dead/storage",
            "dead/not_active",
            "dead/tools_failed",
            "dead/settle_timeout",
        ];
        assert!(
            known.contains(&end.as_str()),
            "{story:?}: {}",
            String::from_utf8_lossy(&body)
        );
        if end == "dead/storage" {
            assert_eq!(
                story.iter().filter(|word| *word == "dead/storage").count(),
                1
            );
            nothing_is_stored(&world, *ill).await;
        }
        if end == "synced" {
            equals_unless_warned(&world, *ill, body).await;
        }
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}");
}

async fn nothing_is_stored(world: &World, id: uuid::Uuid) {
    let rows: i64 = world
        .value(&format!(
            "SELECT (SELECT count(*) FROM feather.integration_connections WHERE id = '{id}')
                  + (SELECT count(*) FROM feather.integration_connection_tools WHERE connection_id = '{id}')"
        ))
        .await;
    assert_eq!(rows, 0);
}

/// What is stored without a warning is what was sent, to the last digit.
async fn equals_unless_warned(world: &World, id: uuid::Uuid, body: Vec<u8>) {
    let warned: bool = world
        .value(&format!(
            "SELECT (SELECT bool_or(_warnings IS NOT NULL) FROM feather.integration_connections WHERE id = '{id}')
                 OR COALESCE((SELECT bool_or(_warnings IS NOT NULL) FROM feather.integration_connection_tools WHERE connection_id = '{id}'), false)"
        ))
        .await;
    if !warned {
        let mut body = String::from_utf8(body).unwrap();
        // A spelling of a UUID that is read as one, and that Postgres, which compares here, does not know.
        for name in ["organization_id", "connection_id", "id"] {
            body = body.replace(
                &format!("\"{name}\":\"urn:uuid:"),
                &format!("\"{name}\":\""),
            );
        }
        world
            .equals(&body)
            .await
            .unwrap_or_else(|error| panic!("{error}\nsent   {body}"));
    }
}
