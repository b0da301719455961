"""Plan files: what is read, and that every mistake is named at its place."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan import Plan, Step, check_plan, find_problems, load_plan, parse_plan, plan_to_json, require_valid

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HERE = Path(__file__).parent

GOOD = """\
# A report on a folder.
goal: Report on a folder of CSV files
inputs:
  folder: {type: path, default: data}
max_concurrent: 5
limits: {disk: 2}
defaults: {timeout: 60, retry: {max_attempts: 3}}
secrets: [API_TOKEN]
steps:
  - id: list
    shell: "ls {{ inputs.folder | quote }}"
    secrets: [API_TOKEN]
    limit: disk
  - id: parse
    function: "json:loads"
    args: {s: "{{ steps.list.output.stdout | lines }}"}
    mode: process
    retry: {max_attempts: 5, initial_delay: 1.0, max_delay: 60, exponential_base: 2, jitter: true}
    timeout: 30
  - id: each
    for_each: "{{ steps.parse.output.files }}"
    python: "sum(values)"
    args: {values: "{{ item.values }}"}
    max_concurrent: 3
  - id: ask
    approve: "Go on with {{ steps.each.output | length }} files?"
    fields: {why: {type: choice, choices: [speed, cost]}}
    timeout: 3600
    on_timeout: deny
  - id: brief
    prompt: "Summarise {{ steps.each.output }}"
    when: "{{ steps.each.output | length > 0 }}"
    model: scripted
    replies: [done]
    dependencies: [ask]
"""


def lines_of(text, folder=HERE):
    return [problem.text("p.yaml") for problem in find_problems(text, "p.yaml", folder)]


def step_lines(*lines):
    """Return what is wrong with a plan whose first step has these further lines; they begin at line 3."""
    return lines_of("steps:\n  - id: a\n" + "".join(f"    {line}\n" for line in lines))


def test_the_plan_of_the_design_is_read():
    loaded = parse_plan(GOOD, "plan.yaml", HERE)
    assert [step.kind for step in loaded.plan.steps] == ["shell", "function", "python", "approve", "prompt"]
    assert loaded.text == GOOD
    assert loaded.plan.defaults.retry.max_attempts == 3
    assert check_plan(loaded.plan, HERE) == []


def test_json_and_yaml_of_one_plan_are_the_same_plan():
    plan = parse_plan(GOOD, "plan.yaml", HERE).plan
    text = plan_to_json(plan).decode()
    assert parse_plan(text, "plan.json", HERE).plan == plan
    assert parse_plan(json.dumps(json.loads(text), indent="\t"), "plan.json", HERE).plan == plan


def test_mistakes_in_json_have_places_too_also_behind_tabs():
    text = '{\n\t"steps": [\n\t\t{"id": "a", "shell": "x", "dependencies": ["b"]}\n\t]\n}'
    assert lines_of(text) == ["p.yaml:3:46: steps[0].dependencies[0]: unknown step 'b'"]
    assert lines_of('{"steps": [{"id": "a", "id": "b", "shell": "x"}]}') == [
        "p.yaml:1:24: steps[0].id: key 'id' is there twice"
    ]


def test_all_mistakes_are_reported_at_once_each_at_its_place():
    text = """\
goal: x
max_concurent: 3
limits: {api: 2}
inputs:
  folder: {type: path}
steps:
  - id: fetch
    shell: "ls {{ inputs.foldr }}"
    timout: 3
  - id: a
    shell: x
    dependencies: [fetch, fetc]
    limit: apii
  - id: fetch
    shell: x
    shell: y
  - prompt: x
  - id: self
    shell: "{{ steps.self.output }}"
"""
    assert lines_of(text) == [
        "p.yaml:2:1: max_concurent: unknown key 'max_concurent' (did you mean 'max_concurrent'?)",
        "p.yaml:8:12: steps[0].shell: unknown input 'foldr' (did you mean 'folder'?)",
        "p.yaml:9:5: steps[0].timout: unknown key 'timout' (did you mean 'timeout'?)",
        "p.yaml:12:27: steps[1].dependencies[1]: unknown step 'fetc' (did you mean 'fetch'?)",
        "p.yaml:13:12: steps[1].limit: unknown limit 'apii' (did you mean 'api'?)",
        "p.yaml:14:9: steps[2].id: id 'fetch' is already taken by steps[0]",
        "p.yaml:16:5: steps[2].shell: key 'shell' is there twice",
        "p.yaml:17:5: steps[3]: key 'id' is missing",
        "p.yaml:19:12: steps[4].shell: step 'self' cannot wait for itself",
    ]


def test_the_example_of_the_design_reads_exactly_so():
    first = "goal: x\nsteps:\n  - id: fetch\n    shell: x\n  - id: b\n    shell: x\n"
    text = first + "  - id: c\n    dependencies: [fetc]\n    shell: y\n"
    assert lines_of(text) == ["p.yaml:8:20: steps[2].dependencies[0]: unknown step 'fetc' (did you mean 'fetch'?)"]


def test_a_cycle_names_its_path_also_through_references():
    text = """\
