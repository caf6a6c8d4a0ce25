//! Lists of jobs.

use super::dead;
use super::id;
use super::job;
use super::waiting;
use crate::world::World;
use feather_sync::store::Count;
use feather_sync::store::Db;
use feather_sync::store::JobFilter;
use feather_sync::store::JobState;
use feather_sync::store::Look;
use std::collections::BTreeSet;
use uuid::Uuid;

/// All that a filter matches, page by page, in the order of the list.
async fn all(db: &Db, filter: &JobFilter) -> Vec<Uuid> {
    let (mut found, mut behind) = (Vec::new(), None);
    loop {
        let page = db.jobs(filter, behind).await.unwrap();
        found.extend(page.rows.iter().map(|job| job.connection_id));
        behind = page.next;
        if behind.is_none() {
            return found;
        }
    }
}

fn of(state: JobState) -> JobFilter {
    JobFilter {
        state: Some(state),
        ..JobFilter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_finds_what_it_says_in_its_order_and_counts_it() {
    let mut world = World::new().await;
    world.leave_broken();
    for (number, account, state, class, minutes) in [
        (1, "default", "dead", "upstream", 10),
        (2, "default", "dead", "not_found", 300),
        (3, "acme", "dead", "upstream", 5),
        (4, "default", "pending", "", 7),
        (5, "default", "pending", "", -30),
        (6, "acme", "pending/settle", "", 90),
        (7, "default", "running", "", 2),
        (8, "acme", "running/settle", "", 61),
        (9, "acme", "pending/refresh", "", 80),
        (10, "default", "running/refresh", "", 50),
    ] {
        job(&world, number, account, state, class, minutes).await;
    }
    let db = world.db();
    let account = |state, account: &str| JobFilter {
        state,
        account: Some(account.into()),
        ..JobFilter::default()
    };
    let class = |class: &str| JobFilter {
        class: Some(class.into()),
        ..JobFilter::default()
    };
    let hour = |state| JobFilter {
        state,
        for_seconds: Some(3_600),
        ..JobFilter::default()
    };
    let begins = |prefix: &str, state| JobFilter {
        state,
        connection: Some(prefix.parse().unwrap()),
        ..JobFilter::default()
    };
    use JobState::Dead;
    use JobState::Due;
    use JobState::Pending;
    use JobState::Running;
    use JobState::Settling;
    for (filter, expected) in [
        (JobFilter::default(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (of(Dead), vec![3, 1, 2]),
        (of(Pending), vec![6, 9, 4, 5]),
        (of(Due), vec![6, 9, 4]),
        (of(Running), vec![8, 10, 7]),
        (of(Settling), vec![6, 9, 8, 10]),
        (class("upstream"), vec![3, 1]),
        (class("storage"), vec![]),
        (account(None, "acme"), vec![3, 6, 8, 9]),
        (account(Some(Dead), "acme"), vec![3]),
        (account(Some(Pending), "acme"), vec![6, 9]),
        (account(Some(Running), "acme"), vec![8]),
        (account(Some(Settling), "nobody"), vec![]),
        (hour(None), vec![2, 6, 8, 9]),
        (hour(Some(Dead)), vec![2]),
        (hour(Some(Pending)), vec![6, 9]),
        (hour(Some(Running)), vec![8]),
        (hour(Some(Settling)), vec![6, 9, 8]),
        (
            begins("00000000-0000-4000-8000-000000000005", None),
            vec![5],
        ),
        (begins("0000000000004", Some(Dead)), vec![1, 2, 3]),
        (begins("0", Some(Settling)), vec![6, 8, 9, 10]),
        (begins("1", None), vec![]),
    ] {
        let expected: Vec<Uuid> = expected.into_iter().map(id).collect();
        assert_eq!(all(&db, &filter).await, expected, "{filter:?}");
        let count = db.count_jobs(&filter).await.unwrap();
        assert_eq!(count, Count::Exactly(expected.len() as u64), "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_shows_the_job_and_what_is_known_of_its_connection() {
    let world = World::new().await;
    let synced = crate::world::ids(1);
    world.sync(&synced).await;
    world.enqueue(&synced).await;
    let db = world.db();
    db.take_in(&Look {
        limit: 10,
        from: None,
        running: &[],
    })
    .await
    .unwrap();
    let page = db.jobs(&of(JobState::Pending), None).await.unwrap();
    let [job] = &page.rows[..] else {
        panic!("{page:?}");
    };
    let nickname: String = world
        .value("SELECT nickname FROM feather.connections")
        .await;
    assert_eq!(job.connection_id, synced[0]);
    assert_eq!(job.nickname.as_deref(), Some(nickname.as_str()));
    assert_eq!(
        (job.state.as_str(), job.phase.as_str(), job.attempt),
        ("pending", "finalize", 0)
    );
    assert!((0.0..60.0).contains(&job.since_seconds), "{job:?}");
    assert_eq!(page.next, None);
}

/// While pages are turned, jobs come in front of and behind the reader, and some that were not reached yet leave.
async fn turned_while_jobs_come_and_go(filter: JobFilter, state: &str) {
    let mut world = World::new().await;
    world.leave_broken();
    match state {
        "dead" => dead(&world, 100..=430, "upstream").await,
        _ => waiting(&world, 100..=430).await,
    }
    let db = world.db();
    let (mut seen, mut behind) = (Vec::new(), None);
    let (mut turned, mut left) = (0, BTreeSet::new());
    loop {
        let page = db.jobs(&filter, behind).await.unwrap();
        assert!(page.rows.len() <= 50);
        seen.extend(page.rows.iter().map(|job| job.connection_id));
        turned += 1;
        // One in front of all, one behind all; and one goes that is in the list, reached or not.
        let class = if state == "dead" { "upstream" } else { "" };
        job(&world, 1_000 + turned, "default", state, class, 0).await;
        job(&world, turned, "default", state, class, 100).await;
        let gone = id(100 + turned * 29);
        world
            .execute(&format!(
                "DELETE FROM feather.sync_jobs WHERE connection_id = '{gone}'"
            ))
            .await;
        left.insert(gone);
        behind = page.next;
        if behind.is_none() {
            break;
        }
    }
    assert!(turned > 6, "{turned}");
    let once: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "some were seen twice");
    for number in 100..=430 {
        let id = id(number);
        assert!(
            once.contains(&id) || left.contains(&id),
            "{id} was not seen"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dead_job_is_on_one_page_while_others_come_and_go() {
    turned_while_jobs_come_and_go(of(JobState::Dead), "dead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_job_is_on_one_page_while_others_come_and_go() {
    turned_while_jobs_come_and_go(of(JobState::Due), "pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_of_any_state_is_on_one_page_while_others_come_and_go() {
    turned_while_jobs_come_and_go(JobFilter::default(), "pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_in_the_order_of_ids_ends_its_pages_after_a_bounded_look() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=12_000).await;
    job(&world, 11_999 + 10, "acme", "pending", "", 1).await;
    let filter = JobFilter {
        account: Some("acme".into()),
        ..JobFilter::default()
    };
    let db = world.db();
    let first = db.jobs(&filter, None).await.unwrap();
    assert!(first.rows.is_empty() && first.next.is_some(), "{first:?}");
    assert_eq!(all(&db, &filter).await, [id(11_999 + 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_thousand_are_not_counted_to_the_end() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=10_001).await;
    let db = world.db();
    let more = Count::MoreThan(10_000);
    assert_eq!(db.count_jobs(&of(JobState::Pending)).await.unwrap(), more);
    let prefix = JobFilter {
        connection: Some("0000".parse().unwrap()),
        ..JobFilter::default()
    };
    assert_eq!(db.count_jobs(&prefix).await.unwrap(), more);
    world
        .execute(&format!(
            "DELETE FROM feather.sync_jobs WHERE connection_id = '{}'",
            id(1)
        ))
        .await;
    let all = Count::Exactly(10_000);
    assert_eq!(db.count_jobs(&JobFilter::default()).await.unwrap(), all);
    assert_eq!(db.count_jobs(&prefix).await.unwrap(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forget_that_waits_for_a_list_keeps_nothing_from_being_taken_in() {
    let world = World::new().await;
    world.sync(&[id(1)]).await;
    // What a part of a list holds until it is stored.
    let mut part = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared(7305801, 4)")
        .execute(&mut *part)
        .await
        .unwrap();
    let db = world.db();
    let forget = {
        let db = world.db();
        tokio::spawn(async move { db.forget(&[id(1)], "alice").await })
    };
    world
        .until(
            "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4 AND NOT granted AND database =
                         (SELECT oid FROM pg_database WHERE datname = current_database()))",
        )
        .await;
    world.enqueue(&[id(2)]).await;
    let look = Look {
        limit: 10,
        from: None,
        running: &[],
    };
    assert_eq!(db.take_in(&look).await.unwrap().requests, 1);
    part.rollback().await.unwrap();
    assert_eq!(forget.await.unwrap().unwrap(), [id(1)]);
}
