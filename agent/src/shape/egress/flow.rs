//! How much flows, by a count of bytes that only grows. Pure.

use std::collections::VecDeque;

/// Over how many looks the greatest rate is taken.
const LOOKS: usize = 10;
/// Two looks nearer than this are one, ms.
const APART_MS: u64 = 500;

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Flow {
    last: Option<(u64, u64)>,
    rates_bits: VecDeque<u64>,
}

impl Flow {
    /// A look: the boot clock, ms, and the count.
    pub(super) fn add(&mut self, at_ms: u64, bytes: u64) {
        let Some((last_ms, last_bytes)) = self.last else {
            self.last = Some((at_ms, bytes));
            return;
        };
        let passed_ms = at_ms.saturating_sub(last_ms);
        if passed_ms < APART_MS {
            return;
        }
        self.last = Some((at_ms, bytes));
        // A count that went back began anew.
        let Some(sent) = bytes.checked_sub(last_bytes) else { return };
        let bits = u128::from(sent) * 8 * 1000 / u128::from(passed_ms);
        if self.rates_bits.len() >= LOOKS {
            self.rates_bits.pop_front();
        }
        self.rates_bits.push_back(u64::try_from(bits).unwrap_or(u64::MAX));
    }

    /// The greatest rate of the last looks, bits per second; `None` before there were two.
    pub(super) fn most_bits(&self) -> Option<u64> {
        self.rates_bits.iter().max().copied()
    }
}
