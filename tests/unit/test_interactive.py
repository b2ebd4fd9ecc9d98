"""A user between the Navigator and the search."""

from collections.abc import Callable

from collm_nas import hints, spaces
from collm_nas.api import Completion, Request
from collm_nas.interactive import Interactive, follow, summary
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Direction, Strategy

SPACE: CategoricalSpace = spaces.load("cifar-stages")


def plan() -> Strategy:
    anchors = tuple(SPACE.make([0, 0, k, 0, 0, 0, 0]) for k in range(3))
    return Strategy(anchors, tuple(Direction(0, 1, 1) for _ in SPACE.variables), 2, 3)


class Model:
    """Always the same strategy."""

    def describe(self) -> dict[str, object]:
        return {"engine": "fixed"}

    def generate(self, request: Request) -> list[Completion]:
        return [Completion(plan().compact(SPACE), 9, 1, 0.0, logp=-1.0) for _ in range(request.n)]


def asked(role: str, *lines: str) -> tuple[list[str], list[str]]:
    """The answers' texts with the user typing these lines, then nothing more; and what was shown."""
    said: list[str] = []
    engine = Interactive(Model(), SPACE, typing(*lines), said.append)
    request = Request(role=role, prompt="", n=2, seed=0, temperature=1.0, max_tokens=9)  # type: ignore[arg-type]
    return [answer.text for answer in engine.generate(request)], said


def typing(*lines: str) -> Callable[[str], str]:
    rest = list(lines)

    def ask(_: str) -> str:
        if not rest:
            raise EOFError
        return rest.pop(0)

    return ask


def test_enter_and_the_end_of_the_input_change_nothing() -> None:
    texts, said = asked("navigator", "")
    assert texts == [plan().compact(SPACE)] * 2
    assert said[0].startswith("Enter goes on") and summary(plan(), SPACE) in said
    assert asked("generator")[1] == []


def test_a_line_changes_the_strategy_and_a_wrong_one_says_why() -> None:
    texts, said = asked("navigator", "kernle 7", "prefer kernel 7", "avoid expand 2 last", "")
    first, second = (Strategy.parse(text, SPACE) for text in texts)
    assert second == plan()
    assert first.directions[2] == Direction(2, 2, 3) and first.directions[6] == Direction(1, 2, 1)
    assert {arch.choices[2] for arch in first.anchors} == {2} and {arch.choices[6] for arch in first.anchors} == {1}
    assert any(line.startswith("'kernle 7': 'kernle' is neither a variable nor a choice") for line in said)
    assert "nearly settled: kernel 7" in said[-2] or "nearly settled: kernel 7" in said[-3]


def test_an_anchor_of_ones_own_comes_first() -> None:
    own = SPACE.make([2, 2, 2, 2, 2, 2, 2])
    texts, _ = asked("navigator", f"anchor {SPACE.format(own)}", "")
    assert Strategy.parse(texts[0], SPACE).anchors == (own, *plan().anchors[:2])


def test_what_is_inactive_stays_canonical() -> None:
    space = spaces.load("ofa-mbv3")
    arch = next(space.all())
    old = Strategy((arch,) * 3, tuple(Direction(0, 0, 0) for _ in space.variables), 0, 0)
    new = follow(old, hints.read("kernel 7", space), space)
    assert all(space.parse(space.format(one)) == one and one != arch for one in new.anchors)
