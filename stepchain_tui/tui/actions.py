"""What a person can do, once: bindings, palette, footer, the `?` menu and docs/keys.md are all made from `ACTIONS`.

An action is carried out by a method `do_<name>` of the screen it belongs to, or of the app. Whether it fits now is
decided in `fitting`, with the reason why not, so that a key that does nothing says why.
Users remap actions by their id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

if TYPE_CHECKING:
    from stepchain_tui.tui.fitting import Situation


class Scope(StrEnum):
    """Where an action can be carried out."""

    APP = "everywhere"
    HOME = "home"
    RUN = "run"
    GRAPH = "graph"
    TEXT = "text"
    HISTORY = "history"
    EDITOR = "editor"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a person can do.

    Attributes:
        id: What users remap it by.
        keys: Its keys, separated by commas.
        label: A word or two for the footer.
        description: A sentence for menus and docs.
        needs: The function of `fitting` that gives the reason why it does not fit now; empty: it always does.
        footer: Its place in the footer, 0 for none.
        seldom: Whether the footer names it only where it fits.
        own: The Textual action of a widget that carries it out itself, or empty.
        shown: How the keys are written where `keys` are not for people.
    """

    id: str
    keys: str
    label: str
    description: str
    scope: Scope
    needs: str = ""
    footer: int = 0
    own: str = ""
    priority: bool = False
    seldom: bool = False

    @property
    def method(self) -> str:
        """The method that carries it out."""
        return "do_" + self.id.replace(".", "_")

    def why_not(self, now: Situation) -> str | None:
        """Return the reason why the action does not fit now, or None."""
        if not self.needs:
            return None
        from stepchain_tui.tui import fitting  # what it knows of runs is not needed for the first screen

        reason: str | None = getattr(fitting, self.needs)(now)
        return reason

    def binding(self) -> Binding:
        """Return the action as a Textual binding."""
        action = self.own or f"app.do('{self.id}')"
        return Binding(self.keys, action, self.label, show=False, id=self.id, priority=self.priority)


# --- what there is

