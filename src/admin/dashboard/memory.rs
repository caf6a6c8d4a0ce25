//! What was found out last, for all who ask within a while: however many look, the database is asked rarely.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

#[derive(Clone)]
pub(super) struct Memory<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Memory<T> {
    /// What is known, if that is not older than `holds`, else what is found now. One looks at a time; who had to wait
    /// takes what that one found. A failure is not remembered.
    pub(super) async fn get<E>(
        &self,
        holds: Duration,
        find: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut known = self.0.lock().await;
        if let Some((at, found)) = &*known
            && at.elapsed() < holds
        {
            return Ok(found.clone());
        }
        let found = find.await?;
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Something has been done: the next look is a new one.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_holds_for_its_while_and_a_failure_not_at_all() {
        let memory = Memory::default();
        let hold = Duration::from_secs(2);
        assert_eq!(memory.get(hold, async { Err("away") }).await, Err("away"));
        assert_eq!(memory.get(hold, async { Ok::<_, ()>(1) }).await, Ok(1));
        assert_eq!(memory.get(hold, async { Ok::<_, ()>(2) }).await, Ok(1));
        tokio::time::advance(hold).await;
        assert_eq!(memory.get(hold, async { Ok::<_, ()>(3) }).await, Ok(3));
        memory.forget().await;
        assert_eq!(memory.get(hold, async { Ok::<_, ()>(4) }).await, Ok(4));
    }
}
