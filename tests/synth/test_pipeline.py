"What users call: shapes, streaming without growth, files, errors, and answers that do not depend on the company they keep."
import gc
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context

import pytest
import torch

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.core.seed import torch_rng
from ccvs.prior.transformer import TransformerCfg, build_transformer
from ccvs.synth import from_pretrained, load
from ccvs.synth.pipeline import Predictor, PredictorCfg, as_bytes, as_clip, futures, reconstruct
from ccvs.synth.sampling import SamplingCfg
from ccvs.synth.saved.predictor import load_codec, save_codec

CODEC = FrameCodecCfg(16, (8, 8, 8), latent_width=8, codes=24, motion_widths=(8, 8, 8))
TRANSFORMER = TransformerCfg(vocab=24, layers=2, heads=2, width=16, grid=(4, 4), frames=5, capacity=80)
CFG = PredictorCfg(SamplingCfg(top_k=8, slide=2), memory=2, offsets=(1, 2), given=2)


pytestmark = pytest.mark.usefixtures('one_thread')


def toy(codec_cfg, transformer_cfg):
    "Random weights, spread so that codes vary and everything given matters."
    torch.manual_seed(0)
    codec, transformer, source = build_frame_codec(codec_cfg), build_transformer(transformer_cfg), torch_rng(0, 'toy')
    with torch.no_grad():
        frames = torch.randint(256, (32, 3, *codec_cfg.frame_size), generator=source).float() / 127.5 - 1
        feats = codec.encode(frames).feats.movedim(1, -1).flatten(0, -2)
        codec.quantizer.embedding.weight.copy_(feats[torch.randperm(len(feats), generator=source)[:24]])
        for name, p in transformer.named_parameters():
            if 'ln' not in name: p.normal_(0, 1 if 'emb' in name else 3 / p.shape[-1] ** .5 if p.ndim > 1 else .1, generator=source)
    return Predictor(codec, transformer, CFG)


@pytest.fixture(scope='module')
def model(): return toy(CODEC, TRANSFORMER)


def clips(*shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch_rng(1, *shape))


@pytest.mark.parametrize('samples', [None, 1, 3])
@pytest.mark.parametrize('batch', [None, 2])
def test_shapes(model, batch, samples):
    lead = () if batch is None else (batch,)
    made = model.predict(clips(*lead, 2, 3, 16, 16), length=4, samples=samples)
    assert made.shape == (*lead, *(() if samples is None else (samples,)), 4, 3, 16, 16) and made.dtype == torch.uint8


def test_the_toy_is_no_degenerate_example(model):
    "Samples, seeds and given frames all matter."
    given = clips(2, 3, 16, 16)
    made = model.predict(given, length=3, samples=4)
    assert len({bytes(future.numpy()) for future in made}) == 4
    assert not torch.equal(made[0], model.predict(given, length=3, seed=1))
    assert not torch.equal(made[0], model.predict(255 - given, length=3))
    assert not torch.equal(made[:1], model.predict(given, 3, 1, sampling=SamplingCfg(greedy=True)))


def test_a_clip_is_predicted_alike_alone_and_in_company(model):
    "Up to one grey level: batches may be summed in another order before rounding."
    given = clips(3, 2, 3, 16, 16)
    together = model.predict(given, length=6, samples=2)
    for row in range(3):
        alone = futures(model, as_clip(given[row], (16, 16)), 6, samples=2, first_sample=2 * row)
        assert (together[row].int() - as_bytes(torch.stack(list(alone), 1)).int()).abs().max() <= 1
    assert (model.predict(given[0], length=6).int() - together[0, 0].int()).abs().max() <= 1


@pytest.mark.parametrize('given', [1, 2, 5, 7])
def test_streaming_gives_what_predict_gives(model, given):
    "Short and long beginnings; the window slides twice."
    frames = clips(given, 3, 16, 16)
    assert torch.equal(torch.stack(list(model.stream(frames, length=9, seed=4))), model.predict(frames, length=9, seed=4))
    endless = model.stream(frames, seed=4)
    assert torch.equal(torch.stack(list(islice(endless, 3))), model.predict(frames, length=3, seed=4))


def alive():
    "Bytes of all tensors, each storage once, and the number of objects."
    gc.collect()
    objects = gc.get_objects()
    tensors = [x for x in objects if issubclass(type(x), torch.Tensor)]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values()), len(objects)


def stream_a_thousand():
    "What is alive after 50 and after 999 frames of a stream of 1,000."
    torch.set_num_threads(1)
    model = toy(replace(CODEC, size=8, widths=(4, 4, 4), latent_width=4, motion_widths=(4, 4, 4)),
                replace(TRANSFORMER, layers=1, heads=1, width=8, grid=(2, 2), capacity=20))
    stream = model.stream(clips(2, 3, 8, 8), length=1000)
    for _ in islice(stream, 50): pass
    early = alive()
    for _ in islice(stream, 949): pass
    late = alive()
    assert len(list(stream)) == 1
    return early, late


def test_a_thousand_frames_in_constant_memory():
    "One thing kept per frame would make 950 more; in a process of its own, where no other test leaves objects behind."
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool: early, late = pool.submit(stream_a_thousand).result()
    assert late[0] <= early[0] and late[1] < early[1] + 475, f'(bytes of tensors, objects) grew from {early} to {late}'


