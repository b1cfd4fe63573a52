"Whole clips: encode, sample, decode, convert, as the official program does it (CCVS spec 10.1)."
import pytest
import torch

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.control.end_frame import end_prefix
from ccvs.control.label import label_prefix
from ccvs.control.layout import join_prefixes, start_prefix
from ccvs.control.trajectory import seen_tokens
from ccvs.prior.transformer import build_transformer
from ccvs.synth.pipeline import encode_clip
from ccvs.synth.results import official_bytes
from ccvs.synth.rollout import rollout
from ccvs.synth.sampling import stream_tokens

from .cases import load_case
from .test_ccvs_pose_sound import pose_of, sound_codec_of
from .test_ccvs_transformer import sampling_of, transformer_cfg

CASES = ['gen_prediction', 'gen_p2p', 'gen_state', 'gen_sound', 'gen_class', 'gen_unconditional']

pytestmark = pytest.mark.usefixtures('one_thread')


def codec_of(case):
    "The frame codec of a generation case, loaded strictly."
    o = case.options
    cfg = FrameCodecCfg((o['max_dim'], int(o['max_dim'] * o['aspect_ratio'])), tuple(o['q_necf'] * m for m in o['q_necf_mult']), o['q_z_size'],
                        o['q_z_num'], o['q_inter_p'], memory=o['q_use_inter'])
    codec = build_frame_codec(cfg).eval()
    for part, name in ((codec.encoder, 'e'), (codec.quantizer, 'q'), (codec.decoder, 'g')): part.load_state_dict(case.weights(f'vid_model.net_{name}.'))
    return codec


def transformer_of(case):
    state = case.weights('transformer_model.net_t.')
    net = build_transformer(transformer_cfg(case.options | dict(categories=range(len(state.get('lbl_emb.weight', ()))))))
    net.load_state_dict(state)
    return net.eval()


def control_of(case, call, codec, codes):
    "The control tokens (B, T, S) of the whole real clip, or None."
    if case.options['x_state']:
        z_q = codec.lookup(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        return seen_tokens(pose_of(case, 'state_model.'), z_q)
    return sound_codec_of(case, 'stft_model.').encode(call.inputs['stft']) if case.options['x_stft'] else None


def generated(case, call):
    "Everything that was recorded of one run of the official generator."
    codec, net, o, clip = codec_of(case), transformer_of(case), call.options, call.inputs['vid']
    codes, cfg = encode_clip(codec, clip), net.cfg
    count, length = o['x_cond_len'] // cfg.frame_tokens, o['vid_len'] - o['x_p2p']
    control = control_of(case, call, codec, codes)
    told = None if control is None else control if o.get('keep_state') else control[:, :count]
    parts = [label_prefix(call.inputs['vid_lbl'], cfg)] if o['x_cat'] else []
    parts.append(start_prefix(cfg, len(clip), clip.device))
    if o['x_p2p']: parts.append(end_prefix(codes[:, -1], o['vid_len'] - 1, cfg))
    decode = lambda frames: rollout(codec, frames, clip[:, :count] if count else None, memory=o['q_skip_memory'], offsets=tuple(o['q_skip_context']),
                                    keep_first=o['q_n_first'] if o['q_keep_first'] else 0, end=clip[:, count - 1] if o['x_p2p'] else None)  # B2
    latest, tokens = {}, []

    def stream():
        yield from codes[:, :count].unbind(1)
        again = (lambda _: encode_clip(codec, latest['frame'][:, None])[:, 0]) if o.get('step_by_step') else None
        for made in stream_tokens(net, codes[:, :count].flatten(1), length - count, cfg=sampling_of(o), prefix=join_prefixes(*parts), control=told, feedback=again):
            tokens.append(made)
            if again and len(tokens) > 1: window[-1] = again(None)     # what the one before is remembered by
            window.append(made.codes)
            yield made.codes

    window, frames = list(codes[:, :count].unbind(1)), []
    with torch.no_grad():
        for frame in decode(stream()):
            latest['frame'] = frame
            frames.append(frame)
        rec = list(decode(codes[:, :length].unbind(1)))
    return frames, rec, window, tokens, control


@pytest.mark.parametrize('case, call', [pytest.param(case, call, id=f'{name}-{call.name}') for name in CASES
                                        for case in [load_case(f'ccvs/{name}')] for call in case.calls.values()])
def test_generation(case, call):
    clip, o = call.inputs['vid'], call.options
    frames, rec, window, tokens, control = generated(case, call)
    if o['x_p2p']: frames, rec = frames + [clip[:, -1]], rec + [clip[:, -1]]
    codes = torch.stack(window, 1)
    count = codes.shape[1] - len(tokens)
    if o.get('step_by_step'):
        codes = codes[:, -(o['x_z_len'] // o['x_z_chunk']):]                         # recorded are the last window
        frames[:count] = clip[:, :count].unbind(1)                                   # and the given frames as they were given
    found = {'generated/code': codes.flatten(1), 'fake': torch.stack(frames, 1), 'rec': torch.stack(rec, 1)}
    if control is not None: found['generated/state_code'] = torch.cat([control[:, :count], *(made.control[:, None] for made in tokens)], 1).flatten(1)
    for name in call.outputs:
        if not name.startswith('u8/'): call.check(name, found[name])
        else:
            kind = name.removeprefix('u8/').removesuffix('_state')   # recorded without the crosses that mark the state
            call.check(name, official_bytes(clip if kind == 'real' else found[kind]).movedim(2, -1))


def test_bytes():
    for call in load_case('ccvs/gen_frames').calls.values():
        call.check('u8', official_bytes(call.inputs['vid'], call.args['imagenet_norm']).movedim(2, -1))
