"""Plans in plans: which files are read, and that every mistake between them is named."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.plan import (
    Plan,
    Step,
    check_plan,
    content_hash,
    effective_timeout,
    find_problems,
    load_plan,
    load_subplans,
    parse_plan,
    require_valid,
    subplan_key,
    subplans_from_json,
    subplans_to_json,
)

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

LEAF = "steps:\n  - id: a\n    shell: x\n"


def write(folder, **files):
    """Write plan files; `sub__b` stands for `sub/b.yaml`."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def runs(*plans, more=""):
    """Return the text of a plan whose steps run these plans."""
    steps = "".join(f"  - id: s{place}\n    plan: {plan}\n{more}" for place, plan in enumerate(plans))
    return f"steps:\n{steps}"


def lines_of(folder, text, name="outer.yaml"):
    return [problem.text(name) for problem in find_problems(text, name, folder)]


def loaded(path):
    found = load_plan(path)
    return load_subplans(found.plan, found.folder, found.path)


def test_every_plan_that_is_reached_is_read_once_with_its_own_folder(tmp_path):
    write(
        tmp_path,
        outer=runs("./sub/mid.yaml", "sub/mid.yaml", "./leaf.yaml"),
        sub__mid=runs("../leaf.yaml", "./deep/leaf.yaml"),
        leaf=LEAF,
        sub__deep__leaf=LEAF,
    )
    found = loaded(tmp_path / "outer.yaml")
    assert sorted(found) == sorted(str(tmp_path / f"{name}.yaml") for name in ("sub/mid", "leaf", "sub/deep/leaf"))
    mid = found[str(tmp_path / "sub/mid.yaml")]
    assert mid.folder == tmp_path / "sub"
    assert mid.path == tmp_path / "sub/mid.yaml"
    assert mid.text == (tmp_path / "sub/mid.yaml").read_text()
    assert found[subplan_key(mid.plan.steps[0], mid.folder)].plan == parse_plan(LEAF, "", tmp_path).plan


def test_a_plan_without_plans_reaches_none(tmp_path):
    assert load_subplans(parse_plan(LEAF, "", tmp_path).plan, tmp_path, None) == {}


def test_what_a_run_keeps_are_the_exact_plans_also_when_their_files_are_gone(tmp_path):
    write(tmp_path, outer=runs("./b.yaml"), b="# why\ngoal: é\n" + LEAF.replace("shell: x", "shell: x\n    timeout: 5"))
    found = loaded(tmp_path / "outer.yaml")
    outer = load_plan(tmp_path / "outer.yaml").plan
    kept = json.loads(json.dumps(subplans_to_json(found)))
    os.unlink(tmp_path / "b.yaml")
    again = subplans_from_json(kept)
    assert again == found
    assert again[subplan_key(outer.steps[0], tmp_path)].plan.steps[0].timeout == 5
    assert set(kept[str(tmp_path / "b.yaml")]) == {"plan", "text", "folder"}


def test_a_key_is_made_of_words_alone(tmp_path):
    assert subplan_key(Step(id="a", plan="./x/../b.yaml"), tmp_path / "none") == str(tmp_path / "none/b.yaml")
    assert subplan_key(Step(id="a", plan="/b.yaml"), tmp_path) == "/b.yaml"
    for text in ("a\0b", "~nobody_has_this_name/b.yaml"):
        with pytest.raises(UsageError, match="is not a path"):
            subplan_key(Step(id="a", plan=text), tmp_path)
        assert "is not a path" in check_plan(Plan(steps=[Step(id="a", plan=text)]), tmp_path)[0].message


def test_mistakes_of_inner_plans_stand_at_the_step_that_names_them(tmp_path):
    write(
        tmp_path,
        b="steps:\n  - id: a\n    shel: x\n  - id: c\n    plan: ./c.yaml\n  - id: d\n    plan: ./nothing.yaml\n",
        c="steps:\n  - id: a\n    shell: '{{ steps.b.output }}'\n",
        both="- a",
    )
    assert lines_of(tmp_path, runs("./b.yaml", "./both.yaml", "./b.yaml")) == [
        "outer.yaml:3:11: steps[0].plan: in b.yaml:3:5: steps[0].shel: unknown key 'shel' (did you mean 'shell'?)",
        "outer.yaml:3:11: steps[0].plan: in b.yaml:7:11: steps[2].plan: there is no file './nothing.yaml'",
        "outer.yaml:3:11: steps[0].plan: in c.yaml:3:12: steps[0].shell: unknown step 'b'",
        "outer.yaml:5:11: steps[1].plan: in both.yaml:1:1: plan: a plan is a mapping with the key 'steps', not a list",
    ]


