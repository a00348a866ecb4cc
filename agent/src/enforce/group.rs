//! Where our groups stand in the cgroup tree: paths that cannot lead elsewhere.

use std::fmt;

use quotary_common::envelope::CgroupPath;
use quotary_common::id::GrantId;

/// The parent of our groups where none is configured.
pub const DEFAULT_PARENT: &str = "/quotary";

/// A path in the cgroup tree, from the hierarchy's root: no empty part, no `.`, no `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPath(CgroupPath);

impl GroupPath {
    /// Reads `/a/b`; `None` when it is anything else, or the root itself.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.strip_prefix('/')?;
        let plain = parts.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if plain { CgroupPath::new(text).map(Self) } else { None }
    }

    /// The group of a grant below `self`: `run-` and the first 26 characters of the grant's base32 form.
    ///
    /// `None` when the path would be longer than an envelope can carry.
    pub fn of_grant(&self, grant: &GrantId) -> Option<Self> {
        let shown = grant.to_string();
        let short = shown.split_once('-').map_or(shown.as_str(), |(_, short)| short);
        Self::parse(&format!("{}/run-{short}", self.as_str()))
    }

    /// The group above; `None` when that is the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.as_str().rsplit_once('/')?;
        Self::parse(parent)
    }

    /// Its parts, outermost first.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('/').skip(1)
    }

    /// Relative to the hierarchy's root.
    pub fn relative(&self) -> &str {
        self.as_str().trim_start_matches('/')
    }

    /// As text, with its leading slash.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As envelopes carry it.
    pub fn as_cgroup(&self) -> &CgroupPath {
        &self.0
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_groups() {
        for good in ["/quotary", "/system.slice/quotary-agent.service/groups"] {
            assert_eq!(GroupPath::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "/", "quotary", "/a//b", "/a/", "/..", "/a/../b", "/./a", "/a\nb"] {
            assert_eq!(GroupPath::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_grant_has_a_group_of_its_own_below_the_parent() {
        let parent = GroupPath::parse(DEFAULT_PARENT).unwrap();
        let group = parent.of_grant(&GrantId::new([7; 32])).unwrap();
        assert_eq!(group.parent(), Some(parent.clone()));
        assert_eq!(group.parts().nth(1).unwrap().len(), 4 + 26);
        assert_ne!(parent.of_grant(&GrantId::new([8; 32])), Some(group));
        assert_eq!(parent.parent(), None);
    }
}