_RUN_ACTIONS = (
    Action("run.start", "s", "start", "Start the plan; after the end, start it anew", Scope.RUN, "can_start", 10),
    Action("run.pause", "p", "pause", "Pause the run, or go on with it", Scope.RUN, "can_pause", 20),
    Action(
        "run.pause_now",
        "P",
        "pause now",
        "Pause, and send running steps back at no cost",
        Scope.RUN,
        "is_live",
    ),
    Action(
        "step.answer",
        "a",
        "answer",
        "Answer the question in sight; at a breakpoint edit a value",
        Scope.RUN,
        "can_answer",
        25,
    ),
    Action("step.rerun", "r", "rerun", "Run the selected step again, at once", Scope.RUN, "can_rerun", 30),
    Action(
        "step.rerun_from",
        "R",
        "rerun from here",
        "Run the selected step and all that follows again",
        Scope.RUN,
        "can_rerun",
        40,
    ),
    Action(
        "step.rerun_failed",
        "I",
        "failed items",
        "Run only the failed items of the selected step again",
        Scope.RUN,
        "can_rerun_failed",
    ),
    Action("step.try_now", "t", "try now", "Do not wait for the time of the next try", Scope.RUN, "can_try_now", 35),
    Action("step.cancel", "x", "cancel step", "Stop the selected step", Scope.RUN, "can_cancel_step", 90),
    Action("run.cancel", "X", "cancel run", "Stop the whole run", Scope.RUN, "can_cancel_run"),
    Action(
        "step.breakpoint",
        "b",
        "breakpoint",
        "Stop before the selected step, then after it, then no longer",
        Scope.RUN,
        "can_break",
    ),
    Action("step.go_on", "c", "go on", "Let the step go on from its breakpoint", Scope.RUN, "can_go_on", 26),
    Action("step.skip", "S", "skip", "Leave the selected step out", Scope.RUN, "can_skip"),
    Action("step.mark", "m", "mark done", "Take the selected step as succeeded, by hand", Scope.RUN, "can_mark"),
    Action("step.pin", "asterisk", "pin", "Keep the step's output over reruns, or no longer", Scope.RUN, "can_pin"),
    Action("run.fork", "F", "fork", "Begin a new run from the selected step", Scope.RUN, "has_run"),
    Action(
        "run.replay", "Y", "replay", "Run it once more from its recording; nothing is called", Scope.RUN, "can_replay"
    ),
    Action("step.why", "w", "why", "Say why the selected step is as it is", Scope.RUN, "has_run", 65),
    Action(
        "step.repair",
        "d",
        "repair",
        "Propose a repair of the selected step, which failed",
        Scope.RUN,
        "can_repair",
        45,
        seldom=True,
    ),
    Action("run.revisions", "v", "revisions", "Show the revisions of the run's plan", Scope.RUN, "has_run"),
    Action("run.slots", "U", "slots", "Show who holds a slot, and change limits", Scope.RUN, "has_run"),
    Action("plan.inputs", "i", "inputs", "Change the inputs before the plan is started", Scope.RUN, "has_inputs"),
    Action("plan.edit", "e", "edit", "Edit the plan: of a run as a revision, else its file", Scope.RUN, "can_edit", 50),
    Action("plan.edit_outside", "E", "$EDITOR", "Edit the plan in $EDITOR", Scope.RUN, "can_edit"),
    Action("pane.pager", "o", "pager", "Show the step's output in $PAGER", Scope.RUN, "has_text"),
    Action(
        "pane.table", "T", "table/JSON", "Show rows as a table, or as JSON", Scope.RUN, "has_table", 75, seldom=True
    ),
    Action("tab.previous", "left_square_bracket", "tab left", "Show the tab to the left", Scope.RUN),
    Action("tab.next", "right_square_bracket", "tab right", "Show the tab to the right", Scope.RUN),
    Action("pane.graph", "1", "plan", "Go to pane 1, the plan's graph", Scope.RUN),
    Action("pane.step", "2", "step", "Go to pane 2, the selected step", Scope.RUN),
    Action("pane.timeline", "3", "timeline", "Go to pane 3, the timeline", Scope.RUN),
    Action("pane.maximise", "z", "maximise", "Give all the room to the pane in focus, or take it back", Scope.RUN),
    Action("find.open", "slash", "find", "Find text in the pane in focus", Scope.RUN, "has_text", 70),
    Action("find.next", "n", "next", "Go to the next place", Scope.RUN, "has_text"),
    Action("find.previous", "N", "previous", "Go to the previous place", Scope.RUN, "has_text"),
    Action("run.follow", "f", "follow", "Follow the work, and the end of the log", Scope.RUN, footer=60),
    Action("pane.copy", "y", "copy", "Copy the text of the pane in sight", Scope.RUN, "has_text"),
    Action("split.left", "less_than_sign", "narrower", "Make the graph narrower", Scope.RUN),
    Action("split.right", "greater_than_sign", "wider", "Make the graph wider", Scope.RUN),
    Action("split.down", "plus", "step taller", "Make the step pane taller", Scope.RUN),
    Action("split.up", "minus", "step shorter", "Make the step pane shorter", Scope.RUN),
)
_OTHER_ACTIONS = (
    Action("graph.up", "up,k", "parent", "Go to a step this one waits for", Scope.GRAPH, own="move('up')"),
    Action("graph.down", "down,j", "child", "Go to a step that waits for this one", Scope.GRAPH, own="move('down')"),
    Action("graph.left", "left,h", "left", "Go to the step beside", Scope.GRAPH, own="move('left')"),
    Action("graph.right", "right,l", "right", "Go to the step beside", Scope.GRAPH, own="move('right')"),
    Action("graph.open", "enter", "open", "Go to the step's pane", Scope.GRAPH, own="open"),
    Action("graph.fold", "space", "fold", "Fold or unfold steps that are alike", Scope.GRAPH, own="fold"),
    Action("text.up", "up,k", "up", "Go up a line", Scope.TEXT, own="scroll_up"),
    Action("text.down", "down,j", "down", "Go down a line", Scope.TEXT, own="scroll_down"),
    Action("text.left", "left,h", "left", "Go to the left", Scope.TEXT, own="scroll_left"),
    Action("text.right", "right,l", "right", "Go to the right", Scope.TEXT, own="scroll_right"),
    Action("text.page_up", "pageup,ctrl+u", "page up", "Go up a page", Scope.TEXT, own="page_up"),
    Action("text.page_down", "pagedown,ctrl+d", "page down", "Go down a page", Scope.TEXT, own="page_down"),
    Action("text.top", "home,g", "top", "Go to the first line", Scope.TEXT, own="scroll_home"),
    Action("text.bottom", "end,G", "bottom", "Go to the last line", Scope.TEXT, own="scroll_end"),
    Action("home.open", "enter", "open", "Open the plan or run", Scope.HOME, footer=10, own="open"),
    Action("home.new", "n", "new plan", "Write a new plan", Scope.HOME, footer=20),
    Action("home.edit", "e", "edit", "Edit the plan", Scope.HOME, footer=30),
    Action("home.pane_plans", "1", "plans", "Go to the plans", Scope.HOME),
    Action("home.pane_runs", "2", "runs", "Go to the recent runs", Scope.HOME),
    Action("history.open", "enter", "open", "Open the run as it was", Scope.HISTORY, footer=10, own="open"),
    Action("history.find", "slash", "filter", "Filter by id, goal and plan", Scope.HISTORY, footer=20),
    Action("history.status", "f", "status", "Show only runs of one status, then of the next", Scope.HISTORY, footer=30),
    Action("history.mark", "space", "mark", "Mark the run, to compare another with it", Scope.HISTORY),
    Action("history.compare", "c", "compare", "Compare the marked run with this one", Scope.HISTORY),
    Action(
        "history.replay", "r", "replay", "Run the run once more from its recording; nothing is called", Scope.HISTORY
    ),
    Action("history.tree", "t", "tree", "Show forks below the runs they were made from", Scope.HISTORY),
    Action("history.copy", "y", "copy id", "Copy the run's id", Scope.HISTORY),
    Action("tools.find", "slash", "filter", "Filter tools, servers and breakers", Scope.TOOLS, footer=10),
    Action(
        "tools.refresh", "r", "refresh", "Connect to the servers and ask for their tools anew", Scope.TOOLS, footer=20
    ),
    Action("tools.restart", "R", "restart", "Restart the selected MCP server", Scope.TOOLS, footer=30),
    Action(
        "tools.stderr", "o", "stderr", "Show what the selected server wrote to stderr in $PAGER", Scope.TOOLS, footer=40
    ),
    Action("tools.reset", "b", "reset", "Close the selected circuit breaker", Scope.TOOLS, footer=50),
    Action("tools.copy", "y", "copy", "Copy what is told of the selected row", Scope.TOOLS),
    Action("tools.pane_tools", "1", "tools", "Go to the tools", Scope.TOOLS),
    Action("tools.pane_servers", "2", "servers", "Go to the MCP servers", Scope.TOOLS),
    Action("tools.pane_breakers", "3", "breakers", "Go to the circuit breakers", Scope.TOOLS),
    Action("tools.pane_pools", "4", "pools", "Go to the pools of workers", Scope.TOOLS),
    Action("tools.pane_details", "5", "details", "Go to what is told of the selected row", Scope.TOOLS),
    Action("editor.save", "ctrl+s", "save", "Save the file", Scope.EDITOR, footer=10, priority=True),
    Action("editor.run", "ctrl+r", "run", "Save the file and open its plan", Scope.EDITOR, footer=20, priority=True),
    Action("editor.outside", "f4", "$EDITOR", "Go on in $EDITOR", Scope.EDITOR, footer=30, priority=True),
    Action("editor.back", "escape", "back", "Go back to the text, or close the editor", Scope.EDITOR, priority=True),
    Action("editor.receipt", "f6", "receipt", "Show what the edit would do to the run", Scope.EDITOR, priority=True),
    Action(
        "editor.step",
        "f7",
        "form",
        "Fill in the form of the step at the cursor",
        Scope.EDITOR,
        footer=35,
        priority=True,
    ),
    Action("editor.problems", "f8", "problems", "Go to the list of problems", Scope.EDITOR, footer=40, priority=True),
)
_APP_ACTIONS = (
    Action("app.keys", "question_mark,f1", "keys", "Show all keys; enter runs one", Scope.APP, footer=95),
    Action("app.executors", "f2", "executor types", "Show what `executor:` may name for each kind of step", Scope.APP),
    Action("app.home", "H", "home", "Go to the plans and recent runs", Scope.APP),
    Action("app.history", "L", "history", "Go to the list of all runs", Scope.APP, footer=92),
    Action("app.tools", "M", "tools", "Go to the tools, MCP servers, breakers and pools", Scope.APP, footer=93),
    Action(
        "app.goal",
        "ctrl+g",
        "plan a goal",
        "Ask a model for a plan that reaches a goal, to edit before it runs",
        Scope.APP,
    ),
    Action("app.back", "escape", "back", "Leave what was opened last: a search, a maximised pane, a screen", Scope.APP),
    Action("app.palette", "ctrl+p", "menu", "Open the menu of all commands", Scope.APP, footer=99, priority=True),
    Action("app.theme", "ctrl+t", "theme", "Choose a theme, with a preview", Scope.APP, priority=True),
    Action("app.quit", "ctrl+q", "quit", "Quit; asks what becomes of live runs", Scope.APP, priority=True),
)
ACTIONS: Mapping[str, Action] = {action.id: action for action in (*_RUN_ACTIONS, *_OTHER_ACTIONS, *_APP_ACTIONS)}
"""Every action by its id."""


