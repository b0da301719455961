"""`docs/cli.md`, made from the commands themselves: `python -m stepchain_tui.cli.manual > docs/cli.md`."""

from __future__ import annotations

import sys

import click

from stepchain_tui.cli.commands import stepchain

_INTRODUCTION = """\
# The command line

This page is made from the commands themselves (`python -m stepchain_tui.cli.manual > docs/cli.md`), and a test holds
it to them.

Standard output is data, standard error is talk. `--json` prints JSON, and errors are then one line of JSON on
standard error: `{"error", "kind", "hint"}`. Run ids may be shortened to any prefix that only one run has.

| exit code | meaning |
| --- | --- |
| 0 | succeeded |
| 1 | a step failed |
| 2 | bad usage, plan or store; unknown run or step |
| 3 | stopped and can be resumed: paused, waiting for an answer, cancelled |
| 130 | interrupted by ctrl+c, SIGTERM or SIGHUP; the run can be resumed |

`stepchain logs RUN | head` and the like end quietly with 141 when nobody reads on.

## Shell completion

Add one line to the file that your shell reads at its start:

- bash, `~/.bashrc`: `eval "$(_STEPCHAIN_COMPLETE=bash_source stepchain)"`
- zsh, `~/.zshrc`: `eval "$(_STEPCHAIN_COMPLETE=zsh_source stepchain)"`
- fish, `~/.config/fish/completions/stepchain.fish`: `_STEPCHAIN_COMPLETE=fish_source stepchain | source`
"""


def manual() -> str:
    """Return the text of `docs/cli.md`."""
    root = click.Context(stepchain, info_name="stepchain", terminal_width=100, **stepchain.context_settings)
    parts = [_INTRODUCTION, _section("stepchain", stepchain, root)]
    for name in stepchain.list_commands(root):
        command = stepchain.get_command(root, name)
        if command is not None:
            context = click.Context(command, info_name=name, parent=root, max_content_width=100, terminal_width=100)
            parts.append(_section(f"stepchain {name}", command, context))
    parts.append("## Not available yet\n\n`--web` exits with 2 and says so.\n")
    return "\n".join(parts)


def _section(title: str, command: click.Command, context: click.Context) -> str:
    return f"## {title}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(manual())
