"Named random streams: reproducible, distinct, pinned as numbers."
from itertools import combinations
from zlib import crc32

import numpy as np
import pytest
import torch

from ccvs.core.seed import rng, seed_sequence, torch_rng


def test_same_name_same_stream():
    assert (rng(3, 'crop', 5).random(100) == rng(3, 'crop', 5).random(100)).all()
    assert torch.equal(torch.rand(100, generator=torch_rng(3, 'crop')), torch.rand(100, generator=torch_rng(3, 'crop')))


def test_names_that_zero_padding_or_word_cutting_would_confuse():
    names = [(0,), (1,), (1, 0), (0, 1), (2**32,), (2**32, 0), (0, 1, 0), (0, 0), ('crop',), ('flip',), (1, 'crop'), ('crop', 1), ('',)]
    states = {name: tuple(seed_sequence(*name).generate_state(4)) for name in names if name != ('',)}
    for a, b in combinations(states, 2): assert states[a] != states[b], (a, b)


def test_a_word_is_its_checksum():
    assert rng('poké').random() == rng(crc32('poké'.encode('utf-8'))).random()


def test_kind_of_generator_and_pinned_numbers():
    assert isinstance(rng(0).bit_generator, np.random.PCG64)
    assert rng(0, 'crop').integers(0, 2**31, 3).tolist() == [633338947, 546409675, 504634250]
    assert torch_rng(0, 'crop').initial_seed() == int(seed_sequence(0, 'crop').generate_state(1, np.uint64)[0]) >> 1


@pytest.mark.parametrize('key', [-1, 0.5, 1.0, True, 2**64])
def test_keys_that_are_refused(key):
    with pytest.raises(ValueError, match='seed key'): rng(key)


def test_no_key_and_numpy_keys():
    with pytest.raises(ValueError, match='at least one key'): rng()
    assert rng(np.int64(5)).random() == rng(5).random()


def test_global_streams_stay_untouched():
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    rng(1).random(3), torch.rand(3, generator=torch_rng(1))
    assert (np.random.get_state()[1] == before).all() and torch.equal(torch.get_rng_state(), torch_before)