def bindings(*scopes: Scope) -> list[BindingType]:
    """Return the bindings of a screen, a widget or the app."""
    return [action.binding() for action in in_scopes(scopes)]


def in_scopes(scopes: Sequence[Scope]) -> list[Action]:
    """Return the actions of these scopes in order."""
    return [action for scope in scopes for action in ACTIONS.values() if action.scope is scope]


def footer_actions(scopes: Sequence[Scope]) -> list[Action]:
    """Return the actions that the footer of a screen shows, in its order."""
    return sorted((action for action in in_scopes(scopes) if action.footer), key=lambda action: action.footer)


_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "plus": "+",
    "minus": "-",
    "asterisk": "*",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
}


def key_text(keys: str, *, first: bool = False) -> str:
    """Return keys as they are written for people; with `first` only the first of them."""
    names = [_NAMES.get(key.strip(), key.strip()) for key in keys.split(",")]
    return names[0] if first else " ".join(names)


def keys_of(action: Action, keymap: Mapping[str, str]) -> str:
    """Return the keys of an action, the user's before ours."""
    return keymap.get(action.id, action.keys)


def unknown_ids(keymap: Mapping[str, str]) -> list[str]:
    """Return the ids in a user's keymap that no action has."""
    return [name for name in keymap if name not in ACTIONS]


