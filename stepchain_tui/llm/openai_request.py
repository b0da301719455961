"""What is sent to the Responses API for one question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.llm.choice import ModelChoice
from stepchain_tui.llm.openai_errors import build
from stepchain_tui.llm.profiles import fault_of
from stepchain_tui.llm.types import Item, ModelRequest
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.strict_schema import NotStrictError, strict_schema

OWN_TOOLS = ("function", "custom")
"""Types of tools that we carry out; all others are the provider's."""
ANSWER_NAME = "answer"
"""What the format of an answer is called where nobody named it."""
ENCRYPTED_REASONING = "reasoning.encrypted_content"
_INCLUDES = {
    "file_search": "file_search_call.results",
    "web_search": "web_search_call.action.sources",
    "code_interpreter": "code_interpreter_call.outputs",
}
_REASONS = re.compile(r"(o\d|gpt-[5-9]|codex)(?!.*-chat)")
"""OpenAI's models that reason; the others refuse to be asked for encrypted reasoning."""


def keeps_answers(request: ModelRequest, choice: ModelChoice) -> bool:
    """Return whether the provider is asked to keep the answer: as the options, the request or else the profile say."""
    for options in (request.options, choice.options):
        if isinstance(options.get("store"), bool):
            return bool(options["store"])
    return choice.profile.stateful if request.store is None else request.store


def body_of(request: ModelRequest, choice: ModelChoice, *, whole: bool = False) -> dict[str, Any]:
    """Return the body of the request.

    Args:
        request: What is asked.
        choice: Who is asked.
        whole: Send the whole conversation, also where the provider should have the beginning of it.

    Raises:
        AttemptError: user_error for a hosted tool at an address that has none.
    """
    check_tools(request.tools, choice)
    store = keeps_answers(request, choice)
    chained = bool(store and request.previous_response_id and not whole)
    body: dict[str, Any] = {
        **choice.options,
        **request.parameters(),
        "model": request.model or choice.name,
        "input": [dict(item) for item in _items(request, choice, chained=chained, store=store)],
        "stream": True,
        "store": store,
    }
    if chained:
        body["previous_response_id"] = request.previous_response_id
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    if request.expects is not None:
        written = body.get("text")
        body["text"] = {**(written if isinstance(written, Mapping) else {}), "format": answer_format(request.expects)}
    if includes := _includes(body, choice, store=store):
        written = body.get("include")
        body["include"] = list(dict.fromkeys([*(written if isinstance(written, list | tuple) else ()), *includes]))
    return body


def check_tools(tools: Iterable[Mapping[str, Any]], choice: ModelChoice) -> None:
    """Refuse tools that nobody at the address would carry out.

    Raises:
        AttemptError: user_error that names the tool and the address.
    """
    if choice.profile.hosted_tools:
        return
    for tool in tools:
        if (kind := str(tool.get("type", ""))) not in OWN_TOOLS:
            raise build(
                f"{choice.name}: the tool '{kind}' is carried out by the model's provider, and {choice.address} "
                "is not known to do so",
                None,
                choice,
                error_type=ErrorType.USER_ERROR,
                hint=f"Leave '{kind}' out of `tools`, or, where the server has it, write `hosted_tools: true` on the "
                "model under `models`.",
                details={"model": choice.name, "tool": kind},
            )


def check_place(choice: ModelChoice) -> None:
    """Refuse an address that cannot be asked, and a key that cannot be sent.

    Raises:
        AttemptError: user_error that names where the address or the key is written, and shows neither.
    """
    if fault := fault_of(choice.base_url):
        raise bad_address(choice, fault)
    if not (choice.api_key.isascii() and choice.api_key.isprintable()):
        raise build(
            f"{choice.name}: the key in {choice.key_variable} has a character that no key has: a line break, or one "
            "that is not ASCII",
            None,
            choice,
            error_type=ErrorType.USER_ERROR,
            hint=f"Set {choice.key_variable} once more, to the key alone.",
            details={"model": choice.name},
        )


def bad_address(choice: ModelChoice, fault: str) -> AttemptError:
    """Return the failure for an address that cannot be asked; its fault goes on from its name."""
    return build(
        f"{choice.name}: {choice.address_from} {fault}",
        None,
        choice,
        error_type=ErrorType.USER_ERROR,
        hint=f"Write an address such as http://127.0.0.1:11434/v1 as {choice.address_from}.",
        details={"model": choice.name},
    )


def answer_format(expects: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the API is told what an answer has to fit.

    Args:
        expects: A JSON schema, or the API's format with a schema in it, which is taken as it is.
    """
    if expects.get("type") == "json_schema" and "schema" in expects:
        return dict(expects)
    schema = dict(expects)
    named = {"type": "json_schema", "name": ANSWER_NAME}
    try:
        # What an answer may leave out would have to be null in strict form, which its own schema may refuse.
        if set(schema.get("properties", ())) == set(schema.get("required", ())):
            return {**named, "schema": strict_schema(schema), "strict": True}
    except NotStrictError:
        pass  # the model is told the schema as it is, and held to it by whoever checks the answer
    return {**named, "schema": schema, "strict": False}


def _items(request: ModelRequest, choice: ModelChoice, *, chained: bool, store: bool) -> Iterable[Item]:
    if chained:
        return request.items[request.new_from :]
    if not choice.profile.encrypted_reasoning or store:
        return request.items
    # Reasoning without its text is only a name for what the provider has not kept.
    return [item for item in request.items if item.get("type") != "reasoning" or item.get("encrypted_content")]


def _includes(body: Mapping[str, Any], choice: ModelChoice, *, store: bool) -> list[str]:
    found = []
    if choice.profile.encrypted_reasoning and not store and _REASONS.match(str(body["model"])):
        found.append(ENCRYPTED_REASONING)
    kinds = [str(tool.get("type", "")) for tool in body.get("tools", ())]
    found.extend(include for kind, include in _INCLUDES.items() if kind in kinds)
    return found