def test_saved_and_loaded_it_is_the_same_model(model, tmp_path):
    folder = model.save_pretrained(tmp_path / 'new' / 'folder', card='# a toy')
    assert sorted(path.name for path in folder.iterdir()) == ['card.md', 'codec.safetensors', 'config.json', 'transformer.safetensors']
    again = from_pretrained(folder)
    assert again.cfg == model.cfg and again.codec.cfg == CODEC and again.transformer.cfg == TRANSFORMER
    for found, wanted in zip(again.parameters(), model.parameters(), strict=True): assert torch.equal(found, wanted)
    given = clips(2, 3, 16, 16)
    assert torch.equal(load(folder).predict(given, length=4), model.predict(given, length=4))
    assert not any(p.requires_grad for p in again.parameters()) and not again.training


def test_half_the_bytes_and_nearly_the_same_weights(model, tmp_path):
    full, half = model.save_pretrained(tmp_path / 'full'), model.save_pretrained(tmp_path / 'half', half=True)
    def size(folder): return sum(path.stat().st_size for path in folder.glob('*.safetensors'))
    assert size(half) < .7 * size(full)                                              # the headers stay
    for found, wanted in zip(from_pretrained(half).parameters(), model.parameters(), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-3, atol=1e-7)     # 11 bits of mantissa


def test_a_codec_alone(model, tmp_path):
    save_codec(model.codec, tmp_path)
    again = load_codec(tmp_path)
    clip = as_clip(clips(1, 4, 3, 16, 16), (16, 16))
    assert torch.equal(reconstruct(again, clip, CFG), reconstruct(model.codec, clip, CFG))
    with pytest.raises(FileNotFoundError, match='train_codec'): load_codec(tmp_path / 'elsewhere')


@pytest.mark.parametrize('name', ['config.json', 'codec.safetensors', 'transformer.safetensors'])
def test_a_missing_file_is_named(model, tmp_path, name):
    (model.save_pretrained(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'lacks {name}'): from_pretrained(tmp_path)


def cut(path): path.write_bytes(path.read_bytes()[:-100])
def scribble(path): path.write_bytes(b'not what it says')
def edit(path): path.write_text(json.dumps(json.loads(path.read_text()) | dict(codec=dict(size=16, depth=3))))
def empty(path): path.write_text('{}')
def resize(path):
    config = json.loads(path.read_text())
    config['transformer']['width'] = 24
    path.write_text(json.dumps(config))


@pytest.mark.parametrize('damage, name, said', [
    (resize, 'config.json', 'transformer.safetensors'), (edit, 'config.json', 'depth'),
    (scribble, 'config.json', 'config.json'), (empty, 'config.json', 'config.json'),
    (cut, 'codec.safetensors', 'codec.safetensors'), (scribble, 'transformer.safetensors', 'transformer.safetensors')])
def test_a_wrong_file_gives_one_clear_sentence(model, tmp_path, damage, name, said):
    damage(model.save_pretrained(tmp_path) / name)
    with pytest.raises(ValueError, match=said): from_pretrained(tmp_path)


def test_parts_that_do_not_belong_together(model):
    other = build_transformer(TransformerCfg(vocab=25, layers=1, heads=1, width=8, grid=(4, 4), frames=5, capacity=80))
    with pytest.raises(ValueError, match='do not belong together'): Predictor(model.codec, other, CFG)


def test_a_name_nobody_knows():
    with pytest.raises(FileNotFoundError, match='no model'): load('worlds/atlantis')
    with pytest.raises(FileNotFoundError, match='no model'): load('./atlantis')


@pytest.mark.parametrize('frames', [torch.zeros(2, 3, 16, 16), clips(3, 16, 16), clips(2, 4, 16, 16), clips(2, 16, 16, 3), clips(0, 3, 16, 16),
                                    clips(2, 3, 16, 16).short()], ids=['float', 'one frame', 'alpha', 'channels last', 'empty', 'int16'])
def test_frames_of_the_wrong_kind(model, frames):
    with pytest.raises(ValueError, match='expected uint8 frames'): model.predict(frames)


@pytest.mark.parametrize('height, width', [(17, 31), (16, 40), (9, 7), (240, 321)])
def test_frames_of_any_size(model, height, width):
    given = clips(2, 3, height, width)
    assert model.predict(given, length=2).shape == (2, 3, 16, 16)
    assert model.predict(given.numpy(), length=2).shape == (2, 3, 16, 16)
    lit = as_clip(torch.full((1, 3, height, width), 255, dtype=torch.uint8), (16, 16))
    assert torch.equal(lit, torch.ones(1, 1, 3, 16, 16))


def test_bytes_survive_the_round_trip_and_nothing_wraps():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(as_bytes(as_clip(every, (16, 16)))[0], every)
    assert as_bytes(torch.tensor([-3., -1., 0., 1., 3.])).tolist() == [0, 0, 128, 255, 255]


def test_reconstruction_needs_what_is_given(model):
    clip = clips(5, 3, 16, 16)
    assert model.reconstruct(clip).shape == (4, 3, 16, 16) and model.reconstruct(clip[None], given=2).shape == (1, 3, 3, 16, 16)
    changed = clip.clone()
    changed[0] = 0
    assert not torch.equal(model.reconstruct(clip)[0], model.reconstruct(changed)[0])          # the memory is used
    late = clip.clone()
    late[4] = 0
    assert torch.equal(model.reconstruct(clip)[:3], model.reconstruct(late)[:3])               # and the future is not
