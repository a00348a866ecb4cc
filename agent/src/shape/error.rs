//! What can go wrong between a plan and a running unit.

use std::path::PathBuf;

use quotary_common::plan::ShapedControl;

use super::hand::HandError;
use crate::enforce::KernelError;
use crate::state::StateError;

/// Shaping that could not be done as asked.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// systemd cannot be reached over the system bus.
    #[error("systemd cannot be reached over the system bus")]
    Bus(#[source] Box<zbus::Error>),
    /// A call before got no answer, and none is made for a while.
    #[error("systemd did not answer a moment ago, and is not asked for a while")]
    Silent,
    /// systemd did not do what it was asked.
    #[error("systemd did not {step} {unit}")]
    Systemd {
        /// What was asked.
        step: &'static str,
        /// Of which unit.
        unit: String,
        /// What it said.
        #[source]
        source: Box<zbus::Error>,
    },
    /// It is another name of a unit: protection, drop-ins and plans go by the unit's own.
    #[error("{alias} is another name of {unit}: name that one")]
    Alias {
        /// As it was asked for.
        alias: String,
        /// Its own name.
        unit: String,
    },
    /// This backend has no such control.
    #[error("{0} cannot be moved here")]
    Unsupported(ShapedControl),
    /// The host has it no more, though something of it is held.
    #[error("{control} cannot be moved here: {why}")]
    Missing {
        /// Which control.
        control: ShapedControl,
        /// Why, in a sentence.
        why: String,
    },
    /// What needs a capability was not done.
    #[error(transparent)]
    Hand(#[from] HandError),
    /// A file beside systemd's could not be read or put back.
    #[error("cannot {step} `{path}`")]
    File {
        /// What was tried.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no scope of a grant.
    #[error("{target} is no scope of a grant")]
    NoScope {
        /// What it is.
        target: String,
    },
    /// A scope stands where it was not put.
    #[error("{unit} stands at `{cgroup}`: somebody else has made it")]
    Elsewhere {
        /// The scope.
        unit: String,
        /// Where it stands.
        cgroup: String,
    },
    /// A process did not come to be in its scope.
    #[error("process {pid} did not come to be in {unit}")]
    NotEntered {
        /// The process.
        pid: u32,
        /// The scope.
        unit: String,
    },
    /// systemd has no property for what a grant asks for.
    #[error("systemd has no property for `{value}` in {control}")]
    NoProperty {
        /// The control.
        control: &'static str,
        /// The value.
        value: String,
    },
    /// Nobody here owns the cgroup of a grant.
    #[error("nobody on this host can hold {target}")]
    Nobody {
        /// What should be held.
        target: String,
    },
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The journal cannot be read or written: then nothing may be written to a control.
    #[error("the journal of shaping cannot be kept")]
    Journal(#[from] StateError),
}

impl ShapeError {
    /// Whether systemd was not reached, so that the same may be done a little later.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Bus(_) | Self::Silent => true,
            Self::Systemd { source, .. } => matches!(**source, zbus::Error::InputOutput(_)),
            _ => false,
        }
    }
}
