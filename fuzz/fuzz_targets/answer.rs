//! Any bytes as an answer, as far as the verdict: no panic, no secret, nothing that the database could not hold.
#![no_main]

use feather_sync_fuzz::reading;
use libfuzzer_sys::Corpus;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match reading::received(bytes) {
        Some(received) => {
            reading::check(received);
            Corpus::Keep
        }
        None => Corpus::Reject,
    }
});
