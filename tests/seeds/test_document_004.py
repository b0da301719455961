"""Document 004: its examples as printed but for the import path, and what its text promises.

What an example leaves out is given to it: `data` and the classes that it forgets to import. `ToolSpec(tool_name=...,
...)` stands without its dots, which are no Python.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors import db, function, http
from stepchain_tui.executors.db import BaseDbExecutor, DbExecutorFactory, DynamoDBExecutor, IDbExecutor
from stepchain_tui.executors.function import (
    BaseFunctionExecutor,
    FunctionExecutorFactory,
    FunctionToolExecutor,
    IFunctionExecutor,
)
from stepchain_tui.executors.http import BaseHttpExecutor, HttpExecutorFactory, HttpToolExecutor, IHttpExecutor
from stepchain_tui.tools import StepContext

FACTORIES = (DbExecutorFactory, FunctionExecutorFactory, HttpExecutorFactory)
SPEC = function.ToolSpec(tool_name="example")


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for factory in FACTORIES:
        for name in tuple(factory.registry._added):
            factory.unregister(name)


async def carry_out(example: str, **given: Any) -> dict[str, Any]:
    """Run an example, which may await, and return its names."""
    names = dict(given)
    code = compile(example, "document 004", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running
    return names


# --- 1. databases


async def test_the_database_example_runs() -> None:
    names = await carry_out(
        """
from stepchain_tui.executors.db import DbExecutorFactory

# Using factory
executor = DbExecutorFactory.get_executor(spec)
result = await executor.execute(args, ctx)

# Custom executor
class MongoDBExecutor(BaseDbExecutor):
    async def _execute_db_operation(self, args, ctx, timeout):
        # Your MongoDB logic
        return {'status': 'success', 'data': data}

DbExecutorFactory.register('mongodb', MongoDBExecutor)
""",
        spec=db.ToolSpec(tool_name="orders", driver="sqlite", base_url="sqlite://"),
        args={"sql": "select 1 as one"},
        ctx=None,
        BaseDbExecutor=BaseDbExecutor,
        data=[{"name": "x"}],
    )
    assert names["result"]["rows"] == [{"one": 1}]
    await names["executor"].close()
    own = DbExecutorFactory.get_executor(db.ToolSpec(tool_name="orders", driver="mongodb", base_url="mongodb://here"))
    assert type(own) is names["MongoDBExecutor"]
    found = await own.execute({}, None)
    assert [{"name": "x"}] in (found.get("data"), found.get("rows"))


def test_an_unknown_driver_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="postgresql"):
        DbExecutorFactory.get_executor(db.ToolSpec(tool_name="orders", driver="oracle"))


def test_the_drivers_of_the_document_give_its_classes() -> None:
    assert isinstance(DbExecutorFactory.get_executor(db.ToolSpec(tool_name="x", driver="dynamodb")), DynamoDBExecutor)


# --- 2. functions


async def test_the_function_example_runs() -> None:
    calls: list[Any] = []

    async def my_function(args: dict[str, Any], ctx: Any) -> int:
        calls.append(args)
        return len(calls)

    names = await carry_out(
        """
from stepchain_tui.executors.function import FunctionExecutorFactory

# Using factory
executor = FunctionExecutorFactory.create_executor(spec, my_function)
result = await executor.execute(args, ctx)

# Custom executor
class CachedFunctionExecutor(BaseFunctionExecutor):
    def __init__(self, spec, func):
        super().__init__(spec, func)
        self.cache = {}

    async def _execute_function(self, args, ctx, timeout):
        cache_key = str(args)
        if cache_key in self.cache:
            return self.cache[cache_key]
        result = await asyncio.wait_for(self.func(args, ctx), timeout=timeout)
        self.cache[cache_key] = result
        return result

FunctionExecutorFactory.register('cached', CachedFunctionExecutor)
""",
        spec=SPEC,
        my_function=my_function,
        args={"x": 1},
        ctx=None,
        BaseFunctionExecutor=BaseFunctionExecutor,
        asyncio=asyncio,
    )
    assert type(names["executor"]) is FunctionToolExecutor
    assert names["result"] == 1
    for func in (my_function, lambda args, ctx: calls.append(args) or len(calls)):
        calls.clear()
        executor = FunctionExecutorFactory.create_executor(SPEC, func, executor_type="cached")
        assert type(executor) is names["CachedFunctionExecutor"]
        assert [await executor.execute({"x": 1}) for _ in range(2)] == [1, 1]
        assert calls == [{"x": 1}]
    FunctionExecutorFactory.unregister("cached")
    assert FunctionExecutorFactory.get_executor_class("cached") is function.CachedFunctionExecutor


# --- 3. http


async def test_the_http_example_runs() -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(await request.json() if request.can_read_body else None)
        return web.json_response({"data": {"hero": "R2-D2"}})

    app = web.Application()
    app.router.add_route("*", "/graphql", answer)
    async with TestServer(app) as server:
        address = str(server.make_url("/graphql"))
        names = await carry_out(
            """
