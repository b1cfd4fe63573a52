"The notebook that compares both priors, as a form."
import json

import pytest
import torch

from ccvs.bench.poke import fresh_poker
from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook
from ccvs.synth import load

pytestmark = pytest.mark.usefixtures('one_thread')


def run(out, folder, **values):
    path = find_run('compare_priors')
    run_notebook(path, fill_in(parameters(path), [], dict(run=str(folder), out_dir=str(out), rounds=1, ways=[1], protocol='none') | values), out)
    return json.loads((out/'record.json').read_text())


@pytest.fixture
def folder(tmp_path):
    for kind in ('cinn', 'flow_matching', 'cvae'): fresh_poker('tiny', kind).save_pretrained(tmp_path/'run'/kind/'model')
    return tmp_path/'run'


def test_both_are_measured_alike(folder, tmp_path):
    both = fresh_poker('tiny', 'flow_matching')
    trained = load(folder/'cinn'/'model').model
    both.model.codec.load_state_dict(trained.codec.state_dict())
    both.model.conditioning.load_state_dict(trained.conditioning.state_dict())
    both.save_pretrained(folder/'flow_matching'/'model')
    record = run(tmp_path/'out', folder)
    numbers = record['numbers']
    assert {'cinn', 'flow_matching', 'cvae', 'warp', 'still', 'steps', 'weights', 'better'} == numbers.keys()
    for kind in ('cinn', 'flow_matching'): assert numbers[kind]['ms_per_clip'] > 0 and numbers[kind]['nats']['items'] == 3 and numbers[kind]['diversity']['mse']['mean'] > 0
    assert set(numbers['steps']) == {'1', '2'} and set(numbers['better']) == {'reach', 'time', 'closeness', 'diversity'}
    assert numbers['steps']['1']['off'] != numbers['steps']['2']['off'] == pytest.approx(numbers['flow_matching']['reach']['off_of_all']['mean'])
    assert record['digests']['cinn'] != record['digests']['flow_matching'] and (tmp_path/'out'/'samples.png').is_file()


def test_priors_of_different_codecs_are_not_compared(folder, tmp_path):
    other = fresh_poker('tiny', 'flow_matching')
    torch.nn.init.normal_(other.model.codec.motion_bias)
    other.save_pretrained(folder/'flow_matching'/'model')
    with pytest.raises(RunError, match='train them with one out_dir'): run(tmp_path/'out', folder)
