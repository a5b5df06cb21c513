"""What XLA's HLO text says of arrays and of where instructions come from."""

import re
from math import prod

ARRAY = re.compile(r"\b(?P<dtype>pred|bf16|[suf]\d+\w*)\[(?P<dims>[\d,]*)\](?P<layout>\{[^}]*\})?")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def numbers(array: re.Match[str]) -> int:
    """How many an array of ``ARRAY`` has."""
    return prod(map(int, filter(None, array["dims"].split(","))))


def bits(dtype: str) -> int:
    """Of a number."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8  # pred


def op_name(line: str) -> str:
    """Where in the traced program an instruction comes from; "" if XLA lost it."""
    found = _OP_NAME.search(line)
    return found[1] if found else ""