steps:
  - id: a
    shell: x
    dependencies: [c]
  - {id: b, shell: "{{ steps.a.output }}"}
  - {id: c, shell: x, dependencies: [b]}
  - {id: d, shell: x, dependencies: [e]}
  - {id: e, shell: x, dependencies: [d]}
"""
    assert lines_of(text) == [
        "p.yaml:4:20: steps[0].dependencies[0]: steps wait for each other: a -> b -> c -> a",
        "p.yaml:7:38: steps[3].dependencies[0]: steps wait for each other: d -> e -> d",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["timeout: 3"], "2:5: steps[0]: a step needs an action, one of: prompt, agent,"),
        (["shell: x", "prompt: y"], "2:5: steps[0]: a step has one action, this one has 2: prompt, shell"),
        (
            ["shell: x", "args: {a: 1}"],
            "4:5: steps[0].args: 'args' is for these steps: function, tool, python, agent, plan; not for shell",
        ),
        (["shell: x", "mode: inline"], "4:11: steps[0].mode: mode 'inline' does not fit shell steps"),
        (["shell: x", "mode: thred"], "4:11: steps[0].mode: unknown word 'thred', expected one of: inline, thread"),
        (
            ["shell: x", "max_concurrent: 2"],
            "4:5: steps[0].max_concurrent: 'max_concurrent' of a step needs 'for_each'",
        ),
        (["shell: x", "batch: 2"], "4:5: steps[0].batch: 'batch' of a step needs 'for_each'"),
        (["shell: x", "for_each: [1]", "batch: 0"], "5:12: steps[0].batch: must be at least 1, got 0"),
        (["approve: ok?", "cache: true"], "4:5: steps[0].cache: 'cache' is for these steps: prompt, agent, function,"),
        (["approve: ok?", "on_interrupt: ask"], "4:5: steps[0].on_interrupt: 'on_interrupt' is for these steps:"),
        (["shell: '{{ item }}'"], "3:12: steps[0].shell: 'item' has a value only in a step with 'for_each'"),
        (["shell: x", "for_each: [1]", "when: '{{ item }}'"], "5:11: steps[0].when: 'item' has no value in 'when'"),
        (["shell: x", "when: a == b"], "4:11: steps[0].when: expected one expression"),
        (["shell: '{{ 1 + }}'"], "3:12: steps[0].shell: {{ 1 + }}:"),
        (
            ["shell: x", "env: {A: '{{ secrets.TOKEN }}'}"],
            "4:14: steps[0].env.A: unknown secret 'TOKEN'; name it under",
        ),
        (["function: m:f", "args: {x: [1, '{{ inputs.n }}']}"], "4:19: steps[0].args.x[1]: unknown input 'n'"),
        (["function: m:f", "args: {x: CHAIN_RESULT}"], "4:15: steps[0].args.x: CHAIN_RESULT stands for"),
        (["function: m:f", "env: {A: b}"], "4:5: steps[0].env: 'env' needs a process of its own"),
        (["function: nonsense"], "3:15: steps[0].function: 'nonsense' is not a function"),
        (["function: ./nofile.py:f"], "3:15: steps[0].function: there is no file './nofile.py'"),
        (["shell: x", "cwd: nofolder"], "4:10: steps[0].cwd: there is no folder 'nofolder'"),
        (["python: 'print({{ inputs.x }})'"], "3:13: steps[0].python: python code is taken as it is"),
        (["prompt: x", "model: gpt-5", "replies: [a]"], "5:5: steps[0].replies: 'replies' are the answers of"),
        (["approve: ok?", "on_timeout: deny"], "4:17: steps[0].on_timeout: 'on_timeout' needs a 'timeout'"),
        (["approve: ok?", "fields: {a: {type: choice}}"], "4:17: steps[0].fields.a: an input of type choice needs"),
        (["shell: x", "timeout: '3'"], "4:14: steps[0].timeout: expected a number, got '3'"),
        (["shell: 3"], "3:12: steps[0].shell: expected text or a list, got 3"),
        (
            ["shell: x", "retry: {max_attempt: 3}"],
            "4:13: steps[0].retry.max_attempt: unknown key 'max_attempt' (did you",
        ),
        (["shell: x", "retry: {max_attempts: 0}"], "4:27: steps[0].retry.max_attempts: must be at least 1, got 0"),
        (["shell: x", "dependencies: b"], "4:19: steps[0].dependencies: expected a list, got 'b'"),
        (["shell: {{ x }}"], "a value that begins with {{ needs quotes"),
        (["shell: x", "\ttimeout: 3"], "spaces, not tabs"),
    ],
)
def test_one_mistake_gives_one_line_at_its_place(lines, expected):
    found = step_lines(*lines)
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith("p.yaml:")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["agent: bob"], "3:12: steps[0].agent: unknown agent 'bob'; name it under the plan's 'agents', or write"),
        (["agent: './none.py:Bob'"], "3:12: steps[0].agent: there is no file"),
        (["tool: pyton_code"], "3:11: steps[0].tool: unknown tool 'pyton_code' (did you mean 'python_code'?)"),
        (["tool: x"], "3:11: steps[0].tool: unknown tool 'x' (there are: python_code)"),
        (["tool: web_search"], "3:11: steps[0].tool: 'web_search' is carried out by a model's provider"),
        (["shell: x", "request: {a: 1}"], "4:5: steps[0].request: 'request' is for these steps: agent; not for shell"),
        (["http: {url: 'ftp://a.example/x'}"], "3:17: steps[0].http.url: 'ftp://a.example/x' is no address of a web"),
        (["http: {method: GET}"], "3:11: steps[0].http: key 'url' is missing"),
        (["http: {url: 'http://a', methd: GET}"], "3:29: steps[0].http.methd: unknown key 'methd' (did you mean"),
        (["http: {url: 'http://a', method: 'G T'}"], "3:37: steps[0].http.method: 'G T' is no HTTP method"),
        (["http: {url: 'http://a', json: 1, form: {a: b}}"], "3:11: steps[0].http: a request has one body, this one"),
        (["db: {url: 'sqlite:///x'}"], "3:9: steps[0].db: a db step needs 'sql', a statement (or 'dynamodb'"),
        (["db: {sql: 'select 1'}"], "3:9: steps[0].db: a db step needs 'url', the database's address"),
        (["db: {url: 'sqlite:///x', sql: 'select {{ run.id }}'}"], "3:35: steps[0].db.sql: a value among SQL could be"),
        (["db: {url: 'sqlite:///x', sql: [a, 'x {{ run.id }}']}"], "3:39: steps[0].db.sql[1]: a value among SQL could"),
        (["db: {url: 'sqlite:///x', sql: a, parms: {}}"], "3:38: steps[0].db.parms: unknown key 'parms' (did you mean"),
        (["db: {dynamodb: get_item, sql: x}"], "3:30: steps[0].db.sql: 'sql' is not for DynamoDB"),
        (["function: m:f", "executor: cachd"], "4:15: steps[0].executor: unknown function executor 'cachd' (did you"),
        (["shell: x", "executor: cached"], "unknown shell executor 'cached' (there are: standard, default)"),
    ],
)
def test_what_is_called_by_name_is_there(lines, expected):
    found = step_lines(*lines)
    assert len(found) == 1, found
    assert expected in found[0]


def test_tools_agents_and_executors_of_the_plan_are_known(tmp_path):
    (tmp_path / "code.py").write_text("def look(x): ...\nclass Bob: ...\n")
    (tmp_path / "executors").mkdir()
    (tmp_path / "executors" / "slow.py").write_text("raise SystemError('plans are checked without running anything')")
    text = """\