from stepchain_tui.executors.http import HttpExecutorFactory

# Using factory
executor = HttpExecutorFactory.create_executor(spec)
result = await executor.execute(args, ctx)

# Custom executor (GraphQL example)
class GraphQLExecutor(BaseHttpExecutor):
    async def _execute_http_request(self, args, ctx, timeout):
        query = args.get('query')
        variables = args.get('variables', {})

        session = await self._get_session()
        async with session.post(
            self.spec.base_url,
            json={'query': query, 'variables': variables},
            timeout=aiohttp.ClientTimeout(total=timeout)
        ) as response:
            data = await response.json()
            return {'status': response.status, 'data': data}

HttpExecutorFactory.register('graphql', GraphQLExecutor)
""",
            spec=http.ToolSpec(tool_name="hero", base_url=address),
            args={"method": "GET", "url": address},
            ctx=None,
            BaseHttpExecutor=BaseHttpExecutor,
            aiohttp=aiohttp,
        )
        assert type(names["executor"]) is HttpToolExecutor
        assert (names["result"]["status"], names["result"]["body"]) == (200, {"data": {"hero": "R2-D2"}})
        await names["executor"].close()
        own = HttpExecutorFactory.create_executor(
            http.ToolSpec(tool_name="hero", base_url=address), executor_type="graphql"
        )
        assert type(own) is names["GraphQLExecutor"]
        assert await own.execute({"query": "{ hero }"}) == {"status": 200, "data": {"data": {"hero": "R2-D2"}}}
        assert seen[-1] == {"query": "{ hero }", "variables": {}}
        await own.close()


# --- factory methods


@pytest.mark.parametrize("factory", FACTORIES)
async def test_the_common_factory_api_runs_on_every_factory(factory: Any) -> None:
    standard = factory.get_executor_class("standard")
    names = await carry_out(
        """
# List registered executor types
types = Factory.list_executor_types()
# Returns: ['standard', 'default', 'custom1', 'custom2']

# Get executor class
executor_class = Factory.get_executor_class('standard')

# Register custom executor
Factory.register('custom_name', CustomExecutorClass)

listed = Factory.list_executor_types()
custom = Factory.get_executor_class('custom_name')

# Unregister (except built-in types)
Factory.unregister('custom_name')
""",
        Factory=factory,
        CustomExecutorClass=(custom := type("Custom", (standard,), {})),
    )
    assert names["types"][:2] == ["standard", "default"]
    assert names["executor_class"] is standard
    assert names["listed"] == [*names["types"], "custom_name"]
    assert names["custom"] is custom
    assert factory.list_executor_types() == names["types"]
    for name in ("standard", "default"):
        with pytest.raises(UsageError, match="built in"):
            factory.unregister(name)


async def test_factory_specific_creation_runs() -> None:
    async def func(args: dict[str, Any], ctx: Any) -> None: ...

    names = await carry_out(
        """
# Database
a = DbExecutorFactory.get_executor(db_spec)

# Function
b = FunctionExecutorFactory.create_executor(spec, func, executor_type='standard')

# HTTP
c = HttpExecutorFactory.create_executor(spec, executor_type='standard')
""",
        DbExecutorFactory=DbExecutorFactory,
        FunctionExecutorFactory=FunctionExecutorFactory,
        HttpExecutorFactory=HttpExecutorFactory,
        db_spec=db.ToolSpec(tool_name="x", base_url="sqlite://"),
        spec=SPEC,
        func=func,
    )
    assert isinstance(names["a"], IDbExecutor)
    assert isinstance(names["b"], IFunctionExecutor)
    assert isinstance(names["c"], IHttpExecutor)


# --- extending


async def test_the_three_steps_of_extending_run_and_execute_takes_a_hook_that_yields() -> None:
    async def my_streaming_function(args: dict[str, Any], ctx: Any) -> Any:
        for chunk in ("one ", "two ", "three"):
            yield chunk

    seen: list[str] = []
    names = await carry_out(
        '''
from stepchain_tui.executors.function import BaseFunctionExecutor
import asyncio

class StreamingFunctionExecutor(BaseFunctionExecutor):
    """Executor that supports streaming responses."""

    async def _execute_function(self, args, ctx, timeout):
        """Execute with streaming support."""
        # Your streaming logic
        async for chunk in self.func(args, ctx):
            yield chunk

from stepchain_tui.executors.function import FunctionExecutorFactory

FunctionExecutorFactory.register('streaming', StreamingFunctionExecutor)

# Create executor with your custom type
executor = FunctionExecutorFactory.create_executor(
    spec,
    my_streaming_function,
    executor_type='streaming'
)

# Execute
result = await executor.execute(args, ctx)
''',
        spec=SPEC,
        my_streaming_function=my_streaming_function,
        args={},
        ctx=StepContext(write=seen.append),
    )
    assert type(names["executor"]) is names["StreamingFunctionExecutor"]
    assert names["result"] == "one two three"
    assert seen == ["one ", "two ", "three"]


async def test_both_ways_of_the_migration_guide_work() -> None:
    async def func(args: dict[str, Any], ctx: Any) -> Any:
        return args["x"]

    names = await carry_out(
        """
