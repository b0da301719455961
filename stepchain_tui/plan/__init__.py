"""What to do: plans and steps as validated data, their files, graph, expressions, inputs and hashes.

Imports `core` only; jinja2 and ruamel.yaml are loaded when they are first needed.
"""

from stepchain_tui.plan.check import check_plan, require_valid
from stepchain_tui.plan.difference import KeyChange, PlanDifference, compare_plans, text_difference
from stepchain_tui.plan.editing import add_step, edit_text, remove_step, remove_step_key, set_step_key
from stepchain_tui.plan.expressions import (
    CHAIN_RESULT,
    ExpressionError,
    MissingValueError,
    Template,
    as_text,
    compile_condition,
    compile_template,
    substitute_chain_result,
)
from stepchain_tui.plan.functions import FunctionLocation, function_location, module_file
from stepchain_tui.plan.graph import PlanGraph, find_cycle, step_references
from stepchain_tui.plan.hashing import FileHashes, content_hash, content_hashes
from stepchain_tui.plan.input_values import coerce_input
from stepchain_tui.plan.inputs import resolve_inputs, secret_inputs
from stepchain_tui.plan.kinds import (
    ActionKind,
    BreakpointPlace,
    InputType,
    Mode,
    OnFailure,
    OnInterrupt,
    OnTimeout,
    PythonEngine,
    TriggerRule,
)
from stepchain_tui.plan.loading import LoadedPlan, find_problems, load_plan, parse_plan
from stepchain_tui.plan.models import (
    ACTION_KEYS,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_TIMEOUT,
    MODES,
    AgentSpec,
    Budget,
    DatabaseRequest,
    Defaults,
    HttpRequest,
    InputSpec,
    McpServerSpec,
    ModelSpec,
    Plan,
    RetrySettings,
    Step,
    effective_mode,
    effective_timeout,
    function_reference,
    plan_from_json,
    plan_to_json,
)
from stepchain_tui.plan.problems import Problem
from stepchain_tui.plan.reading import read_plan_text
from stepchain_tui.plan.saving import PlanFileChangedError, save_plan_text, text_hash
from stepchain_tui.plan.schema import plan_schema, schema_text
from stepchain_tui.plan.subplans import SubPlan, load_subplans, subplan_key, subplans_from_json, subplans_to_json
from stepchain_tui.plan.templates import EXPRESSION_KEYS, compile_key, step_templates

__all__ = (
    "ACTION_KEYS",
    "CHAIN_RESULT",
    "DEFAULT_MAX_CONCURRENT",
    "DEFAULT_TIMEOUT",
    "EXPRESSION_KEYS",
    "MODES",
    "ActionKind",
    "AgentSpec",
    "BreakpointPlace",
    "Budget",
    "DatabaseRequest",
    "Defaults",
    "ExpressionError",
    "FileHashes",
    "FunctionLocation",
    "HttpRequest",
    "InputSpec",
    "InputType",
    "KeyChange",
    "LoadedPlan",
    "McpServerSpec",
    "MissingValueError",
    "Mode",
    "ModelSpec",
    "OnFailure",
    "OnInterrupt",
    "OnTimeout",
    "Plan",
    "PlanDifference",
    "PlanFileChangedError",
    "PlanGraph",
    "Problem",
    "PythonEngine",
    "RetrySettings",
    "Step",
    "SubPlan",
    "Template",
    "TriggerRule",
    "add_step",
    "as_text",
    "check_plan",
    "coerce_input",
    "compare_plans",
    "compile_condition",
    "compile_key",
    "compile_template",
    "content_hash",
    "content_hashes",
    "edit_text",
    "effective_mode",
    "effective_timeout",
    "find_cycle",
    "find_problems",
    "function_location",
    "function_reference",
    "load_plan",
    "load_subplans",
    "module_file",
    "parse_plan",
    "plan_from_json",
    "plan_schema",
    "plan_to_json",
    "read_plan_text",
    "remove_step",
    "remove_step_key",
    "require_valid",
    "resolve_inputs",
    "save_plan_text",
    "schema_text",
    "secret_inputs",
    "set_step_key",
    "step_references",
    "step_templates",
    "subplan_key",
    "subplans_from_json",
    "subplans_to_json",
    "substitute_chain_result",
    "text_difference",
    "text_hash",
)
