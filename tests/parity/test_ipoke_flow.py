"""The invertible network, drawn pokes, the second stage and the cVAE give the recorded numbers of the official ones."""
import pytest

from ccvs.compat.cases import find_cases, read_case, repeat
from ccvs.compat import poke_flow_kinds, poke_stage_kinds

from .cases import FOLDER

KINDS = poke_flow_kinds.KINDS | poke_stage_kinds.KINDS
CASES = {case.name: case for path in find_cases(FOLDER / 'ipoke') if (case := read_case(path)).record['kind'] in KINDS}


@pytest.mark.parametrize('name', CASES)
def test_recorded(name):
    case = CASES[name]
    agreement = repeat(case, case.calls[0], KINDS)
    assert agreement.passed, agreement.reason


def test_every_kind_has_a_case():
    assert {case.record['kind'] for case in CASES.values()} == set(KINDS)
