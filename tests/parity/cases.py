"""Recorded parity cases: one `<case>.json` (options, calls, tolerances) beside one `<case>.safetensors` (all numbers).

    case = load_case('ccvs/tf_prediction')
    net.load_state_dict(case.weights('net_t.'))          # official key names, prefix removed
    call = case.calls['logits']
    call.check('logits', net(call.inputs['code']))       # within the tolerance recorded for this tensor
"""
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parents[1] / 'data' / 'parity'


class Expected(NamedTuple):
    "A recorded tensor and how far from it an answer may be."
    value: torch.Tensor
    spec: dict           # atol and rtol, or exact, or max_mismatch_fraction

    def check(self, found: torch.Tensor, what: str) -> None:
        "Raise AssertionError unless `found` agrees with the recording."
        assert found.shape == self.value.shape, f'{what}: shape {tuple(found.shape)}, recorded {tuple(self.value.shape)}'
        if self.spec.get('exact'):
            same = found.to(self.value.dtype) == self.value
            assert same.all(), f'{what}: {int((~same).sum())} of {same.numel()} values differ from the recording'
        elif 'max_mismatch_fraction' in self.spec:
            share = (found.to(self.value.dtype) != self.value).float().mean().item()
            assert share <= self.spec['max_mismatch_fraction'], f'{what}: a fraction {share} differs from the recording'
        else:
            torch.testing.assert_close(found.detach().float(), self.value.float(), atol=self.spec['atol'],
                                       rtol=self.spec['rtol'], msg=lambda text: f'{what}: {text}')


class Call(NamedTuple):
    "One recorded call: what went in, what came out, and the options that differ from the case's."
    name: str
    kind: str
    args: dict
    options: dict        # the options of the case with the changes of this call
    inputs: dict         # name -> tensor, list of tensors, or plain value
    outputs: dict        # name -> Expected
    record: dict         # everything else the json says about the call

    def check(self, name: str, found: torch.Tensor) -> None:
        "Raise AssertionError unless `found` is the recorded output `name`."
        self.outputs[name].check(found, f'{self.name}.{name}')


class Case(NamedTuple):
    "A recorded network with its calls."
    name: str
    record: dict         # the whole json
    options: dict
    state: dict          # official key -> tensor
    calls: dict          # name -> Call

    def weights(self, prefix: str = '') -> dict:
        "State dict of the keys that start with `prefix`, without it."
        found = {key.removeprefix(prefix): value for key, value in self.state.items() if key.startswith(prefix)}
        assert found, f'{self.name} has no weight under {prefix!r}; first keys: {list(self.state)[:5]}'
        return found


def load_case(name: str) -> Case:
    "Read a case such as 'ccvs/tf_prediction' from tests/data/parity."
    record = json.loads((FOLDER / f'{name}.json').read_text())
    tensors = load_file(FOLDER / f'{name}.safetensors')
    state = {key.removeprefix('weight/'): value for key, value in tensors.items() if key.startswith('weight/')}
    for key, packed in record.get('int8_weights', {}).items():  # several weights may share one stored array
        state[key.removeprefix('weight/')] = tensors[packed['tensor']].float() * packed['scale']
    options = record.get('options', {})
    calls = {call['name']: _read_call(call, tensors, options) for call in record['calls']}
    return Case(name, record, options, state, calls)


def _read_call(call: dict, tensors: dict, options: dict) -> Call:
    def value(key):
        if isinstance(key, dict): return key['value']
        return [tensors[one] for one in key] if isinstance(key, list) else tensors[key]
    return Call(call['name'], call['kind'], call.get('args', {}), options | call.get('options', {}),
                {name: value(key) for name, key in call.get('inputs', {}).items()},
                {name: Expected(tensors[spec['tensor']], spec) for name, spec in call['outputs'].items()}, call)
