"The runner: every recorded case passes, and whatever is wrong with a case is noticed, said in one sentence, and ends with status 1."
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ccvs import cli
from ccvs.compat.cases import find_cases
from ccvs.compat.parity import KINDS, judge, judge_all

from .cases import FOLDER

pytestmark = pytest.mark.usefixtures('one_thread')
CASES = find_cases(FOLDER)
SHARED = FOLDER.parents[3] / 'shared' / 'parity'   # where the recordings come from, beside a checkout


@pytest.mark.parametrize('path', CASES, ids=lambda path: path.relative_to(FOLDER).with_suffix('').as_posix())
def test_case(path):
    verdict = judge(path)
    assert verdict.passed, verdict.reason
    assert verdict.calls


def test_every_kind_has_a_case():
    records = [json.loads(path.read_text()) for path in CASES]
    assert {kind for record in records for kind in [record.get('kind'), *(call['kind'] for call in record.get('calls', ()))] if kind} == set(KINDS)


@pytest.mark.skipif(not SHARED.is_dir(), reason='no recordings beside this checkout')
@pytest.mark.parametrize('system', ['ccvs', 'ipoke'])
def test_every_recording_is_here(system):
    whole = sorted(path.relative_to(SHARED) for path in (SHARED / system).rglob('*') if path.is_file() and path.name != 'README.md')
    assert whole and all((FOLDER / path).read_bytes() == (SHARED / path).read_bytes() for path in whole)


@pytest.fixture
def copied(tmp_path):
    "A folder with one small case in it, and its json."
    for file in (FOLDER / 'ccvs').glob('gan_losses.*'): shutil.copy(file, tmp_path)
    return tmp_path, tmp_path / 'gan_losses.json'


def change(path, alter):
    "Rewrite a json."
    record = json.loads(path.read_text())
    alter(record)
    path.write_text(json.dumps(record))


def ask(*words): return CliRunner().invoke(cli.app, ['parity', *map(str, words)])


def test_a_good_folder_ends_with_0(copied):
    found = ask(copied[0])
    assert found.exit_code == 0 and '1 of 1 cases pass, 2 calls' in found.stdout


def test_json_is_one_line_that_tells_the_same(copied):
    found = ask(copied[0], '--json')
    told = json.loads(found.stdout)
    assert found.exit_code == 0 and found.stdout.count('\n') == 1
    assert (told['passed'], told['failed']) == (1, 0) and set(told['cases'][0]['calls']) == {'logistic_8x1', 'logistic_4x1'}


def test_any_broken_output_fails(copied):
    "Every recorded tensor is looked at: change each in turn."
    numbers = copied[1].with_suffix('.safetensors')
    whole = load_file(numbers)
    outputs = [name for name in whole if name.startswith('output/')]
    assert len(outputs) == 4
    for name in outputs:
        save_file(whole | {name: whole[name] * 1.001}, numbers)
        assert not judge(copied[1]).passed, name
    assert ask(copied[0]).exit_code == 1


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_no_number_fails(copied, value):
    expected = {'gan.loss': lambda case, call: {name: torch.full_like(one.value, value) for name, one in call.outputs.items()}}
    assert not judge(copied[1], expected).passed


def test_a_wrong_network_fails():
    "One weight of a thousand, changed by a hundredth."
    def altered(case, call):
        case.weights['net_e.blocks.0.0.bias'][0] += .01
        return KINDS[call.kind](case, call)
    assert not judge(FOLDER / 'ccvs' / 'ae_video_nomemory.json', {'ae.encode': altered, 'ae.decode_video': altered}).passed


def test_an_unknown_kind_fails(copied):
    change(copied[1], lambda record: record['calls'][0].update(kind='gan.telepathy'))
    found = ask(copied[0])
    assert found.exit_code == 1 and "the kind 'gan.telepathy' is not known" in found.stdout


def test_an_output_that_is_not_computed_fails(copied):
    change(copied[1], lambda record: record['calls'][0]['outputs'].update(more=record['calls'][0]['outputs']['generator']))
    assert 'more: was not computed' in judge(copied[1]).reason


def test_a_case_that_asks_for_nothing_fails(copied):
    change(copied[1], lambda record: record.update(calls=[]))
    assert ask(copied[0]).exit_code == 1


@pytest.mark.parametrize('ending', ['.json', '.safetensors'])
def test_a_truncated_file_is_one_sentence(copied, ending):
    path = copied[1].with_suffix(ending)
    path.write_bytes(path.read_bytes()[:-20])
    found = ask(copied[0])
    assert found.exit_code == 1 and found.stdout.count('\n') == 2
    assert 'Traceback' not in found.output and 'copy the case again' in found.stdout


@pytest.mark.parametrize('ending', ['.json', '.safetensors'])
def test_half_a_case_is_not_skipped(copied, ending):
    copied[1].with_suffix(ending).unlink()
    assert ask(copied[0]).exit_code == 1


def test_an_empty_folder_is_no_success(tmp_path):
    found = CliRunner().invoke(cli.app, ['parity', str(tmp_path)])
    assert found.exit_code != 0


def test_names_do_not_matter(copied):
    "A case renamed, in its file and inside, is judged as before."
    for ending in ('.json', '.safetensors'): copied[1].with_suffix(ending).rename(copied[0] / f'anything{ending}')
    path = copied[0] / 'anything.json'
    change(path, lambda record: record.update(case='whatever'))
    assert all(verdict.passed for verdict in judge_all(copied[0]))