def test_files_that_cannot_be_read_are_mistakes_of_the_step(tmp_path):
    write(tmp_path, other=LEAF)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\0\xff")
    (tmp_path / "latin.yaml").write_bytes("goal: x\nname: caf\xe9".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe.yaml")
    text = runs("./othr.yaml", "./folder", "./binary.yaml", "./latin.yaml", "./pipe.yaml", "./other.yaml/x")
    found = lines_of(tmp_path, text)
    for line, what in zip(
        found,
        [
            "3:11: steps[0].plan: there is no file './othr.yaml' (did you mean 'other.yaml'?)",
            "5:11: steps[1].plan: './folder' is a folder, not a plan file",
            "7:11: steps[2].plan: in binary.yaml:1:1: plan: this is a binary file, not a plan",
            "9:11: steps[3].plan: in latin.yaml:2:10: plan: this is not UTF-8 text",
            "11:11: steps[4].plan: './pipe.yaml' is not a file",
            "13:11: steps[5].plan: cannot read './other.yaml/x'",
        ],
        strict=True,
    ):
        assert line.startswith(f"outer.yaml:{what}")


def test_files_are_looked_at_only_where_a_folder_is_given(tmp_path):
    plan = Plan(steps=[Step(id="a", plan="./none.yaml")])
    assert check_plan(plan, None) == []
    assert find_problems(runs("./none.yaml"), "outer.yaml", tmp_path, check_files=False) == []
    with pytest.raises(PlanError, match="there is no file"):
        require_valid(plan, tmp_path)
    with pytest.raises(PlanError, match="there is no file"):
        load_subplans(plan, tmp_path, None)


def test_a_plan_that_comes_back_to_itself_names_its_path(tmp_path):
    write(tmp_path, a=runs("./leaf.yaml", "./b.yaml"), b=runs("./sub/c.yaml"), sub__c=runs("../a.yaml"), leaf=LEAF)
    path = tmp_path / "a.yaml"
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    expected = "steps[1].plan: plans run each other without end: a.yaml -> b.yaml -> sub/c.yaml -> a.yaml"
    assert caught.value.problems == (f"{path}:5:11: {expected}",)
    plan = parse_plan(path.read_text(), "a.yaml", tmp_path, check_files=False).plan
    with pytest.raises(PlanError) as caught:
        load_subplans(plan, tmp_path, path)
    assert caught.value.problems == (expected,)


def test_a_plan_that_runs_itself_and_plans_that_run_each_other_further_in(tmp_path):
    write(tmp_path, b=runs("./c.yaml"), c=runs("./b.yaml"))
    assert lines_of(tmp_path, runs("./outer.yaml", "./b.yaml")) == [
        "outer.yaml:3:11: steps[0].plan: plans run each other without end: outer.yaml -> outer.yaml",
        "outer.yaml:5:11: steps[1].plan: plans run each other without end: b.yaml -> c.yaml -> b.yaml",
    ]


def test_a_cycle_through_links_of_the_file_system_is_found(tmp_path):
    write(tmp_path, b=runs("loop/b.yaml", "./loop/loop/b.yaml"))
    (tmp_path / "loop").symlink_to(".")
    found = lines_of(tmp_path, runs("./b.yaml"))
    assert found == ["outer.yaml:3:11: steps[0].plan: plans run each other without end: b.yaml -> b.yaml"]


def test_hundreds_of_plans_within_each_other_are_no_crash(tmp_path):
    count = 400
    write(tmp_path, **{f"p{n}": runs(f"./p{n + 1}.yaml") for n in range(count)}, **{f"p{count}": LEAF})
    assert len(loaded(tmp_path / "p0.yaml")) == count


def test_plans_that_double_again_and_again_are_refused(tmp_path):
    count = 20
    write(tmp_path, **{f"p{n}": runs(*[f"./p{n + 1}.yaml"] * 2) for n in range(count)}, **{f"p{count}": LEAF})
    found = lines_of(tmp_path, (tmp_path / "p0.yaml").read_text(), "p0.yaml")
    assert found == [
        "p0.yaml:3:11: steps[0].plan: this plan and the plans in it have 3,145,726 steps, more than 100,000"
    ]


INNER = """\
inputs:
  folder: {type: path}
  count: {type: integer, default: 3}
  size: {type: choice, choices: [small, large], default: small}
  token: {type: secret, default: null}
steps:
  - id: a
    shell: x
"""


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("{folder: data, count: 4, size: large}", []),
        ("{folder: '{{ inputs.x }}', count: '{{ inputs.x }}', token: '{{ inputs.x }}'}", []),
        ("{folder: data, count: '4'}", []),
        ("{foldr: data, folder: x}", ["4:12: steps[0].args.foldr: unknown argument 'foldr': it is no input of b.yaml"]),
        ("{count: 4}", ["4:11: steps[0].args: argument 'folder' is missing: an input of b.yaml"]),
        ("{folder: x, count: many}", ["4:30: steps[0].args.count: expected a number, got 'many'"]),
        ("{folder: x, size: big}", ["4:29: steps[0].args.size: expected one of small, large, got 'big'"]),
        ("{folder: [x]}", ["4:20: steps[0].args.folder: expected a path, got a list"]),
        ("{folder: '{{ inputs.y }}'}", ["4:20: steps[0].args.folder: unknown input 'y'"]),
    ],
)
def test_arguments_are_the_inputs_of_the_inner_plan(tmp_path, args, expected):
    write(tmp_path, b=INNER)
    found = lines_of(tmp_path, runs("./b.yaml", more=f"    args: {args}\n") + "inputs: {x: {}}\n")
    assert [line.removeprefix("outer.yaml:").partition(" (did you")[0] for line in found] == expected


