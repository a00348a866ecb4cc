//! Programs that quorum rules may name, checked.

use std::collections::BTreeMap;

use quotary_common::quorum::roster::{Word, is_word};

use super::Faults;
use super::raw::RawCommand;

/// Most commands.
const COMMANDS_MAX: usize = 16;
/// Most arguments of one, its program included.
const ARGUMENTS_MAX: usize = 32;

pub(super) fn check(raw: &[RawCommand], faults: &mut Faults) -> BTreeMap<Word, Vec<String>> {
    if raw.len() > COMMANDS_MAX {
        faults.add(format!("command: there are {}, at most {COMMANDS_MAX} are kept", raw.len()));
    }
    let mut commands = BTreeMap::new();
    for command in raw.iter().take(COMMANDS_MAX) {
        let name = Word::new(&command.name).filter(|name| is_word(name.as_str()));
        let Some(name) = name else {
            faults.add(format!(
                "command `{}`: its name must be small letters, digits, `.`, `_`, `-` and `@`",
                command.name
            ));
            continue;
        };
        if !command.argv.first().is_some_and(|program| program.starts_with('/')) {
            faults.add(format!("command `{name}`: argv must begin with the absolute path of a program"));
        }
        if command.argv.len() > ARGUMENTS_MAX {
            faults.add(format!("command `{name}`: at most {ARGUMENTS_MAX} arguments"));
        }
        if commands.insert(name.clone(), command.argv.clone()).is_some() {
            faults.add(format!("command `{name}` stands there twice"));
        }
    }
    commands
}
