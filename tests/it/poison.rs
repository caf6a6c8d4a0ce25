//! From bytes on the wire to rows in Postgres: whatever an answer is, it ends one job at most, and no neighbour.

use crate::poison::upstream::Upstream;
use crate::world::World;
use feather_sync::sim::Scenario;
use std::sync::Once;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use uuid::Uuid;

mod corpus;
mod large;
mod mutated;
mod mutation;
#[expect(unreachable_pub, reason = "the fuzz targets use it, too")]
mod reading;
mod upstream;

/// Panics in the product, in any thread and task of this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How many panics the product has had in this process. A task that panics would go unnoticed: nobody waits for it.
fn panics() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic
                .location()
                .is_some_and(|at| at.file().starts_with("src/"))
            {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
    PANICS.load(Ordering::SeqCst)
}

/// A world in which jobs are given up soon, and answers are written together.
async fn impatient_world() -> (World, Upstream) {
    let scenario = "tools = \"1..4\"\ntools_synced_at = \"frozen\"\nlast_seen_at = \"fixed\"";
    let mut world = World::with(Scenario::from_toml(scenario).unwrap()).await;
    world
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "4")
        .set("FEATHER_SYNC__SETTLE__DEADLINE", "1s")
        .set("FEATHER_SYNC__WORKER__CONCURRENCY", "48");
    let upstream = Upstream::before(&mut world).await;
    (world, upstream)
}

/// Poisoned connections and as many healthy ones, in turns.
fn pairs(count: usize) -> Vec<(Uuid, Uuid)> {
    let all = crate::world::ids(2 * count as u128);
    all.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Syncs all of them in one drain. Nobody's call is left out, and every healthy one is stored as it is.
async fn sync(world: &World, upstream: &Upstream, pairs: &[(Uuid, Uuid)]) {
    let before = panics();
    let all: Vec<Uuid> = pairs.iter().flat_map(|(ill, well)| [*ill, *well]).collect();
    // The first of them are answered together, and so written together.
    let (synced, ()) = tokio::join!(world.sync(&all), upstream.together(all.len().min(48)));
    let () = synced;
    assert_eq!(panics(), before, "the product has panicked");
    for (_, well) in pairs {
        let story = world.story(*well).await;
        assert_eq!(
            story.last().map(String::as_str),
            Some("synced"),
            "{story:?}"
        );
        assert!(
            story
                .iter()
                .all(|word| word == "synced" || word == "settling"),
            "{story:?}"
        );
        world.equals_truth(*well).await.unwrap();
    }
    for (ill, _) in pairs {
        let attempts = world.story(*ill).await.len();
        assert_eq!(attempts, upstream.calls(*ill), "each call is recorded once");
    }
}