def test_arguments_are_missing_where_there_are_none_and_unknown_where_there_are_no_inputs(tmp_path):
    write(tmp_path, b=INNER, leaf=LEAF)
    assert lines_of(tmp_path, runs("./b.yaml")) == [
        "outer.yaml:3:11: steps[0].plan: argument 'folder' is missing: an input of b.yaml"
    ]
    assert lines_of(tmp_path, runs("./leaf.yaml", more="    args: {x: 1}\n")) == [
        "outer.yaml:4:12: steps[0].args.x: unknown argument 'x': it is no input of leaf.yaml, which has no inputs"
    ]


def test_arguments_are_checked_in_inner_plans_and_in_json_too(tmp_path):
    write(tmp_path, mid=runs("./b.yaml", more="    args: {count: x}\n"), b=INNER)
    text = '{"steps": [\n\t{"id": "m", "plan": "./mid.yaml"}]}'
    where = "outer.json:2:22: steps[0].plan: in mid.yaml"
    assert lines_of(tmp_path, text, "outer.json") == [
        f"{where}:4:11: steps[0].args: argument 'folder' is missing: an input of b.yaml",
        f"{where}:4:19: steps[0].args.count: expected a number, got 'x'",
    ]


def test_the_file_of_a_plan_is_written_as_it_is(tmp_path):
    text = runs("'{{ inputs.which }}'") + "inputs: {which: {}}\n"
    for check_files in (True, False):
        (problem,) = find_problems(text, "outer.yaml", tmp_path, check_files)
        assert (
            problem.text()
            == ":3:11: steps[0].plan: the file of a plan is written as it is: expressions are not read here"
        )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("mode: process", "mode 'process' does not fit plan steps; they have none"),
        ("env: {A: b}", "'env' is for these steps:"),
        ("cwd: .", "'cwd' is for these steps:"),
        ("secrets: [A]", "'secrets' is for these steps:"),
        ("cache: true", "'cache' is for these steps:"),
        ("fallback: false", "'fallback' is for these steps:"),
        ("executor: standard", "'executor' is for these steps:"),
        ("retry: {max_attempts: 2}", "'retry' is not for plan: its own steps are tried again, each by its own rule"),
        ("limit: x", "'limit' is not for plan: its own steps take the slots, each by its own rule"),
        ("on_interrupt: ask", "'on_interrupt' is for these steps:"),
        ("batch: 3", "'batch' of a step needs 'for_each'"),
    ],
)
def test_keys_that_do_not_fit_a_plan_step(tmp_path, line, what):
    write(tmp_path, b=LEAF)
    found = lines_of(tmp_path, "limits: {x: 1}\n" + runs("./b.yaml", more=f"    {line}\n"))
    assert len(found) == 1
    assert found[0].partition(": ")[2].partition(": ")[2].startswith(what)


def test_keys_that_fit_a_plan_step(tmp_path):
    write(tmp_path, b=INNER)
    more = """\
    for_each: [[a, b], [c]]
    args: {folder: "{{ item | first }}"}
    batch: 2
    max_concurrent: 2
    timeout: 60
    breakpoint: after
    when: "{{ true }}"
    on_failure: continue
    cache: false
"""
    assert lines_of(tmp_path, runs("./b.yaml", more=more)) == []


def test_a_plan_step_may_take_as_long_as_it_takes_unless_it_says_otherwise(tmp_path):
    defaults = Plan(steps=[]).defaults
    assert effective_timeout(Step(id="a", plan="b.yaml"), defaults) is None
    assert effective_timeout(Step(id="a", plan="b.yaml", timeout=9), defaults) == 9


def test_changing_the_file_of_an_inner_plan_changes_its_step(tmp_path):
    step = Step(id="a", plan="./b.yaml")
    before = content_hash(step, tmp_path)
    write(tmp_path, b=LEAF)
    written = content_hash(step, tmp_path)
    write(tmp_path, b=LEAF + "    timeout: 5\n")
    assert len({before, written, content_hash(step, tmp_path)}) == 3
    assert content_hash(step, tmp_path) != content_hash(Step(id="a", plan="./b.yaml", args={"x": 1}), tmp_path)


@calm
@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=6, max_size=6))
def test_a_graph_of_files_has_a_cycle_or_is_loaded_whole(tmp_path, rows):
    write(tmp_path, **{f"p{n}": runs(*[f"./p{to}.yaml" for to in row]) if row else LEAF for n, row in enumerate(rows)})
    reached, waiting = set(), list(rows[0])
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting += rows[place]

    def returns(place, trail=()):
        return place in trail or any(returns(to, (*trail, place)) for to in rows[place])

    if returns(0):
        with pytest.raises(PlanError, match="run each other without end"):
            loaded(tmp_path / "p0.yaml")
    else:
        assert set(loaded(tmp_path / "p0.yaml")) == {str(tmp_path / f"p{place}.yaml") for place in reached}
