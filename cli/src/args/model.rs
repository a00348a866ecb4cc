//! `quotary model …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `quotary model …`
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// The models that forecast and are tried, how good their forecasts were, and what stands between a trial and a promotion
    List,
    /// Load a model as the verifier would, offline: digest, form, shapes, a trial run; and what its manifest says of it
    Verify(ModelFiles),
    /// Try a model beside the one that forecasts, on the same series; nothing else changes
    Shadow(ModelFiles),
    /// End the trial of a model
    Withdraw,
    /// Let the model that is tried forecast, if it is proven better
    #[command(after_help = "\
Example:
  quotary model promote 3f0c12

Needs a token with `admin`. A model takes over after a trial of seven days, or of 500 hours of each resource, in which its loss was at most 0.99 of \
the champion's with all of the 95 % interval below 1 (paired block bootstrap), its 95 % line covered 93 to 97 %, and at 5 % of \
overruns it left no more unused. There is no way around it. If its lines no longer hold for a day (95 % line outside of 90 to 99 %), the model \
before forecasts again by itself.")]
    Promote {
        /// SHA-256 of its ONNX file, or a beginning of it
        sha256: String,
    },
    /// Let the model forecast again that did before
    Rollback {
        /// Why, as it will stand in the audit log
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

/// A model's two files.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  quotary model shadow site-1.manifest.json site-1.onnx

`models/train.sh` makes both files, also from a site's own history (`quotary history export`). The manifest pins the ONNX file by its digest and \
says what it takes and gives; what does not fit is refused.")]
pub struct ModelFiles {
    /// The manifest (JSON)
    #[arg(value_name = "MANIFEST.json")]
    pub manifest: PathBuf,
    /// The model (ONNX)
    #[arg(value_name = "MODEL.onnx")]
    pub onnx: PathBuf,
}
