"Official CCVS checkpoints: read safely and strictly, complete, and models like any other afterwards."
import pickle
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from ccvs.compat.ccvs_checkpoints import FIXUPS, PARTS, fit_weights, network_file, read_codec, read_pose, read_state, read_transformer
from ccvs.compat.ccvs_options import DEAD, codec_cfg, critic_cfg, parse_options, pose_cfg, read_options, refuse_dead, resolved, sound_cfg, \
    transformer_cfg, unpickle_options
from ccvs.compat.official import convert, fold_range, is_official, read_predictor, synthesis_cfg
from ccvs.codec.frame import build_frame_codec
from ccvs.codec.sound import build_sound_codec
from ccvs.core.networks import load_net
from ccvs.nn.critics import build_clip_critic, build_image_critic
from ccvs.prior.pose import PoseCfg, build_pose
from ccvs.prior.transformer import build_transformer
from ccvs.synth import load
from ccvs.synth.saved.predictor import load_codec

TREE = Path(__file__).resolve().parents[1] / 'data' / 'parity' / 'ccvs' / 'checkpoint_mini' / 'checkpoints'
CODEC, POSE, PRIOR = sorted(TREE.iterdir())


@pytest.fixture
def tree(tmp_path): return Path(shutil.copytree(TREE, tmp_path / 'checkpoints'))


@pytest.fixture
def clip(): return torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize('run', [CODEC, POSE, PRIOR], ids=lambda run: run.name[20:])
def test_text_and_pickle_of_options_agree(run):
    text, bag = parse_options((run / 'opt.txt').read_text()), unpickle_options(run / 'opt.pkl')
    different = {name for name in text | bag if text.get(name) != bag.get(name)}
    assert different <= {'gpu_ids', 'xb_gpu_ids'}                       # the word '0', which reads as a number
    assert len(text) == 366


class Trap:
    def __reduce__(self): return (Path('ran').touch, ())


@pytest.mark.parametrize('payload', [Trap(), Namespace(a=Trap()), [1, 2], print, torch.ones(1)], ids=['call', 'inside', 'list', 'function', 'tensor'])
def test_a_pickle_that_is_not_plain_options_is_refused(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'opt.pkl').write_bytes(pickle.dumps(payload))
    with pytest.raises(ValueError, match='not a plain pickle of options'): unpickle_options(tmp_path / 'opt.pkl')
    assert not Path('ran').exists()


def test_pickle_alone_is_enough(tree):
    (tree / CODEC.name / 'opt.txt').unlink()
    assert read_codec(tree / CODEC.name).cfg == read_codec(CODEC).cfg


def test_no_options_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match='neither opt.txt nor opt.pkl'): read_options(tmp_path)


def test_every_network_of_the_tree_is_read():
    codec, prior, pose = read_codec(CODEC), read_transformer(PRIOR), read_pose(POSE)
    raw = read_codec(CODEC, ema=False)
    assert any(not torch.equal(a, b) for a, b in zip(codec.parameters(), raw.parameters()))
    assert not any(p.requires_grad for net in (codec, prior, pose) for p in net.parameters())
    labels = {path.name.split('_latest_')[0].split('_best_')[0].removesuffix('_ema') for path in TREE.rglob('*.pth')}
    assert labels <= set(PARTS) | {'qvid_di', 'qvid_dv'}                # critics are not needed to synthesise


def test_latest_best_and_numbers(tree):
    assert network_file(CODEC, 'qvid_g_ema', 'latest') == network_file(CODEC, 'qvid_g_ema', 999)
    assert network_file(POSE, 'state_s', 'best') == network_file(POSE, 'state_s', 120)
    run = tree / PRIOR.name
    shutil.copy(run / 'transformer_t_latest_net_499.pth', run / 'transformer_t_net_200.pth')
    assert network_file(run, 'transformer_t', 200).name == 'transformer_t_net_200.pth'
    assert read_transformer(run, 200).cfg == read_transformer(run).cfg
    with pytest.raises(FileNotFoundError, match='transformer_t_net_201.pth'): network_file(run, 'transformer_t', 201)
    shutil.copy(run / 'transformer_t_latest_net_499.pth', run / 'transformer_t_latest_net_500.pth')
    with pytest.raises(FileNotFoundError, match='keep one'): read_transformer(run)


@pytest.mark.parametrize('alter, said', [
    (lambda state: state.pop('ln_f.weight'), 'ln_f.weight is missing from the file'),
    (lambda state: state.update(extra=torch.ones(1)), 'extra has no place in our network'),
    (lambda state: state.update({'ln_f.weight': torch.ones(3)}), 'ln_f.weight has shape'),
    (lambda state: state.update({'blocks.0.attn.mask': torch.ones(1, 1, 64, 64)}), 'lower triangle'),
])
def test_nothing_unused_nothing_missing(tree, alter, said):
    path = network_file(tree / PRIOR.name, 'transformer_t', 'latest')
    state = read_state(path)
    alter(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=said): read_transformer(tree / PRIOR.name)


