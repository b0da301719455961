"""For tests of your own: another class in place of an executor.

```python
from stepchain_tui.executors.function import BaseFunctionExecutor, FunctionExecutorFactory
from stepchain_tui.executors.testing import use_executor


class Fake(BaseFunctionExecutor):
    async def _execute_function(self, args, ctx, timeout):
        return "made up"


with use_executor(FunctionExecutorFactory, "standard", Fake):
    ...  # every function step, and every executor that the factory makes
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stepchain_tui.executors.registry import ExecutorFactory


@contextmanager
def use_executor(factory: type[ExecutorFactory], executor_type: str, executor_class: type[Any]) -> Iterator[type[Any]]:
    """Let a type stand for another class inside a `with` block, the fixed types `standard` and `default` too.

    Args:
        factory: The factory of the kind.
        executor_type: The name of the type; `standard` and `default` are one and are swapped together.
        executor_class: An executor of the kind.

    Raises:
        UsageError: There is no such type, or the class is no executor of the kind.
    """
    with factory.registry.swapped(executor_type, executor_class):
        yield executor_class
