"""Work that a widget begins and whose end it does not wait for; nothing of it is lost in silence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, cast

from textual.worker import Worker, WorkerState

from stepchain_tui.core.errors import StepChainError

if TYPE_CHECKING:
    from textual.widget import Widget

    from stepchain_tui.tui.app import StepChainApp

    Mixin = Widget
else:
    Mixin = object  # a second widget class among the bases would hide the styles of the first

P = ParamSpec("P")


class Background(Mixin):
    """Lets a screen or widget carry out coroutines beside its messages; mix it in before the Textual class."""

    @property
    def chain(self) -> StepChainApp:
        """The app, as what it is."""
        return cast("StepChainApp", self.app)

    def background(self, name: str, do: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Carry `do` out; what StepChain complains about is shown as a toast. `name` says what kind of work it is."""
        self._begin(name, partial(do, *args, **kwargs), exclusive=False)

    def only_latest(self, name: str, do: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Carry `do` out, and call off earlier work of that name on this widget."""
        self._begin(name, partial(do, *args, **kwargs), exclusive=True)

    def _begin(self, name: str, work: Callable[[], Awaitable[object]], *, exclusive: bool) -> None:
        # The coroutine is made when the worker begins: one that is called off before leaves nothing behind.
        guarded: Callable[[], Coroutine[None, None, None]] = partial(self._guarded, work)
        self.run_worker(
            guarded,  # type: ignore[arg-type]  # mypy takes the union of Textual's WorkType for one without an answer
            name=name,
            group=name,
            description=name,
            exclusive=exclusive,
            exit_on_error=False,
        )

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        self.chain.busy += 1
        try:
            await work()
        except StepChainError as error:
            self.chain.complain(error)
        finally:
            self.chain.busy -= 1

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell of a bug of ours instead of hiding it."""
        if event.state is WorkerState.ERROR:
            event.stop()
            self.chain.report_bug(event.worker.error, event.worker.group)
