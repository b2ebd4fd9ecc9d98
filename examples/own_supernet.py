"""A supernet of one's own: a torch model, the weights that its sizes share, three methods. In this folder:

collm-nas supernet train --supernet own_supernet:Supernet --data digits --epochs 60 --train-batch 32 --out own
collm-nas search --supernet own
"""

from itertools import pairwise

from torch import nn

from collm_nas.images.inputs import Inputs
from collm_nas.spaces.yaml_space import parse


class Net(nn.Module):
    """The model, of any hidden widths."""

    def __init__(self, widths):
        super().__init__()
        sizes = [64, *widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


class Supernet:
    """The widest model's weights; a narrower one takes the first rows and columns of each."""

    def __init__(self):
        layer = "{name: w%d, choices: [4, 8, 16, 32]}"
        self.space = parse("name: widths\nvariables: [" + ", ".join(layer % i for i in (1, 2, 3)) + "]", "own_supernet")
        self.state = Net([32, 32, 32]).state_dict()

    def network(self, arch):
        return Net([int(v.choices[c]) for v, c in zip(self.space.variables, arch.choices, strict=True)])

    def weights(self, arch):
        return {k: self.state[k][tuple(map(slice, own.shape))] for k, own in self.network(arch).state_dict().items()}

    def inputs(self, arch):
        return Inputs.small(8, 1)
