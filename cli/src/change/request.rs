//! What is asked for: a document, when it is to be in force, and what is applied with it.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use quotary_common::id::Digest;
use quotary_common::limits::INPUTS_MAX;
use quotary_common::wire::{ChangeInput, ChangeRequest, ChangeSubject};
use ring::digest::{Context, SHA256};

use crate::args::{AskedArgs, DocumentKind};
use crate::exit::{Code, Failure};
use crate::input::unreadable;
use crate::policy::document;

/// The request that the arguments ask for; the document has no fault.
pub(super) fn request(args: &AskedArgs, now_ms: u64) -> Result<ChangeRequest, Failure> {
    let subject = match (&args.file, &args.revoke) {
        (_, Some(name)) => ChangeSubject::Revoke(name.clone()),
        (Some(file), None) => {
            let (document, text) = document::read(file, args.kind)?;
            match document.kind() {
                DocumentKind::Policy => ChangeSubject::Policy(text),
                DocumentKind::Roster => ChangeSubject::Roster(text),
                DocumentKind::Rules => ChangeSubject::Rules(text),
            }
        }
        (None, None) => return Err(Failure::new(Code::Usage, "give a document, or --revoke NAME")),
    };
    let way = args.break_glass.then_some("break-glass");
    if args.inputs.len() > INPUTS_MAX {
        return Err(Failure::new(Code::Usage, format!("{} inputs, at most {INPUTS_MAX} are taken", args.inputs.len())));
    }
    let inputs: Result<Vec<ChangeInput>, Failure> = args.inputs.iter().map(|path| input(path)).collect();
    let effective_at_ms = match (args.effective, args.after) {
        (Some(instant), _) => Some(instant.at_ms(now_ms)),
        (None, after_ms) => after_ms.map(|after_ms| now_ms.saturating_add(after_ms)),
    };
    Ok(ChangeRequest { subject, way: way.map(str::to_owned), lasts_ms: args.lasts, effective_at_ms, inputs: inputs? })
}

/// The request that holds the change of this id where it is.
pub(super) fn freeze(id: &str, lasts_ms: Option<u64>) -> ChangeRequest {
    let subject = ChangeSubject::Freeze(id.to_owned());
    ChangeRequest { subject, way: None, lasts_ms, effective_at_ms: None, inputs: Vec::new() }
}

/// A file by its digest and its own name; it may be large, and is not sent.
fn input(path: &Path) -> Result<ChangeInput, Failure> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Failure::new(Code::Usage, format!("{}: an input is a file with a name in UTF-8", path.display())));
    };
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut reader = BufReader::new(file);
    let (mut context, mut part) = (Context::new(&SHA256), vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut part).map_err(|error| unreadable(path, &error))? {
            0 => break,
            length => context.update(part.get(..length).unwrap_or_default()),
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok(ChangeInput { sha256: Digest::new(sha256), name: name.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{ChangeCommand, Cli, Command};
    use crate::policy::document::tests::{POLICY, RULES};

    fn asked(line: &[&str]) -> Result<ChangeRequest, Failure> {
        let words = ["quotary", "change", "propose"].iter().chain(line);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Change(ChangeCommand::Propose(args)) => request(&args.asked, 1_000),
            _ => unreachable!("it is a proposal"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_document_goes_as_it_is_with_its_time() {
        let policy = file(POLICY);
        let path = policy.path().to_str().unwrap();
        let request = asked(&[path, "--in", "10m"]).unwrap();
        assert_eq!(request.subject, ChangeSubject::Policy(POLICY.to_owned()));
        assert_eq!((request.effective_at_ms, request.way, request.lasts_ms), (Some(601_000), None, None));
        assert_eq!(asked(&[path, "--effective", "now+1s"]).unwrap().effective_at_ms, Some(2_000));
        assert_eq!(asked(&[path, "--effective", "1970-01-01T00:01:00Z"]).unwrap().effective_at_ms, Some(60_000));
        let emergency = asked(&[path, "--break-glass", "--for", "1h"]).unwrap();
        assert_eq!(
            (emergency.way.as_deref(), emergency.lasts_ms, emergency.effective_at_ms),
            (Some("break-glass"), Some(3_600_000), None)
        );
        let rules = file(RULES);
        let request = asked(&[rules.path().to_str().unwrap()]).unwrap();
        assert_eq!(request.subject, ChangeSubject::Rules(RULES.to_owned()));
        assert_eq!(asked(&["--revoke", "gold"]).unwrap().subject, ChangeSubject::Revoke("gold".to_owned()));
    }

    #[test]
    fn a_document_with_faults_is_not_proposed() {
        let broken = file(&POLICY.replace("'high'", "'huge'"));
        let refused = asked(&[broken.path().to_str().unwrap()]).unwrap_err();
        assert!(refused.code() == 2 && refused.message().contains(":3: criticality: "), "{}", refused.message());
    }

    #[test]
    fn an_input_is_named_by_its_digest_and_not_sent() {
        let (policy, plan) = (file(POLICY), file("a saved plan"));
        let request = asked(&[policy.path().to_str().unwrap(), "--input", plan.path().to_str().unwrap()]).unwrap();
        let name = plan.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(request.inputs, [ChangeInput { sha256: Digest::of(&[b"a saved plan"]), name }]);
        assert_eq!(asked(&[policy.path().to_str().unwrap(), "--input", "/nonexistent/plan"]).unwrap_err().code(), 2);
    }
}
