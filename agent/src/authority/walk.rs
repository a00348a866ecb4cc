//! From what the root signed, link by link, to who decides now. Pure.

use quotary_common::id::DeploymentId;
use quotary_common::limits::LINKS_MAX;
use quotary_common::quorum::authority::Authority;
use quotary_common::sign::{PublicKey, Signed};
use quotary_common::wire::AuthorityReply;

use super::LearnError;

/// A way that is being walked, page by page.
#[derive(Debug, Clone)]
pub struct Walk {
    root: PublicKey,
    deployment: DeploymentId,
    at: Option<Authority>,
    links: usize,
    pages: usize,
}

impl Walk {
    /// From what is pinned, or from the beginning.
    pub fn from(pinned: Option<Authority>, root: PublicKey, deployment: DeploymentId) -> Self {
        Self { root, deployment, at: pinned, links: 0, pages: 0 }
    }

    /// Which page is asked for next: links from this number on; `None`: from the beginning.
    pub fn after(&self) -> Option<u64> {
        self.at.map(|at| at.number)
    }

    /// How far it came: every step up to there holds, whatever became of the next.
    pub fn at(&self) -> Option<Authority> {
        self.at
    }

    /// Takes a page that was asked for by [`Walk::after`]. Whether the end was reached.
    ///
    /// # Errors
    /// [`LearnError`] at the first step that does not hold.
    pub fn take(&mut self, reply: &AuthorityReply, now_ms: u64) -> Result<bool, LearnError> {
        let asked = self.after().unwrap_or(0);
        self.pages += 1;
        if reply.number > LINKS_MAX as u64 || self.pages > LINKS_MAX {
            return Err(LearnError::TooMany(reply.number));
        }
        let signed = Signed::from_bytes(&reply.genesis.0).map_err(LearnError::Form)?;
        let genesis = Authority::genesis(&signed, &self.root, &self.deployment).map_err(LearnError::Genesis)?;
        let mut at = match self.at {
            Some(at) if at.number > genesis.number => at,
            Some(at) if at.number == genesis.number && at != genesis => return Err(LearnError::Other(at.number)),
            // The root signs once more, above all that was, when the keys of those who decide are lost.
            _ => genesis,
        };
        let before = self.at.replace(at);
        if at.number == asked {
            for link in &reply.links {
                self.links += 1;
                if self.links > LINKS_MAX {
                    return Err(LearnError::TooMany(reply.number));
                }
                let after = at.number;
                at = at.advance(&link.0, now_ms).map_err(|source| LearnError::Link { after, source })?;
                self.at = Some(at);
            }
        }
        if at.number >= reply.number {
            return Ok(true);
        }
        if before == Some(at) {
            return Err(LearnError::Short { said: reply.number, shown: at.number });
        }
        Ok(false)
    }
}
