"The running average of the autoencoder's parameters, against the recorded official one."
from ccvs.train.pieces import Ema

from .test_ccvs_codec import recorded_codec

PARTS = dict(encoder='net_e', quantizer='net_q', decoder='net_g')   # ours -> theirs


def test_accumulate():
    case, codec = recorded_codec('ema_accumulate')
    call = case.calls['accumulate']
    slow = Ema(codec, call.args['decay'])
    for part, theirs in PARTS.items(): getattr(slow.net, part).load_state_dict(case.weights(f'{theirs}_ema.'))
    slow.update(codec)
    found = {f'{PARTS[part]}_ema.{name}': value for part in PARTS for name, value in getattr(slow.net, part).named_parameters()}
    assert list(found) == list(call.outputs)                         # parameters only, in the recorded order
    for name, value in found.items(): call.check(name, value)
