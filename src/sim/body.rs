//! Bodies that no honest server sends: dripping, endless, cut short, exploding.

use std::convert::Infallible;
use std::io;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use flate2::Compress;
use flate2::Compression;
use flate2::Crc;
use flate2::FlushCompress;
use flate2::write::GzEncoder;
use futures_util::stream;

const CHUNK: usize = 64 * 1024;

/// The text over `duration`, in twenty pieces; `held` is kept until the last one, or the client, is gone.
pub(super) fn drip<T: Send + 'static>(text: String, duration: Duration, held: T) -> Body {
    let bytes = Bytes::from(text);
    let piece = bytes.len().div_ceil(20).max(1);
    let pause = duration / 20;
    Body::from_stream(stream::unfold(
        (bytes, held),
        move |(mut rest, held)| async move {
            if rest.is_empty() {
                return None;
            }
            tokio::time::sleep(pause).await;
            let next = rest.split_to(piece.min(rest.len()));
            Some((Ok::<_, Infallible>(next), (rest, held)))
        },
    ))
}

/// The text, of which hyper does not know the length: a `Content-Length` header may then say anything.
pub(super) fn unmeasured(text: String) -> Body {
    Body::from_stream(stream::iter([Ok::<_, Infallible>(text)]))
}

/// The document with a padding field, `length` bytes long or a little more where it is longer by
/// itself; never held in memory as a whole. With its exact length.
pub(super) fn padded(document: String, length: u64) -> (Body, u64) {
    let (open, missing, close) = opened(document, length);
    let whole = open.len() as u64 + missing + close.len() as u64;
    let filler = Bytes::from(vec![b'x'; CHUNK]);
    let full = std::iter::repeat_n(
        filler.clone(),
        usize::try_from(missing / CHUNK as u64).unwrap_or(usize::MAX),
    );
    let rest = filler.slice(..usize::try_from(missing % CHUNK as u64).unwrap_or(0));
    let pieces = std::iter::once(Bytes::from(open))
        .chain(full)
        .chain([rest, Bytes::from_static(close.as_bytes())]);
    let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
    (body, whole)
}

/// The document up to where padding may go on, how much of it, and how it is closed.
fn opened(mut document: String, length: u64) -> (String, u64, &'static str) {
    let close = if document.pop() == Some(']') {
        document.push_str(if document == "[" { "" } else { "," });
        document.push_str("{\"padding\":\"");
        "\"}]"
    } else {
        document.push_str(",\"padding\":\"");
        "\"}"
    };
    let missing = length.saturating_sub((document.len() + close.len()) as u64);
    (document, missing, close)
}

pub(super) fn gzip(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// A gzip stream that expands to the document padded to `length`. A block that has been flushed fully
/// depends on none before it, so one compressed megabyte of padding is written over and over.
pub(super) fn gzip_bomb(document: String, length: u64) -> io::Result<Vec<u8>> {
    const BLOCK: u64 = 1024 * 1024;
    let (open, missing, close) = opened(document, length);
    let filler = vec![b'x'; 1024 * 1024];
    let rest = usize::try_from(missing % BLOCK).unwrap_or(0);
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
    let mut sum = Crc::new();
    let mut deflate = Compress::new(Compression::best(), false);
    let mut add = |out: &mut Vec<u8>, data: &[u8], flush| {
        let mut packed = Vec::with_capacity(data.len() + 1024);
        deflate.compress_vec(data, &mut packed, flush)?;
        sum.update(data);
        out.extend_from_slice(&packed);
        io::Result::Ok(packed)
    };
    add(&mut out, open.as_bytes(), FlushCompress::Full)?;
    let mut repeated = None;
    if missing >= BLOCK {
        repeated = Some(add(&mut out, &filler, FlushCompress::Full)?);
    }
    let mut megabyte = Crc::new();
    megabyte.update(&filler);
    let mut tail = vec![b'x'; rest];
    tail.extend_from_slice(close.as_bytes());
    if let Some(block) = repeated {
        for _ in 1..missing / BLOCK {
            out.extend_from_slice(&block);
            sum.combine(&megabyte);
        }
    }
    let mut packed = Vec::with_capacity(tail.len() + 1024);
    deflate.compress_vec(&tail, &mut packed, FlushCompress::Finish)?;
    sum.update(&tail);
    out.extend_from_slice(&packed);
    out.extend_from_slice(&sum.sum().to_le_bytes());
    out.extend_from_slice(&sum.amount().to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_bomb_is_small_and_expands_to_valid_gzip_of_the_very_length() {
        for length in [10, 5_000, 1_500_000, 50_000_000] {
            let bomb = gzip_bomb("{\"a\":1}".to_owned(), length).unwrap();
            assert!(bomb.len() < 80_000, "{}", bomb.len());
            let mut text = String::new();
            GzDecoder::new(bomb.as_slice())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text.len() as u64, length.max(20));
            assert!(text.starts_with("{\"a\":1,\"padding\":\"") && text.ends_with("\"}"));
        }
    }
}
