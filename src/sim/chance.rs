//! Deterministic chance: the same seed, connection and purpose always give the same numbers,
//! on every machine and in every run.

use uuid::Uuid;

/// A stream of numbers (SplitMix64) that depends on nothing but what it was made from.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64, id: Uuid, purpose: &str, number: u64) -> Self {
        let (high, low) = id.as_u64_pair();
        let mut chance = Self(mix(seed ^ 0x5EED).wrapping_add(high));
        chance.0 = mix(chance.0).wrapping_add(low);
        for byte in purpose.bytes() {
            chance.0 = (chance.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        chance.0 = mix(chance.0).wrapping_add(number);
        chance
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// An index into something of that length; 0 when it is empty.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of them, which must not be none at all.
    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// True in `share` (0..1) of all cases.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let dice = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        dice < share
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        let bits = (u128::from(self.number()) << 64) | u128::from(self.number());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_question_has_the_same_answer_and_another_question_another() {
        let ask = |seed, id: u128, purpose, number| {
            Chance::new(seed, Uuid::from_u128(id), purpose, number).number()
        };
        assert_eq!(ask(1, 2, "a", 3), ask(1, 2, "a", 3));
        for other in [
            ask(2, 2, "a", 3),
            ask(1, 3, "a", 3),
            ask(1, 2, "b", 3),
            ask(1, 2, "a", 4),
        ] {
            assert_ne!(ask(1, 2, "a", 3), other);
        }
    }

    #[test]
    fn a_share_is_met_within_a_few_percent() {
        let hits = (0..10_000)
            .filter(|n| Chance::new(7, Uuid::nil(), "share", *n).happens(0.3))
            .count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
    }

    #[test]
    fn a_made_uuid_is_a_version_4_one() {
        assert_eq!(
            Chance::new(1, Uuid::nil(), "u", 0).uuid().get_version_num(),
            4
        );
    }
}
