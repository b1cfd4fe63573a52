"The Fréchet distance of the CCVS tool, against the recorded official one."
import torch

from ccvs.metrics.frechet.distance import frechet_distance

from .cases import load_case


def test_distance():
    call = load_case('ccvs/metrics_frechet').calls['distance']
    call.check('distance', torch.tensor(frechet_distance(call.inputs['a'], call.inputs['b'])))
