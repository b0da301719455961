"""Work that a widget begins and whose end it does not wait for; nothing of it is lost in silence."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from textual.widget import Widget
from textual.worker import Worker, WorkerState

from stepchain_tui.core.errors import StepChainError

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp


class Background(Widget):
    """Lets a screen or widget carry out coroutines beside its messages; mix it in before the Textual class."""

    @property
    def chain(self) -> StepChainApp:
        """The app, as what it is."""
        return cast("StepChainApp", self.app)

    def background(self, work: Coroutine[Any, Any, object], group: str = "", *, exclusive: bool = False) -> None:
        """Carry `work` out; what StepChain complains about is shown as a toast.

        Args:
            work: What to do.
            group: Names what kind of work it is.
            exclusive: Call off earlier work of the same group.
        """
        self.run_worker(
            self._guarded(work),
            name=group,
            group=group or "work",
            description=group,
            exclusive=exclusive,
            exit_on_error=False,
        )

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        self.chain.busy += 1
        try:
            await work
        except StepChainError as error:
            self.chain.complain(error)
        finally:
            self.chain.busy -= 1

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell of a bug of ours instead of hiding it."""
        if event.state is WorkerState.ERROR:
            event.stop()
            self.chain.report_bug(event.worker.error, event.worker.group)
