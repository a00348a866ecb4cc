//! Other users of this machine.

use anyhow::{Context as _, Result, anyhow};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Does `work` as user and group `uid`, without further groups, on a thread that is this user for good: what it
/// connects to is told so by the kernel. Only root may become somebody else.
///
/// # Errors
/// When the kernel refuses, or `work` panics.
pub fn as_uid<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> Result<T> {
    let become_and_work = || {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        rustix::io::Result::Ok(work())
    };
    std::thread::scope(|scope| {
        let worked = scope.spawn(become_and_work).join().map_err(|_| anyhow!("what uid {uid} did panicked"))?;
        worked.with_context(|| format!("cannot become uid {uid}"))
    })
}
