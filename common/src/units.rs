//! Resources with their units, and the service classes.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// An amount of each resource; absent means "not stated", never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU time per wall time, in thousandths of a core.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u64>,
    /// Memory in bytes.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Storage space in bytes.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// Disk traffic, both directions each, in bytes per second.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes_per_second: Option<u64>,
    /// Network egress in bits per second.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bits_per_second: Option<u64>,
}

impl Resources {
    /// The five amounts in the order of [`ResourceKind::ALL`].
    pub fn amounts(&self) -> [Option<u64>; 5] {
        [
            self.cpu_millicores,
            self.memory_bytes,
            self.storage_bytes,
            self.disk_bytes_per_second,
            self.network_bits_per_second,
        ]
    }

    /// One amount.
    pub fn get(&self, kind: ResourceKind) -> Option<u64> {
        self.amounts()[kind as usize]
    }

    /// Sets one amount.
    pub fn set(&mut self, kind: ResourceKind, amount: Option<u64>) {
        match kind {
            ResourceKind::Cpu => self.cpu_millicores = amount,
            ResourceKind::Memory => self.memory_bytes = amount,
            ResourceKind::Storage => self.storage_bytes = amount,
            ResourceKind::Disk => self.disk_bytes_per_second = amount,
            ResourceKind::Network => self.network_bits_per_second = amount,
        }
    }

    /// The stricter of two limits: of each resource the lesser amount; an amount that only one of them names is that one's.
    pub fn stricter(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for kind in ResourceKind::ALL {
            both.set(kind, [self.get(kind), other.get(kind)].into_iter().flatten().min());
        }
        both
    }
}

/// The five resources, in the order of [`Resources::amounts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// `cpu_millicores`
    Cpu = 0,
    /// `memory_bytes`
    Memory = 1,
    /// `storage_bytes`
    Storage = 2,
    /// `disk_bytes_per_second`
    Disk = 3,
    /// `network_bits_per_second`
    Network = 4,
}

impl ResourceKind {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Storage, Self::Disk, Self::Network];

    /// The name with its unit.
    pub const fn unit_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu_millicores",
            Self::Memory => "memory_bytes",
            Self::Storage => "storage_bytes",
            Self::Disk => "disk_bytes_per_second",
            Self::Network => "network_bits_per_second",
        }
    }
}

/// Service class of a request: ordered bands, the strongest first (design §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Has what it was granted, always: no quota above it, memory protected.
    #[n(1)]
    Guaranteed,
    /// Has its share, and may use what is idle up to its limit.
    #[n(2)]
    #[default]
    Burstable,
    /// Has what is left.
    #[n(3)]
    BestEffort,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::BestEffort => "best-effort",
        })
    }
}

impl std::str::FromStr for Class {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "guaranteed" => Ok(Self::Guaranteed),
            "burstable" => Ok(Self::Burstable),
            "best-effort" => Ok(Self::BestEffort),
            _ => Err(UnitError::Class(text.to_owned())),
        }
    }
}

/// A quantity that a person typed and that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a class.
    #[error("`{0}` is not a class: use guaranteed, burstable or best-effort")]
    Class(String),
    /// Not an amount of CPU.
    #[error("`{0}` is not an amount of CPU: use millicores like 500m, or cores like 2 or 0.5")]
    Cpu(String),
    /// Not an amount of bytes.
    #[error("`{0}` is not an amount of bytes: use a whole number with K, M, G or T (powers of 1024) or none")]
    Bytes(String),
}

/// Reads an amount of CPU: `500m`, `2`, `0.5` (thousandths at the finest).
///
/// # Errors
/// [`UnitError::Cpu`] when it is not one, is zero, or is above a million cores.
pub fn parse_cpu_millicores(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Cpu(text.to_owned());
    let amount = if let Some(millis) = text.strip_suffix('m') {
        millis.parse::<u64>().map_err(|_| bad())?
    } else {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 3 || !fraction.chars().all(|c| c.is_ascii_digit()) {
            return Err(bad());
        }
        let thousandths = format!("{fraction:0<3}").parse::<u64>().map_err(|_| bad())?;
        whole
            .parse::<u64>()
            .ok()
            .and_then(|cores| cores.checked_mul(1000))
            .and_then(|millis| millis.checked_add(thousandths))
            .ok_or_else(bad)?
    };
    if (1..=1_000_000_000).contains(&amount) { Ok(amount) } else { Err(bad()) }
}

/// Reads an amount of bytes: `1048576`, `256M`, `2Gi`, `1T` (powers of 1024).
///
/// # Errors
/// [`UnitError::Bytes`] when it is not one, is zero, or does not fit 63 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Bytes(text.to_owned());
    let trimmed = text.strip_suffix('B').unwrap_or(text);
    let trimmed = trimmed.strip_suffix('i').unwrap_or(trimmed);
    let (digits, shift) = match trimmed.chars().last() {
        Some('K' | 'k') => (&trimmed[..trimmed.len() - 1], 10),
        Some('M' | 'm') => (&trimmed[..trimmed.len() - 1], 20),
        Some('G' | 'g') => (&trimmed[..trimmed.len() - 1], 30),
        Some('T' | 't') => (&trimmed[..trimmed.len() - 1], 40),
        _ => (trimmed, 0),
    };
    let amount = digits.parse::<u64>().map_err(|_| bad())?.checked_mul(1 << shift).ok_or_else(bad)?;
    if (1..=i64::MAX.unsigned_abs()).contains(&amount) { Ok(amount) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_in_cores_and_millicores() {
        assert_eq!(parse_cpu_millicores("500m"), Ok(500));
        assert_eq!(parse_cpu_millicores("2"), Ok(2000));
        assert_eq!(parse_cpu_millicores("0.25"), Ok(250));
        for bad in ["", "0", "m", "-1", "1.2345", "1e3", "9999999999999"] {
            assert!(parse_cpu_millicores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_read_in_powers_of_1024() {
        assert_eq!(parse_bytes("256M"), Ok(256 << 20));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("77"), Ok(77));
        for bad in ["", "0", "M", "-1", "1.5G", "99999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_stricter_of_two_limits_is_the_lesser_of_each() {
        let old = Resources { cpu_millicores: Some(500), memory_bytes: Some(100), ..Resources::default() };
        let new = Resources {
            cpu_millicores: Some(800),
            memory_bytes: Some(50),
            storage_bytes: Some(7),
            ..Resources::default()
        };
        let expected = Resources { cpu_millicores: Some(500), ..new };
        assert_eq!(old.stricter(&new), expected);
        assert_eq!(new.stricter(&old), expected);
    }

    #[test]
    fn classes_are_ordered_strongest_first() {
        assert!(Class::Guaranteed < Class::Burstable && Class::Burstable < Class::BestEffort);
    }
}
