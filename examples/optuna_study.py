"""An Optuna study searched by the two language models: a small perceptron on scikit-learn's digits.

python optuna_study.py 30 sqlite:///digits.db

Run it in as many shells as you like: they work on one study, and none tries what another has tried. Any dashboard of
Optuna shows it.
"""

import sys
import warnings

import optuna
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from collm_nas import CollmSampler

images, labels = load_digits(return_X_y=True)
images, held_out, labels, truth = train_test_split(images / 16, labels, test_size=0.3, random_state=0, stratify=labels)


def accuracy(trial):
    widths = [trial.suggest_categorical(f"width{i}", [4, 8, 16, 32, 64]) for i in (1, 2)]
    network = MLPClassifier(
        widths[: trial.suggest_int("layers", 1, 2)],
        activation=trial.suggest_categorical("activation", ["relu", "tanh", "logistic"]),
        alpha=trial.suggest_categorical("decay", [1e-4, 1e-2, 1.0]),
        max_iter=20,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # twenty epochs are what each gets
        network.fit(images, labels)
    trial.set_constraint("weights", sum(w.size for w in network.coefs_) - 3000)
    return network.score(held_out, truth)


if __name__ == "__main__":
    trials, storage = int(sys.argv[1]), sys.argv[2]
    study = optuna.create_study(
        study_name="digits",
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        sampler=CollmSampler(seed=0),
    )
    study.optimize(accuracy, n_trials=trials)
    print(f"{study.best_value:.4f}", study.best_params)