def test_another_blur_is_noticed(tree):
    path = network_file(tree / CODEC.name, 'qvid_g_ema', 'latest')
    state = read_state(path)
    key = next(key for key in state if key.endswith('.kernel'))
    torch.save(state | {key: state[key] * 1.1}, path)
    with pytest.raises(ValueError, match='1, 3, 3, 1'): read_codec(tree / CODEC.name)


@pytest.mark.parametrize('payload', [dict(a=Trap()), Trap(), dict(a=1)], ids=['inside', 'call', 'no tensor'])
def test_a_weight_file_with_anything_else_is_refused(tree, monkeypatch, payload):
    monkeypatch.chdir(tree)
    path = network_file(tree / PRIOR.name, 'transformer_t', 'latest')
    torch.save(payload, path)
    with pytest.raises(ValueError, match=path.name): read_transformer(tree / PRIOR.name)
    assert not Path('ran').exists()


def test_a_truncated_weight_file_is_one_sentence(tree):
    path = network_file(tree / PRIOR.name, 'transformer_t', 'latest')
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match='copy it again'): read_transformer(tree / PRIOR.name)


def test_a_codec_that_lies_elsewhere(tree):
    shutil.rmtree(tree / CODEC.name)
    with pytest.raises(FileNotFoundError, match='put that folder beside it'): read_predictor(tree / PRIOR.name)


def test_two_transformers_must_be_told_apart(tree):
    shutil.copytree(tree / PRIOR.name, tree / 'other')
    with pytest.raises(ValueError, match='give the folder of one run'): read_predictor(tree)
    assert read_predictor(tree / 'other').codec.cfg == read_codec(CODEC).cfg


def test_converted_models_give_the_same(tmp_path, clip):
    official = read_predictor(TREE)
    ours = load(convert(TREE, tmp_path / 'ours'))
    assert torch.equal(official.predict(clip, length=5, seed=1), ours.predict(clip, length=5, seed=1))
    assert (ours.codec.cfg, ours.transformer.cfg, ours.cfg) == (official.codec.cfg, official.transformer.cfg, official.cfg)
    alone = load_codec(convert(CODEC, tmp_path / 'parts'))
    pose = load_net(convert(POSE, tmp_path / 'parts'), 'pose', PoseCfg, build_pose)
    assert all(torch.equal(a, b) for a, b in zip(pose.parameters(), read_pose(POSE).parameters()))
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), official.codec.parameters()))


@pytest.mark.parametrize('folder', [TREE, PRIOR], ids=['tree', 'run'])
def test_load_takes_official_folders(folder, clip):
    assert torch.equal(load(folder).predict(clip, length=3, seed=2), read_predictor(TREE).predict(clip, length=3, seed=2))


def test_load_of_a_codec_alone_says_what_is_missing():
    with pytest.raises(ValueError, match='should hold one transformer'): load(CODEC)


def test_a_system_with_a_pose_estimator(tree, clip):
    "As the published BAIR model: the transformer's options name both of its parts, and its weights have control tokens."
    run, options = tree / PRIOR.name, read_options(POSE)
    text = (run / 'opt.txt').read_text()
    for name, value in dict(x_state=True, x_state_num=12, x_state_size=2, s_state_num=options['s_state_num'], s_state_size=2, s_state_hsize=8, x_z_len=72,
                            s_load_path=f'checkpoints/{POSE.name}', dataset='bairhd').items():
        text = re.sub(rf'(?m)^ *{name}: .*$', f'{name:>25}: {value}', text)
    (run / 'opt.txt').write_text(text)
    net = build_transformer(transformer_cfg(read_options(run)))
    torch.save(net.state_dict(), network_file(run, 'transformer_t', 'latest'))
    model = load(tree)
    assert model.pose is not None and (model.transformer.cfg.control_vocab, model.transformer.cfg.control_tokens) == (12, 2)
    assert (model.cfg.memory, model.cfg.sampling.control.top_k) == (15, 10)
    path = torch.tensor([[2., 3.], [5., 5.], [9., 9.]])
    ours = load(convert(tree, tree / 'ours'))
    assert torch.equal(model.predict(clip[:1], length=3, trajectory=path), ours.predict(clip[:1], length=3, trajectory=path))
    shutil.rmtree(tree / POSE.name)
    with pytest.raises(FileNotFoundError, match='s_load_path'): load(tree)


def test_convert_says_what_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match='is no official checkpoint'): convert(tmp_path, tmp_path / 'x')
    assert not is_official(tmp_path) and is_official(TREE) and is_official(CODEC)


