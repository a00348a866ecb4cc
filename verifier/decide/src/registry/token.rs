//! Tokens as they are kept: by the hash of their secret, with what they allow and until when.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{HostId, TokenId};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::Resources;
use quotary_common::wire::Right;

/// A token's record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TokenRecord {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// Hash of its secret.
    #[n(1)]
    pub id: TokenId,
    /// When it was made, Unix ms.
    #[n(2)]
    pub made_at_ms: u64,
    /// Until when it holds, Unix ms.
    #[n(3)]
    pub not_after_ms: u64,
    /// What it allows.
    #[n(4)]
    pub scope: TokenScope,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum TokenScope {
    /// One host may join.
    #[n(1)]
    Join {
        /// The best zone that it may enter.
        #[n(0)]
        zone_best: Name,
        /// Labels.
        #[n(1)]
        labels: Bounded<(Name, Name), 64>,
        /// Inventory.
        #[n(2)]
        capacity: Resources,
        /// The host that used it.
        #[n(3)]
        used_by: Option<HostId>,
    },
    /// A person may use routes.
    #[n(2)]
    Operator {
        /// For whom.
        #[n(0)]
        name: Name,
        /// Names of the rights ([`Right::name`]).
        #[n(1)]
        rights: Bounded<Name, 8>,
    },
}

/// Whether a join token admits `host` at `now_ms`; `host` is absent before its EK is known.
///
/// # Errors
/// `join-token`, without telling which of unknown, expired or used it is to who does not hold the secret.
pub fn check_join(record: Option<&TokenRecord>, host: Option<&HostId>, now_ms: u64) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::new(Reason::JoinToken, format!("{why}: make one with `quotary token join`")));
    match record {
        Some(record) if record.not_after_ms < now_ms => refuse("the join token has expired"),
        Some(TokenRecord { scope: TokenScope::Join { used_by: Some(used), .. }, .. })
            if host.is_some_and(|host| host != used) =>
        {
            refuse("the join token was used by another host")
        }
        Some(TokenRecord { scope: TokenScope::Join { .. }, .. }) => Ok(()),
        _ => refuse("the join token is not known"),
    }
}

/// Whether an operator token carries `right` at `now_ms`.
///
/// # Errors
/// `unauthorised` when it is unknown or expired, `forbidden` when it lacks the right.
pub fn check_operator(record: Option<&TokenRecord>, right: Right, now_ms: u64) -> Result<Name, Refusal> {
    let unknown =
        || Refusal::new(Reason::Unauthorised, "the operator token is unknown or expired: use `quotary login`");
    let record = record.filter(|record| record.not_after_ms >= now_ms).ok_or_else(unknown)?;
    let TokenScope::Operator { name, rights } = &record.scope else { return Err(unknown()) };
    if rights.iter().any(|held| held.as_str() == right.name()) {
        Ok(name.clone())
    } else {
        Err(Refusal::new(Reason::Forbidden, format!("the token of {name} lacks the right `{}`", right.name())))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn join(used_by: Option<HostId>) -> TokenRecord {
        TokenRecord {
            version: Version,
            id: TokenId::new([1; 32]),
            made_at_ms: 0,
            not_after_ms: 100,
            scope: TokenScope::Join {
                zone_best: Name::new("z").unwrap(),
                labels: Bounded::default(),
                capacity: Resources::default(),
                used_by,
            },
        }
    }

    fn operator() -> TokenRecord {
        let scope = TokenScope::Operator {
            name: Name::new("ann").unwrap(),
            rights: Bounded::new(vec![Name::new("read").unwrap()]).unwrap(),
        };
        TokenRecord { scope, ..join(None) }
    }

    #[test]
    fn a_join_token_admits_one_host_until_it_expires() {
        let (a, b) = (HostId::new([1; 32]), HostId::new([2; 32]));
        assert!(check_join(Some(&join(None)), Some(&a), 100).is_ok());
        assert!(check_join(Some(&join(Some(a))), Some(&a), 100).is_ok());
        for refused in [
            check_join(Some(&join(Some(a))), Some(&b), 100),
            check_join(Some(&join(None)), Some(&a), 101),
            check_join(None, None, 0),
            check_join(Some(&operator()), None, 0),
        ] {
            assert_eq!(refused.unwrap_err().reason, Reason::JoinToken);
        }
    }

    #[test]
    fn an_operator_token_carries_its_rights_and_no_others() {
        assert_eq!(check_operator(Some(&operator()), Right::Read, 100).unwrap().as_str(), "ann");
        let reason = |record: Option<&TokenRecord>, right, now| check_operator(record, right, now).unwrap_err().reason;
        assert_eq!(reason(Some(&operator()), Right::Admin, 100), Reason::Forbidden);
        assert_eq!(reason(Some(&operator()), Right::Read, 101), Reason::Unauthorised);
        assert_eq!(reason(Some(&join(None)), Right::Read, 0), Reason::Unauthorised);
        assert_eq!(reason(None, Right::Read, 0), Reason::Unauthorised);
    }
}