executor = FunctionToolExecutor(spec, func)
before = await executor.execute({'x': 1}, ctx)
executor = FunctionExecutorFactory.create_executor(spec, func)
after = await executor.execute({'x': 1}, ctx)
""",
        FunctionToolExecutor=FunctionToolExecutor,
        FunctionExecutorFactory=FunctionExecutorFactory,
        spec=SPEC,
        func=func,
        ctx=None,
    )
    assert (names["before"], names["after"]) == (1, 1)


COMPLETE_EXAMPLE = '''
# 1. Define your executor
from stepchain_tui.executors.function import BaseFunctionExecutor
import asyncio

class CachedFunctionExecutor(BaseFunctionExecutor):
    """Function executor with built-in caching."""

    def __init__(self, spec, func):
        super().__init__(spec, func)
        self.cache = {}
        self.cache_ttl = 300  # 5 minutes

    async def _execute_function(self, args, ctx, timeout):
        # Generate cache key
        cache_key = self._generate_cache_key(args)

        # Check cache
        if cache_key in self.cache:
            cached_data, timestamp = self.cache[cache_key]
            if time.time() - timestamp < self.cache_ttl:
                return cached_data

        # Execute function
        result = await asyncio.wait_for(
            self.func(args, ctx),
            timeout=timeout
        )

        # Store in cache
        self.cache[cache_key] = (result, time.time())

        return result

    def _generate_cache_key(self, args):
        return str(sorted(args.items()))

# 2. Register it
from stepchain_tui.executors.function import FunctionExecutorFactory

FunctionExecutorFactory.register('cached', CachedFunctionExecutor)
'''
ITS_USE = """
# 3. Use it
spec = ToolSpec(tool_name="expensive_operation")

async def expensive_operation(args, ctx):
    # Expensive computation
    await asyncio.sleep(5)
    return {'result': args['x'] * 2}

# Create cached executor
executor = FunctionExecutorFactory.create_executor(
    spec,
    expensive_operation,
    executor_type='cached'
)

# First call - executes function (slow)
result1 = await executor.execute({'x': 10}, ctx)  # Takes 5 seconds

# Second call - returns from cache (fast)
result2 = await executor.execute({'x': 10}, ctx)  # Instant!
"""


@pytest.mark.parametrize("defined", [COMPLETE_EXAMPLE, "import asyncio\n"], ids=["the example's class", "ours"])
async def test_the_complete_example_runs_the_function_once(defined: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    names = await carry_out(
        defined + ITS_USE,
        ToolSpec=function.ToolSpec,
        FunctionExecutorFactory=FunctionExecutorFactory,
        ctx=None,
        time=time,
    )
    assert names["result1"] == names["result2"] == {"result": 20}
    assert slept == [5]
    await names["executor"].execute({"x": 11})
    assert slept == [5, 5]
    ours = function.CachedFunctionExecutor
    assert type(names["executor"]) is names.get("CachedFunctionExecutor", ours)


# --- what the text promises


def test_every_package_has_its_interface_base_factory_and_implementations() -> None:
    promised = {
        db: "IDbExecutor BaseDbExecutor DbExecutorFactory DynamoDBExecutor",
        function: "IFunctionExecutor BaseFunctionExecutor FunctionExecutorFactory FunctionToolExecutor",
        http: "IHttpExecutor BaseHttpExecutor HttpExecutorFactory HttpToolExecutor",
    }
    for package, names in promised.items():
        assert set(names.split()) | {"ToolSpec"} <= set(package.__all__)
        interface, base, _, implementation = (getattr(package, name) for name in names.split())
        assert issubclass(implementation, base)
        assert issubclass(base, interface)


def test_streaming_and_batching_are_built_in() -> None:
    known = FunctionExecutorFactory.list_executor_types()
    assert known == ["standard", "default", "cached", "streaming", "batching"]
    assert "graphql" in HttpExecutorFactory.list_executor_types()


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_default_type_is_standard(factory: Any) -> None:
    assert inspect.signature(factory.create_executor).parameters["executor_type"].default == "standard"
