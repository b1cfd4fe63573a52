"The benchmarks run, say what they measured, and count right."
import json
import subprocess
import sys

import pytest
import torch

from ccvs.bench import clock, run as bench, sampling
from ccvs.prior.transformer import build_transformer


def line(printed):
    "One JSON line and nothing else."
    (text,) = printed.splitlines()
    found = json.loads(text)
    assert {'bench', 'configuration', 'rows', 'summary', 'seconds', 'versions', 'machine'} <= found.keys() and found['rows']
    return found


@pytest.mark.parametrize('name', ['sampling', 'codec', 'fvd', 'poke'])
def test_one_json_line(name, capsys):
    threads = torch.get_num_threads()
    assert not bench.main([name, '--json', '--quick'])
    found = line(capsys.readouterr().out)
    assert found['bench'] == name and found['quick'] and found['configuration']['threads'] == 1
    assert all(0 < row['share_of_limit'] < 2 for row in found['rows'])    # a limit on a shared machine is a limit with noise
    assert torch.get_num_threads() == threads


def test_a_table_otherwise(capsys):
    assert not bench.main(['codec', '--quick'])
    printed = capsys.readouterr().out
    assert 'gflop per frame' in printed and 'decode_4_ms' in printed


def test_the_program_renders_on_all_cores():
    done = subprocess.run([sys.executable, '-m', 'ccvs.bench', 'worlds', '--json', '--quick'], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = line(done.stdout)
    assert found['summary']['bar_fps'] == 500 and found['rows'][0]['one_core_fps'] > 0 and found['rows'][0]['all_cores_fps'] > 0


def test_words_it_does_not_know(capsys):
    assert bench.main(['worlds', 'speed', '--json']) == 2
    said = capsys.readouterr()
    assert not said.out and 'speed' in said.err and 'sampling' in said.err


def test_the_floats_of_a_step_are_those_of_the_network():
    "Everything but embeddings, norms and biases is read for each token."
    cfg = sampling.MODELS['demo']
    net = build_transformer(cfg)
    matrices = sum(p.numel() for name, p in net.named_parameters() if p.ndim == 2 and 'emb' not in name)
    assert sampling.step_floats(cfg, 16, 0) == matrices
    assert sampling.step_floats(cfg, 2, 10) - matrices == 2 * 10 * cfg.layers * 2 * cfg.width      # keys and values


def test_simpson_is_exact_for_cubics():
    def f(n): return n ** 3 - 2 * n + 5
    assert sampling.simpson(f(0), f(2), f(4)) == pytest.approx((4 ** 4 / 4 - 4 ** 2 + 20) / 4, rel=1e-12)    # float64


def test_turns_are_taken():
    order = []
    seconds = clock.in_turns(dict(a=lambda: order.append('a'), b=lambda: order.append('b')), 3)
    assert order == ['a', 'b'] * 4 and [len(times) for times in seconds.values()] == [3, 3]      # the first of each is a warm-up


def test_operations_of_a_convolution():
    conv, x = torch.nn.Conv2d(3, 5, 3, bias=False), torch.randn(2, 3, 10, 8)
    assert clock.count_flops(lambda: conv(x)) == 2 * 2 * 5 * 8 * 6 * 3 * 9


def test_i3d_against_the_plain_network(capsys):
    assert not bench.main(['i3d', '--json', '--quick'])
    found = line(capsys.readouterr().out)
    assert found['configuration']['threads'] == 1 and found['summary']['bit_equal_over_batches']
    assert found['summary']['largest_difference'] < 1e-5        # float32 rounding through 57 layers
    assert [row['job'] for row in found['rows']] == ['plain', 'ours'] and found['summary']['times_faster'] > 0.5