tools: {look: './code.py:look', more: {function: './code.py:look', mode: process, timeout: 3}}
agents: {bob: './code.py:Bob'}
steps:
  - {id: a, tool: look, args: {x: 1}}
  - {id: b, tool: more, args: {x: 1}, executor: slow}
  - {id: c, agent: bob, request: {q: '{{ steps.a.output }}'}}
  - {id: d, agent: './code.py:Bob', request: hello}
  - {id: e, function: './code.py:look', args: {x: 1}, executor: cached}
  - {id: f, http: {url: '{{ steps.c.output.url }}'}, executor: graphql}
"""
    assert lines_of(text, tmp_path) == []
    own = "  - {id: g, db: {url: 'mongodb://x/y', find: z}}\n  - {id: h, db: {find: z}, executor: slow}\n"
    assert lines_of(text + own, tmp_path) == []
    wrong = """\
tools: {look: './code.py:lok', more: {functon: './code.py:look'}, hot: {function: './code.py:look', mode: proces}}
agents: {bob: './cod.py:Bob'}
steps: [{id: a, tool: lok}, {id: b, agent: bo}, {id: c, shell: x, executor: slw}]
"""
    found = "\n".join(lines_of(wrong, tmp_path))
    for expected in (
        "tools.look: there is no function 'lok' in 'code.py' (did you mean 'look'?)",
        "tools.more.functon: unknown key 'functon' (did you mean 'function'?)",
        "tools.more: tool 'more' needs a 'function'",
        "tools.hot.mode: unknown mode 'proces' (did you mean 'process'?)",
        "agents.bob: ",
        "steps[0].tool: unknown tool 'lok' (did you mean 'look'?)",
        "steps[1].agent: unknown agent 'bo' (did you mean 'bob'?)",
        "steps[2].executor: unknown shell executor 'slw' (did you mean 'slow'?)",
    ):
        assert expected in found


@pytest.mark.parametrize(
    "lines",
    [
        ["shell: x", "cache: 60"],
        ["shell: x", "cache: true", "on_interrupt: ask"],
        ["prompt: x", "breakpoint: before", "on_interrupt: skip"],
        ["approve: ok?", "breakpoint: after", "cache: false"],
        ["shell: 'echo {{ item | length }}'", "for_each: [1, 2, 3]", "batch: 2"],
    ],
)
def test_caching_breakpoints_groups_and_answers_to_interruptions_are_there(lines):
    assert step_lines(*lines) == []


def test_a_function_file_is_read_but_never_run(tmp_path):
    (tmp_path / "parse.py").write_text(
        "raise SystemExit\ndef parse(): ...\nif True:\n    def inner(): ...\n"
        "class A:\n    def go(self): ...\nx = y = parse\n"
    )
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "stars.py").write_text("from os.path import *\n")

    def problem(reference):
        return [
            p.message + p.suggestion
            for p in find_problems(f"steps: [{{id: a, function: '{reference}'}}]", "", tmp_path)
        ]

    for name in ("parse", "inner", "A.go", "y"):
        assert problem(f"./parse.py:{name}") == []
    assert problem("stars.py:join") == []
    assert problem("./parse.py:pars") == ["there is no function 'pars' in 'parse.py'parse"]
    assert problem("./pars.py:parse") == ["there is no file './pars.py'parse.py"]
    assert problem("./broken.py:f")[0].startswith("'broken.py' line 1:")
    assert find_problems("steps: [{id: a, function: './no.py:f'}]", "", tmp_path, check_files=False) == []


def test_merged_and_repeated_values_are_plain_values():
    text = """\
