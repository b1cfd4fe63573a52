"Official iPOKE run folders: settings and weights, and nothing else that such files may hold."
import json
import shutil
from pathlib import Path

import pytest
import torch

from ccvs.compat.poke_runs import REGISTRY, STAGES, best_checkpoint, digest, is_poke_logs, parse_settings, part_names, read_lightning, \
    read_model, read_run

DATA = Path(__file__).resolve().parents[1] / 'data' / 'parity' / 'ipoke'
LOGS = DATA / 'official_run' / 'logs'


@pytest.fixture
def logs(tmp_path): return Path(shutil.copytree(LOGS, tmp_path / 'logs'))


@pytest.mark.parametrize('stage', STAGES)
def test_every_stage_is_read(stage):
    run = read_run(LOGS, stage, 'mini_32')
    assert run.settings['general']['experiment'] == stage
    assert run.state and all(isinstance(value, torch.Tensor) for value in run.state.values())


def test_a_model_knows_its_parts():
    model = read_model(LOGS)
    assert set(model.parts) == {'first_stage', 'img_encoder', 'poke_encoder'}
    assert model.run.part('first_stage_model.enc_motion.').keys() == read_run(LOGS, 'first_stage', 'mini_32').part('enc_motion.').keys()
    assert is_poke_logs(LOGS) and not is_poke_logs(DATA)


def test_a_missing_run_names_those_there(logs):
    with pytest.raises(FileNotFoundError, match='found mini_32'): read_run(logs, 'first_stage', 'big')
    shutil.rmtree(logs / 'img_encoder')
    with pytest.raises(FileNotFoundError, match='img_encoder'): read_model(logs)


@pytest.mark.parametrize('text', ['a: !!python/object/apply:os.system ["true"]', 'a: !!python/name:os.system', '!!python/object:x.Y {}', 'a: [', '- 1'])
def test_settings_hold_values_only(text):
    with pytest.raises(ValueError, match='copy it again'): parse_settings(text, 'config.yaml')


class Trap:
    def __reduce__(self): return (Path('ran').touch, ())


@pytest.mark.parametrize('whole', [dict(state_dict={}, callbacks=Trap()), dict(state_dict=Trap()), dict(state={}), [1]],
                         ids=['callback', 'state', 'no state', 'list'])
def test_a_checkpoint_with_anything_else_is_refused(tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    torch.save(whole, 'x.ckpt')
    with pytest.raises(ValueError, match='x.ckpt'): read_lightning('x.ckpt')
    assert not Path('ran').exists()


def test_a_truncated_checkpoint_is_one_sentence(logs):
    path = best_checkpoint(logs, 'second_stage', 'mini_32')
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(ValueError, match='copy it again'): read_run(logs, 'second_stage', 'mini_32')


def test_the_best_that_exists_is_taken(logs):
    run = logs / 'first_stage' / 'ckpt' / 'mini_32' / '0'
    there = best_checkpoint(logs, 'first_stage', 'mini_32')
    (run / 'best_k_models.yaml').write_text(f'/elsewhere/gone.ckpt: 1.0\n/elsewhere/{there.name}: 2.0\n')
    assert best_checkpoint(logs, 'first_stage', 'mini_32') == there
    newer = run.parent / '1'
    shutil.copytree(run, newer)
    assert best_checkpoint(logs, 'first_stage', 'mini_32').parent == newer
    assert best_checkpoint(logs, 'first_stage', 'mini_32', version=0) == there


def test_registry_keys_lead_to_their_models():
    settings = dict(first_stage=dict(name=REGISTRY['iper_64'][0]), conditioner=dict(name=REGISTRY['iper_64'][1], use=True),
                    poke_embedder=dict(name=REGISTRY['iper_64'][2], use=True))
    assert all(names[1:] == ['iper_64'] for names in part_names(settings).values())


def test_digest_of_the_published_lists():
    known = json.loads((DATA / 'published_keys.json').read_text())
    checked = 0
    for nets in known['configurations'].values():
        for entry in nets.values():
            listed = known['lists'][entry['list']]
            if len(listed) != entry['tensors']: continue                # of the flow only the first level is listed
            tensors = {key: torch.empty(shape, dtype=getattr(torch, dtype), device='meta') for key, (dtype, shape) in listed.items()}
            assert digest(tensors.items()) == entry['sha256']
            checked += 1
    assert checked >= 40
