"""The deterministic image and weights behind the golden values of the specification's appendix B."""
import torch
from torch import Tensor, nn


def wave(offset: float, *shape: int) -> Tensor:
    "sin(0.05 (x + 1)(c + 1) + 0.07 (y + 1) + b + offset), shape (B, C, H, W)."
    b, c, y, x = torch.meshgrid(*map(torch.arange, shape), indexing='ij')
    return torch.sin(.05 * (x + 1) * (c + 1) + .07 * (y + 1) + b + offset)


def fill(net: nn.Module) -> nn.Module:
    "Parameter of rank n by name, element j: A sin(12.9898 j + 78.233 n), A = 0.1 for a bias, else 1."
    for rank, (name, p) in enumerate(sorted(net.named_parameters())):
        j = torch.arange(p.numel(), dtype=torch.double)
        p.data.copy_((torch.sin(12.9898 * j + 78.233 * rank) * (.1 if name.endswith('.bias') else 1)).view(p.shape))
    return net
