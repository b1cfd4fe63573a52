"Weights: the order of the places, the checksum, the one error."
import hashlib

import pytest
import torch

from ccvs.core.weights import find_weights

URL = 'https://example.org/toy.pt'


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv('CCVS_WEIGHTS', str(tmp_path/'own'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    found = dict(given=tmp_path/'given'/'toy.pt', own=tmp_path/'own'/'toy.pt', cache=tmp_path/'torch'/'hub'/'checkpoints'/'toy.pt')
    for path in found.values():
        path.parent.mkdir(parents=True)
        path.write_bytes(b'weights')
    return found


def test_order_of_places(places):
    assert find_weights('toy.pt', URL, places['given']) == places['given']
    assert find_weights('toy.pt', URL, str(places['given'].parent)) == places['given']
    assert find_weights('toy.pt', URL) == places['own']
    places['own'].unlink()
    assert find_weights('toy.pt', URL) == places['cache']


def test_nothing_found(places, monkeypatch):
    for path in places.values(): path.unlink()
    with pytest.raises(FileNotFoundError) as caught: find_weights('toy.pt', URL, sha256='abcd1234')
    words = str(caught.value)
    assert URL in words and str(places['own']) in words and str(places['cache']) in words and 'abcd1234' in words
    monkeypatch.delenv('CCVS_WEIGHTS')
    with pytest.raises(FileNotFoundError, match='save it as .*checkpoints'): find_weights('toy.pt', URL)


def test_a_given_path_is_not_replaced_by_another(places):
    with pytest.raises(FileNotFoundError, match='other.pt'): find_weights('toy.pt', URL, places['given'].with_name('other.pt'))


def test_checksum(places):
    digest = hashlib.sha256(b'weights').hexdigest()
    assert find_weights('toy.pt', URL, sha256=digest) == find_weights('toy.pt', URL, sha256=digest[:8].upper()) == places['own']
    with pytest.raises(ValueError, match='fetch it again'): find_weights('toy.pt', URL, sha256='0' * 64)
