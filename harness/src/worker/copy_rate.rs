//! The floor first: how fast this device copies, by its own copy engine of choice.

use anyhow::Result;
use host::device::{Device, Event};

/// Sizes in bytes: far beyond any L2 cache, and the size at which copies are usually fastest.
const SIZES: [usize; 2] = [1_000_000_000, 256_000_000];
const REPEATS: usize = 10;

/// The best copy rate over both sizes in GB/s (10^9 bytes read plus written a second); `None` on the simulator, and where
/// neither size fits into memory.
///
/// # Errors
/// The device's.
pub fn measure(device: &Device) -> Result<Option<f64>> {
    if device.info().is_simulator {
        return Ok(None);
    }
    let stream = device.stream()?;
    let mut best = None;
    for bytes in SIZES {
        let (Ok(src), Ok(dst)) = (device.alloc(bytes, "copy source"), device.alloc(bytes, "copy target")) else {
            continue;
        };
        // Not zeros: memory compression and power savings make constant data faster. The ends suffice to make it differ.
        src.fill(0x5A)?;
        let words: Vec<u64> = (0..4_000_000u64)
            .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        for at in (0..bytes - words.len() * 8 + 1).step_by(words.len() * 8) {
            src.upload_at(at, &words)?;
        }
        device.copy(&stream, &dst, &src, bytes)?;
        for _ in 0..REPEATS {
            let (start, end) = (device.event()?, device.event()?);
            start.record(&stream)?;
            device.copy(&stream, &dst, &src, bytes)?;
            end.record(&stream)?;
            end.synchronize()?;
            let gb_s = 2.0 * bytes as f64 / (Event::elapsed_us(&start, &end)? * 1e3);
            best = Some(best.map_or(gb_s, |b: f64| b.max(gb_s)));
        }
    }
    Ok(best)
}
