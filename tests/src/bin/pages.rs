//! `quotary-pages`: writes man pages and shell completions, made from the programs' own definitions, for packages.
//!
//!     quotary-pages OUT_DIR
//!
//! OUT_DIR/man has quotary.1, quotary-agent.8 and quotary-verifier.8, each with a page for every verb, and
//! quotary-agent.toml.5, quotary-verifier.toml.5, quotary-policy.5, quotary-roster.5 and quotary-quorum.5, which show the commented
//! samples; OUT_DIR/completions has bash, zsh and fish.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

/// The samples of configurations and of documents, as section 5 pages: name, title, text.
const CONFIGURATIONS: [(&str, &str, &str); 5] = [
    ("quotary-agent.toml", "configuration of the Quotary agent", include_str!("../../../systemd/agent.toml")),
    ("quotary-verifier.toml", "configuration of the Quotary verifier", include_str!("../../../systemd/verifier.toml")),
    ("quotary-policy", "policies of Quotary", include_str!("../../../samples/policy.toml")),
    ("quotary-roster", "people who decide about policies of Quotary", include_str!("../../../samples/roster.toml")),
    ("quotary-quorum", "quorum rules of Quotary", include_str!("../../../samples/quorum.toml")),
];

fn main() -> Result<()> {
    let out = std::env::args_os().nth(1).map(PathBuf::from).context("usage: quotary-pages OUT_DIR")?;
    let (man, completions) = (out.join("man"), out.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let programs = [
        ("1", quotary_cli::command()),
        ("8", quotary_agent::args::Arguments::command()),
        ("8", quotary_verifier::args::Arguments::command()),
    ];
    for (section, program) in programs {
        complete(&program, &completions)?;
        let mut program = program.disable_help_subcommand(true);
        // Gives each verb its whole name.
        program.build();
        pages(program, section, &man)?;
    }
    for (name, title, text) in CONFIGURATIONS {
        fs::write(man.join(format!("{name}.5")), configuration_page(name, title, text))?;
    }
    Ok(())
}

fn complete(program: &Command, out: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let file = clap_complete::generate_to(shell, &mut shown(program), program.get_name(), out)?;
        if shell == Shell::Bash {
            // The generator names the verbs of a program with a hyphen in two ways, and so finds none of them.
            let (wrong, right) = (program.get_name().replace('-', "__subcmd__"), program.get_name().replace('-', "__"));
            fs::write(&file, fs::read_to_string(&file)?.replace(&wrong, &right))?;
        }
    }
    Ok(())
}

/// The program without verbs that are not for people. (clap takes names that live for ever; this program lives for a second.)
fn shown(program: &Command) -> Command {
    let kept = |text: &str| -> &'static str { text.to_owned().leak() };
    let verbs = program.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let bare = Command::new(kept(program.get_name())).args(program.get_arguments().cloned()).subcommands(verbs);
    match program.get_version() {
        Some(version) => bare.version(kept(version)),
        None => bare,
    }
}

/// A page for the program and one for each of its verbs, `program-verb`.
fn pages(program: Command, section: &str, out: &Path) -> Result<()> {
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        pages(verb.clone(), section, out)?;
    }
    let name = program.get_display_name().unwrap_or(program.get_name()).to_owned();
    // Without a date and with the release's number the same tree gives the same pages.
    let version = format!("quotary {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(program).section(section).date("").source(version).manual("Quotary");
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    Ok(fs::write(out.join(format!("{name}.{section}")), bytes)?)
}

/// The commented sample as it is, set as an example.
fn configuration_page(name: &str, title: &str, text: &str) -> String {
    let mut page = format!(
        ".TH {name} 5 \"\" \"quotary {}\" \"Quotary\"\n.SH NAME\n{} \\- {title}\n.SH DESCRIPTION\nEvery option, \
         with what it means and its default, as in the file that is installed:\n.PP\n.nf\n",
        env!("CARGO_PKG_VERSION"),
        name.replace('-', "\\-"),
    );
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A dot or an apostrophe at the beginning would be a request.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        page.push_str(&format!("{guard}{line}\n"));
    }
    page.push_str(".fi\n");
    page
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// What bash offers for the words of a line, the last of which is begun.
    fn offered(dir: &Path, words: &[&str]) -> String {
        let name = words[0];
        let last = words.len() - 1;
        let script = format!(
            "source {}/{name}.bash; by=$(complete -p {name}); by=${{by##*-F }}; COMP_WORDS=({}); COMP_CWORD={last}; ${{by%% *}} {name} '{}' '{}'; echo \"${{COMPREPLY[*]}}\"",
            dir.display(),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words[last],
            words[last - 1],
        );
        let done = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn completions_know_the_options_of_each_verb_and_no_verb_that_is_not_for_people() {
        let temp = tempfile::tempdir().unwrap();
        for program in [
            quotary_cli::command(),
            quotary_agent::args::Arguments::command(),
            quotary_verifier::args::Arguments::command(),
        ] {
            complete(&program, temp.path()).unwrap();
        }
        let offers = |words: &[&str]| offered(temp.path(), words);
        assert!(offers(&["quotary-agent", "restore", "--"]).contains("--ended"));
        assert!(offers(&["quotary-verifier", "run", "--con"]).contains("--config"));
        assert!(offers(&["quotary", "plan", "draft", "--me"]).contains("--memory"));
        for name in ["quotary.bash", "_quotary", "quotary.fish"] {
            assert!(!fs::read_to_string(temp.path().join(name)).unwrap().contains("__enter"), "{name}");
        }
    }
}
