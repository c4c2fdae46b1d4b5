//! Implements `completions` and `man`: generates shell completions and manual pages from the definitions of the
//! arguments.

use std::path::PathBuf;

use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic};
use crate::report::Outcome;
use crate::store::atomic;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell that will run the script
    shell: clap_complete::Shell,
}

/// Print the manual page, or write the pages of all commands into a folder.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The folder for the pages; without it, the main page is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(context: &Context, arguments: &Completions, mut command: clap::Command) -> Outcome {
    let mut bytes = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "corrigenda", &mut bytes);
    context.ui.raw(&bytes);
    Outcome::Ok
}

pub(super) fn man(context: &Context, arguments: &Man, command: clap::Command) -> Outcome {
    match pages(context, arguments, command) {
        Ok(page) => {
            context.ui.raw(&page);
            Outcome::Ok
        }
        Err(message) => context.fail(Diagnostic::new(Code::StoreFailed, message)),
    }
}

/// Returns the main manual page. If `arguments` names a folder, the pages of all commands are written to it instead,
/// and an empty page is returned.
fn pages(context: &Context, arguments: &Man, command: clap::Command) -> Result<Vec<u8>, String> {
    // The long version text names the instruction set of this machine, but a manual page must be the same on every
    // machine.
    let mut command = command.long_version(None);
    command.build();
    let Some(folder) = &arguments.folder else { return page(command) };
    context.may_write(folder)?;
    let verbs: Vec<clap::Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let page_of = |verb: clap::Command| {
        let name = verb.get_display_name().unwrap_or_else(|| verb.get_name()).to_owned();
        Ok((folder.join(format!("{name}.1")), page(verb)?))
    };
    let pages = std::iter::once(command).chain(verbs).map(page_of).collect::<Result<Vec<_>, String>>()?;
    pages.iter().try_for_each(|(path, _)| context.may_write(path))?;
    std::fs::create_dir_all(folder).map_err(|error| format!("creating `{}` failed: {error}", folder.display()))?;
    for (path, page) in pages {
        atomic::write(&path, &page).map_err(|error| error.to_string())?;
    }
    Ok(Vec::new())
}

fn page(command: clap::Command) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command).render(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
