"""The JSON schema of plan files."""

from pathlib import Path

from stepchain_tui.plan import Plan, Step, plan_schema, schema_text

DOCUMENT = Path(__file__).parents[2] / "docs" / "plan-schema.json"


def test_the_documented_schema_is_the_current_one():
    assert DOCUMENT.read_text() == schema_text(), "write schema_text() to docs/plan-schema.json"


def test_every_key_of_a_plan_and_of_a_step_is_in_the_schema():
    schema = plan_schema()
    assert set(schema["properties"]) == set(Plan.model_fields)
    assert set(schema["$defs"]["Step"]["properties"]) == set(Step.model_fields)
    assert "json" in schema["$defs"]["HttpRequest"]["properties"]
    assert schema["required"] == ["steps"]
    assert schema["additionalProperties"] is False


def test_the_schema_names_no_titles_that_only_repeat_keys():
    assert '"title": "StepChain plan"' in schema_text()
    assert schema_text().count('"title"') == 1