steps:
  - &base
    id: a
    shell: x
    retry: &retry {max_attempts: 2}
  - <<: *base
    id: b
    retry: *retry
"""
    steps = parse_plan(text, "p", HERE).plan.steps
    assert [step.id for step in steps] == ["a", "b"]
    assert steps[1].shell == "x"
    assert steps[1].retry.max_attempts == 2


def test_words_that_other_readers_change_stay_text():
    text = "goal: on\nsteps: [{id: y, function: 'm:f',"
    text += " args: {d: 2026-01-02, n: .nan, i: 0x10, o: 1_000, e: 1e3, t: !!str 5}}]"
    plan = parse_plan(text, "p", HERE).plan
    assert plan.goal == "on"
    assert plan.steps[0].args == {"d": "2026-01-02", "n": ".nan", "i": 16, "o": "1_000", "e": 1000.0, "t": "5"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file is empty"),
        ("- a", "a plan is a mapping"),
        ("goal: x", "key 'steps' is missing"),
        ("steps: []", "at least one step"),
        ("steps: [", "p.yaml:1:9: plan:"),
        ("a: *b", "no anchor"),
        ("a: &b [*b]", "stands inside what it repeats"),
        ("a: !!python/object:os.system x", "the tag"),
        ("--- {}\n--- {}", "one document"),
        ("[" * 500, "nested deeper"),
        ("? [a]\n: b", "a key is text"),
        ('goal: "\\ud800"\nsteps: [{id: a, shell: x}]', "half a character"),
        ('{"goal": "\\ud800", "steps": [{"id": "a", "shell": "x"}]}', "half a character"),
        ("x" * (5 * 1024 * 1024 + 1), "larger than 5 MB"),
    ],
)
def test_what_is_no_plan_gets_a_clear_word(text, what):
    assert any(what in line for line in lines_of(text)), lines_of(text)


def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    found = lines_of("\n".join(levels) + "\nsteps: *a29\n")
    assert len(found) == 1
    assert "aliases stand for more than" in found[0]


def test_files_that_cannot_be_read_get_a_clear_word(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\0\xff")
    (tmp_path / "latin.yaml").write_bytes("goal: x\nname: caf\xe9".encode("latin-1"))
    (tmp_path / "big.yaml").write_bytes(b"#" * (5 * 1024 * 1024 + 1))
    for name, what in [
        ("none.yaml", "there is no such file"),
        ("binary.yaml", "binary file"),
        ("latin.yaml", "latin.yaml:2:10: plan: this is not UTF-8"),
        ("big.yaml", "larger than 5 MB"),
        (".", "is a folder"),
    ]:
        with pytest.raises(PlanError, match=what) as caught:
            load_plan(tmp_path / name)
        assert caught.value.hint


def test_a_file_is_loaded_with_its_folder_and_exact_text(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbfsteps:\r\n- id: a\r\n  shell: x\r\n  cwd: ./\r\n")
    loaded = load_plan(path)
    assert loaded.folder == tmp_path
    assert loaded.path == path
    assert loaded.text.encode() == path.read_bytes()
    path.write_text("steps:\n- id: a\n  shel: x\n")
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert caught.value.problems == (f"{path}:3:3: steps[0].shel: unknown key 'shel' (did you mean 'shell'?)",)


def test_a_plan_built_in_python_is_checked_like_a_file():
    plan = Plan(steps=[Step(id="a", prompt="x", dependencies=["b"]), Step(id="a", prompt="{{ steps.c.output }}")])
    assert [problem.text() for problem in check_plan(plan, None)] == [
        "steps[0].dependencies[0]: unknown step 'b'",
        "steps[1].id: id 'a' is already taken by steps[0]",
        "steps[1].prompt: unknown step 'c'",
    ]
    with pytest.raises(PlanError, match="unknown step 'b'"):
        require_valid(plan, None)
    require_valid(Plan(steps=[Step(id="a", function=len, args={"obj": [1]})]), HERE)


def test_a_plan_that_contains_itself_is_a_mistake_and_not_a_crash():
    loop = {}
    loop["x"] = loop
    assert "within itself" in check_plan(Plan(steps=[Step(id="a", function="m:f", args=loop)]), None)[0].message


def test_thousands_of_unknown_names_are_all_named():
    steps = [Step(id=f"s{n}", shell="x", dependencies=[f"t{n}"]) for n in range(3_000)]
    assert len(check_plan(Plan(steps=steps), None)) == 3_000


fragments = st.sampled_from(
    [
        "{{",
        "}}",
        "- ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!!",
        "|\n",
        ">",
        '"',
        "'",
        "#",
        "\n",
        "\t",
        "<<: ",
        "%",
        "---",
        "é",
        "\0",
        "steps:",
        "id: a",
        "null",
        "~",
        "5",
        "-1e999",
        "shell: x",
        "{{ steps.parse.output }}",
        "retry: 3",
        "? ",
        "\\",
        "\ud800",
    ]
)


@calm
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), fragments), max_size=4))
@example([(0, 0, "\ud800")])
def test_no_change_to_a_plan_makes_anything_but_a_plan_or_its_mistakes(changes):
    text = GOOD
    for place, length, fragment in changes:
        text = text[:place] + fragment + text[place + length :]
    try:
        loaded = parse_plan(text, "p.yaml", HERE)
    except PlanError:
        count = len(text.splitlines()) + 1
        problems = find_problems(text, "p.yaml", HERE)
        assert problems
        for problem in problems:
            assert 1 <= problem.line <= count
            assert problem.column >= 1
            assert "\n" not in problem.text("p.yaml")
    else:
        assert plan_to_json(loaded.plan)


KEYS = [*Plan.model_fields, *Step.model_fields, "type", "choices", "default", "a", "max_attempts"]


@calm
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-3, 3)
        | st.sampled_from(["a", "x:y", "{{ item }}", "process", "choice", ""]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
)
@example({"mode": []}, "defaults", "a")
def test_any_json_is_a_plan_or_its_mistakes(value, key, other):
    step = {"id": "a", "shell": "x"}
    for candidate in (
        value,
        {"steps": [step], key: value},
        {"steps": [value, step]},
        {"steps": [step | {key: value}]},
        {"steps": [{"id": "a", key: value, other: {"a": value}}], "inputs": value, "defaults": {other: value}},
    ):
        problems = find_problems(json.dumps(candidate), "p.json", HERE)
        assert problems or parse_plan(json.dumps(candidate), "p.json", HERE)
