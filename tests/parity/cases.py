"""Recorded parity cases for tests, by name: the reader of ccvs.compat.cases with calls to look up.

    case = load_case('ccvs/tf_prediction')
    net.load_state_dict(case.weights('net_t.'))          # official key names, prefix removed
    call = case.calls['logits']
    call.check('logits', net(call.inputs['code']))       # within the tolerance recorded for this tensor
"""
from pathlib import Path
from types import SimpleNamespace

from ccvs.compat.cases import read_case

FOLDER = Path(__file__).resolve().parents[1] / 'data' / 'parity'


def load_case(name: str) -> SimpleNamespace:
    "A case such as 'ccvs/tf_prediction' from tests/data/parity; `calls` by name, `weights(prefix)`, `whole` the Case itself."
    case = read_case(FOLDER / f'{name}.json')
    return SimpleNamespace(name=name, record=case.record, options=case.options, whole=case, weights=lambda prefix='': case.part(prefix),
                           calls={call.name: call for call in case.calls})