_TOGETHER = (Scope.HOME, Scope.RUN, Scope.HISTORY, Scope.EDITOR, Scope.TOOLS)
"""Scopes that share the screen with those of the whole app."""


def clashes(keymap: Mapping[str, str]) -> list[str]:
    """Return a line for each key that a user's keymap gives to two actions of one screen."""
    found: dict[str, None] = {}
    for scope in _TOGETHER if keymap else ():
        holders: dict[str, str] = {}
        for action in in_scopes([scope, Scope.APP]):
            for key in keys_of(action, keymap).split(","):
                other = holders.setdefault(key.strip(), action.id)
                if other != action.id:
                    found[f"{key_text(key)}: {other} and {action.id}"] = None
    return list(found)


def keys_document() -> str:
    """Return docs/keys.md."""
    lines = [
        "# Keys",
        "",
        "Made from `stepchain_tui/tui/actions.py`; a test keeps it so. To remap an action, name its id in the table",
        "`[keymap]` of your settings file, its keys separated by commas:",
        "",
        "```toml",
        "[keymap]",
        '"step.rerun" = "ctrl+r"',
        "```",
        "",
        "Single letters do nothing while a text field has the focus. An action that does not fit says why.",
        "",
    ]
    for scope in Scope:
        lines += [f"## {scope.value.capitalize()}", "", "| keys | what | id |", "|---|---|---|"]
        for action in in_scopes([scope]):
            keys = " ".join(f"`{key_text(key)}`" for key in action.keys.split(","))
            lines.append(f"| {keys} | {action.description} | `{action.id}` |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(keys_document(), end="")  # noqa: T201 - made for docs/keys.md
