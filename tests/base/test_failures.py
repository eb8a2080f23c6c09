"""Failures: what another library's exception says is one line that tells."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from regkit.base.failures import in_one_line, last_line

SCANNER = """mapping values are not allowed here
  in "a.yaml", line 2, column 5:
    a: b: c
        ^"""
PARSER = """while parsing a block mapping
  in "a.yaml", line 1, column 1
expected <block end>, but found '-'
  in "a.yaml", line 2, column 1"""
STATE = """Error(s) in loading state_dict for Linear:
\tMissing key(s) in state_dict: "bias". \n\tUnexpected key(s) in state_dict: "bais". """
CUDA = "CUDA error: device-side assert triggered\n" + "CUDA kernel errors might be reported later, " * 9


class Options(BaseModel):
    rate: int
    size: int


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("it falls", "it falls"),
        ("", ""),
        (SCANNER, 'mapping values are not allowed here: in "a.yaml", line 2, column 5'),
        (
            PARSER,
            'while parsing a block mapping: in "a.yaml", line 1, column 1; '
            "expected <block end>, but found '-': in \"a.yaml\", line 2, column 1",
        ),
        (
            STATE,
            "Error(s) in loading state_dict for Linear: "
            'Missing key(s) in state_dict: "bias".; Unexpected key(s) in state_dict: "bais".',
        ),
        (CUDA, "CUDA error: device-side assert triggered"),
        ("assert 1 == 2\n +  where 1 = f()\n", "assert 1 == 2: +  where 1 = f()"),
    ],
)
def test_a_message_of_several_lines_is_one_that_tells(message: str, said: str) -> None:
    assert in_one_line(ValueError(message)) == said


def test_of_pydantic_the_field_and_what_is_wrong_with_it_are_told_and_no_address() -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"rate": "fast", "size": "big"})
    said = in_one_line(caught.value)
    assert said.startswith("2 validation errors for Options; rate: Input should be a valid integer, unable to parse")
    assert "http" not in said
    assert "\n" not in last_line(caught.value)


def test_an_exception_is_summed_up_by_its_type_and_its_place() -> None:
    class DumbError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(KeyError) as caught:
        {}["a"]
    assert last_line(caught.value).startswith("KeyError: 'a' (")
    assert "test_failures.py, line " in last_line(caught.value)
    assert last_line(DumbError()).endswith("DumbError")
    noted = ValueError("it falls")
    noted.add_note("a note for whoever looks at the traceback")
    assert last_line(noted) == "ValueError: it falls"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import statistics\n\nstatistics.mean([])\n", 3),
        ("from dataclasses import make_dataclass\nmake_dataclass('A', [('names', list, [])])\n", 2),
        ("import torch.nn.functional as F\n\n\nF.pad(1, 'x')\n", 4),
        ("from regkit.base.errors import nearest\nnearest('a', 2)\n", 2),
        ("from dataclasses import make_dataclass\nA = make_dataclass('A', ['b'])\nA()\n", 3),
    ],
)
def test_the_place_is_where_its_author_can_mend_it_and_not_in_a_library(tmp_path: Path, code: str, line: int) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(code)
    with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
        exec(compile(code, file, "exec"), {})
    assert last_line(caught.value).endswith(f"({file}, line {line})")
