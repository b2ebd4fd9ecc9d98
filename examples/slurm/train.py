"""One evaluation: a line of `collm-nas ask` on stdin, a line for `collm-nas tell` on stdout. Put your training here."""

import json
import sys
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

line = sys.stdin.readline()
if not line:
    sys.exit()  # the budget is used up: there was nothing to ask for
asked = json.loads(line)
chosen = asked["choices"]

images, labels = load_digits(return_X_y=True)
images, held_out, labels, truth = train_test_split(images / 16, labels, test_size=0.3, random_state=0, stratify=labels)
network = MLPClassifier(
    [int(chosen[name]) for name in ("width1", "width2") if name in chosen],
    activation=chosen["activation"],
    alpha=float(chosen["decay"]),
    max_iter=20,
    random_state=0,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # twenty epochs are what each gets
    network.fit(images, labels)
print(json.dumps({"arch": asked["arch"], "fitness": 100 * network.score(held_out, truth)}))
