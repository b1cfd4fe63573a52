"Protocol rows say what was published, records carry everything, and unlike records have no average."
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from ccvs.core.config import from_dict, override, to_dict
from ccvs.metrics.frechet import protocol
from ccvs.metrics.frechet.protocol import PROTOCOLS, FvdRecord, ProtocolCfg, averaged, differing, protocol_detector, protocol_name

RECORD = FvdRecord('ipoke', 'i3d', 'ab' * 32, 1e-3, 'legacy', (-1., 1.), 'rgb', 64, 'none, none', 1008, 1008, 1, (1., 1.), 11, 1, (False, False), 1, True, 42,
                   value=100., spread=0., low=95., high=104., infinity=80., doubt=3., kernel=1.5)
MEASURED = ('seed', 'value', 'spread', 'low', 'high', 'infinity', 'doubt', 'kernel')


def test_the_published_rows():
    assert list(PROTOCOLS) == ['ccvs_bair', 'ccvs_kinetics', 'ccvs_drums', 'ipoke', 'magvit_bair', 'stylegan_v', 'cd_fvd', 'worlds']
    facts = {name: (row.frames, row.given, row.n_real, row.n_fake, row.group, row.resize, row.channel_order, row.eps, row.crf, row.ddof) for name, row in PROTOCOLS.items()}
    assert facts['ccvs_bair'] == (16, 1, 1280, 1280, 256, 'legacy', 'bgr', 1e-3, 23, (1, 1))           # CCVS spec 10.3, 10.5
    assert facts['ccvs_kinetics'] == (16, 5, 1248, 1248, 256, 'legacy', 'bgr', 1e-3, 23, (1, 1))
    assert facts['ccvs_drums'] == (45, 15, 100, 100, None, 'legacy', 'bgr', 1e-3, 23, (1, 1))
    assert facts['ipoke'] == (11, 1, 1008, 1008, None, 'legacy', 'rgb', 1e-3, None, (1, 1))            # iPOKE spec 9.1, 9.7
    assert facts['magvit_bair'] == (16, 1, 256, 25600, None, 'legacy', 'rgb', 1e-3, None, (.01, 1))
    assert facts['stylegan_v'] == (16, 0, 2048, 2048, None, 'half_pixel', 'rgb', 1e-3, None, (0, 0))
    assert facts['cd_fvd'] == (16, 0, None, 2048, None, 'half_pixel', 'rgb', 1e-5, None, (0, 0))
    assert all(row.given_counted and row.value_range == (-1, 1) and row.stride == 1 for row in PROTOCOLS.values())
    assert [row.detector for row in PROTOCOLS.values()] == ['i3d'] * 7 + ['small']


def test_rows_survive_json():
    for row in PROTOCOLS.values():
        assert from_dict(ProtocolCfg, json.loads(json.dumps(to_dict(row)))) == row
    assert from_dict(FvdRecord, json.loads(json.dumps(to_dict(RECORD)))) == RECORD


def test_a_changed_row_loses_its_name():
    for name, row in PROTOCOLS.items():
        assert protocol_name(row) == name and protocol_name(override(row, seed=row.seed + 1)) == 'custom'


@pytest.mark.parametrize('wrong', [dict(resize='bicubic'), dict(channel_order='gbr'), dict(given=16), dict(given=-1), dict(stride=0)])
def test_impossible_rows(wrong):
    with pytest.raises(ValueError): ProtocolCfg(**wrong)


def test_a_row_makes_its_detector(monkeypatch):
    asked = []
    monkeypatch.setattr(protocol, 'i3d_detector', lambda *feeding: asked.append(feeding))
    protocol_detector(PROTOCOLS['ccvs_bair'], 'weights.pt', 'abcd', 'meta')
    protocol_detector(PROTOCOLS['cd_fvd'])
    assert asked == [('weights.pt', 'legacy', (-1., 1.), 'bgr', 1e-3, 'abcd', 'meta'),
                     (None, 'half_pixel', (-1., 1.), 'rgb', 1e-5, None, 'cpu')]
    with pytest.raises(ValueError, match='small'): protocol_detector(PROTOCOLS['worlds'])


def test_a_record_has_all_that_was_asked_for():
    names = {field.name for field in fields(FvdRecord)}
    assert names >= {'detector', 'checksum', 'eps', 'resize', 'value_range', 'channel_order', 'codec', 'n_real', 'n_fake', 'groups', 'frames', 'stride', 'given', 'given_counted',
                     'seed', 'value', 'low', 'high', 'infinity', 'kernel'}


def test_averages():
    records = [replace(RECORD, seed=i, value=v, low=None, kernel=v) for i, v in enumerate((1., 2., 6.))]
    assert averaged(records) == (3., np.std([1, 2, 6]), 3)
    assert averaged(records[:1]) == (1., 0., 1)


OTHER = dict(protocol='custom', detector='x', checksum='y', eps=None, resize='crop', value_range=(0., 1.), channel_order='bgr', side=None, codec='video files, none', n_real=9, n_fake=9,
             groups=5, ddof=(0., 0.), frames=12, stride=2, random_start=(True, False), given=2, given_counted=False)


@pytest.mark.parametrize('name', [field.name for field in fields(FvdRecord) if field.name not in MEASURED])
def test_every_difference_is_refused_by_name(name):
    other = replace(RECORD, **{name: OTHER[name]})
    assert list(differing([RECORD, RECORD, other])) == [name]
    with pytest.raises(ValueError, match=rf'\({name}: ') as refused: averaged([RECORD, RECORD, other])
    assert str(OTHER[name]) in str(refused.value) and '\n' not in str(refused.value)


def test_nothing_to_average():
    with pytest.raises(ValueError, match='at least one'): averaged([])