def test_imagenet_range_is_folded_into_the_ends(clip):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((.485, .456, .406), (.229, .224, .225)))
    frames = clip.float() / 255
    theirs = read_codec(CODEC)((frames - mean) / std) * std + mean
    torch.testing.assert_close((fold_range(read_codec(CODEC))(frames * 2 - 1) + 1) / 2, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name, memory, keep, given', [('bairhd', 15, 0, 1), ('ucf101', 15, 0, 1), ('kinetics600', 8, 0, 5), ('drums', 15, 8, 15),
                                                       ('drum', 15, 8, 15), ('other', 4, 0, 1)])
def test_memory_of_the_published_scripts(name, memory, keep, given):
    cfg = synthesis_cfg(read_options(PRIOR) | dict(dataset=name))
    assert (cfg.memory, max(cfg.offsets), cfg.keep_first, cfg.given) == (memory, memory, keep, given)


# ---- sizes of the published networks (CCVS spec 3.7, 3.8), built without memory for their weights

CODECS = {'bair': dict(max_dim=256, q_necf=128, q_necf_mult=[1, 1, 2, 2, 4, 4], q_z_num=1024, q_ndcf=64, q_ndcf_mult=[1, 1, 2, 2, 4, 4]),
          'drums': dict(max_dim=128, q_necf=128, q_necf_mult=[1, 1, 2, 2, 4], q_z_num=1024, q_ndcf=64, q_ndcf_mult=[1, 1, 2, 2, 4]),
          'kinetics': dict(max_dim=64, q_necf=256, q_necf_mult=[1, 1, 2, 2], q_z_num=16384, q_ndcf=128, q_ndcf_mult=[1, 1, 2, 2])}
COUNTS = {'bair': (9_179_008, 524_288, 16_099_223, 5_117_121, 13_919_937),
          'drums': (4_197_248, 524_288, 9_934_705, 3_871_425, 10_314_945),
          'kinetics': (8_392_448, 8_388_608, 13_901_019, 4_920_449, 13_379_201)}
SHARED = dict(dim=-1, aspect_ratio=1., q_z_size=512, q_z_shape=[8, 8], q_inter_p=.75, q_use_inter=True, vid_len=4)


def parameters(net): return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize('name', CODECS)
def test_published_codecs_have_the_published_sizes(name):
    options = resolved(SHARED | CODECS[name])
    with torch.device('meta'):
        codec = build_frame_codec(codec_cfg(options))
        critics = [build(critic_cfg(options)) for build in (build_image_critic, build_clip_critic)]
    assert tuple(map(parameters, (codec.encoder, codec.quantizer, codec.decoder, *critics))) == COUNTS[name]


PRIORS = {304_490_496: {}, 304_491_520: dict(x_use_start_token=True), 304_623_616: dict(x_z_len=1056, s_state_num=128, s_state_size=2),
          305_555_456: dict(x_z_len=1280, x_state_num=1024, x_state_size=16), 335_947_776: dict(x_z_num=16384)}


@pytest.mark.parametrize('count', PRIORS)
def test_published_transformers_have_the_published_sizes(count):
    options = resolved(dict(max_dim=256, x_z_num=1024, x_n_layer=24, x_n_head=16, x_n_embd=1024, x_z_shape=[8, 8], x_num_blocks=16, x_z_len=1024,
                            x_use_start_token=False, x_cat=False) | PRIORS[count])
    with torch.device('meta'): net = build_transformer(transformer_cfg(options))
    assert parameters(net) == count


def test_published_pose_and_sound_have_the_published_sizes():
    with torch.device('meta'):
        pose = build_pose(pose_cfg(resolved(dict(max_dim=256, q_z_shape=[8, 8], q_z_size=512, s_state_hsize=128, s_state_num=128, s_state_size=2))))
        sound = build_sound_codec(sound_cfg(dict(a_stft_shape=[8, 2], a_stft_hsize=512, a_stft_size=512, a_stft_num=1024)))
    assert parameters(pose.estimator) == 885_378 and tuple(pose.quantizer.embedding.weight.shape) == (128, 1)
    assert (parameters(sound.encoder), parameters(sound.decoder)) == (9_440_256, 9_439_745)
    assert tuple(sound.quantizer.embedding.weight.shape) == (1024, 512)


@pytest.mark.parametrize('part', DEAD)
def test_dead_options_are_refused_by_name(part):
    for name, (living, section) in DEAD[part].items():
        refuse_dead({name: living}, part)
        with pytest.raises(ValueError, match=f'{name} = .*spec {section}'): refuse_dead({name: 'alive'}, part)


def test_fix_ups_give_reasons():
    assert all(fix.reason for fix in FIXUPS)
    net = torch.nn.Linear(1, 1)
    fit_weights(net, dict(net.state_dict()), 'toy')
