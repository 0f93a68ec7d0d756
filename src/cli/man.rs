//! `man`: the manual pages, generated from the commands' descriptions.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::command_line::Cli;
use super::render;

/// Writes a page for each command into a folder.
pub(super) fn write(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write the manual pages to {}", dir.display()))?;
    let page = dir.join("tidegate.1");
    render::print(&format!(
        "Wrote the manual pages to {}; read them with: man -l {}",
        dir.display(),
        page.display()
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("share/man1");
        write(&pages).unwrap();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let mut missing = Vec::new();
        let mut below = vec![("tidegate".to_owned(), command)];
        while let Some((name, command)) = below.pop() {
            let page = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap_or_default();
            if !page.contains(".SH SYNOPSIS") {
                missing.push(name.clone());
            }
            let more = command.get_subcommands().filter(|below| !below.is_hide_set());
            below.extend(more.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        }
        assert!(missing.is_empty(), "{missing:?}");
        let page = fs::read_to_string(pages.join("tidegate-grant-shorten.1")).unwrap();
        assert!(page.contains("the restore begins at noon"), "{page}");
        // A file is in the way.
        fs::write(dir.path().join("file"), "").unwrap();
        let error = format!("{:#}", write(&dir.path().join("file")).unwrap_err());
        assert!(error.contains("cannot create"), "{error}");
    }
}
