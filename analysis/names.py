"""How methods, models and lists are written in the report; an unknown name is shown as it is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.words import _, pgettext
from ssl_pkg.catalogue import ADAPTATIONS, RANDOM, STAGES, SUPERVISED
from ssl_pkg.run.directory import model_name


@dataclass(frozen=True)
class Model:
    """A model of the study.

    method: trained the encoder. adaptation: made a classifier of the encoder (`probe` or `finetune`); None for a
    pretrained encoder and for the supervised baseline. variant: the swept values, e.g. `temperature=0.1`; empty
    without a sweep. study: the name of the study in a report of several studies; empty in a report of one.
    """

    method: str
    adaptation: str | None = None
    variant: str = ""
    study: str = ""

    @property
    def name(self) -> str:
        """The name in result.json and results.csv: `simclr-probe`."""
        return model_name(self.method, self.adaptation)

    @property
    def full_name(self) -> str:
        """The name with its setting: `simclr-probe (temperature=0.1)`."""
        return f"{self.name} ({self.setting})" if self.setting else self.name

    @property
    def setting(self) -> str:
        """What distinguishes models of one name: `temperature=0.1`, of several studies `long, temperature=0.1`."""
        return ", ".join(part for part in (self.study, self.variant) if part)

    @property
    def encoder(self) -> "Model":
        """The pretrained encoder that the model contains."""
        return replace(self, adaptation=None)

    @property
    def is_random_probe(self) -> bool:
        """Whether it is the probe on the random initialisation."""
        return self.method == RANDOM and self.adaptation == "probe"

    def label(self, titles: Mapping[str, str]) -> str:
        """The name for people: `SimCLR probe`, in a sweep `SimCLR (temperature=0.1) probe`.

        titles: as for `method_label`.
        """
        encoder = method_label(self.method, titles) + (f" ({self.setting})" if self.setting else "")
        if self.adaptation is None:
            return encoder
        adaptation = _(STAGES[self.adaptation].label) if self.adaptation in ADAPTATIONS else self.adaptation
        return _("{encoder} {adaptation}", encoder=encoder, adaptation=adaptation)


_LONGEST, _SHOWN = 8, 6  # a longer list in a sentence shows so many; tables have all


def method_label(method: str, titles: Mapping[str, str]) -> str:
    """A method's name for people: `MoCo v2`.

    titles: the title of each method; a method without one is shown by its name.
    """
    return {RANDOM: _("Random init."), SUPERVISED: _("Supervised")}.get(method) or titles.get(method, method)


def in_order(models: Iterable[Model], methods: Sequence[str]) -> list[Model]:
    """Models without duplicates in the report's order: random, supervised, then the methods in their order.

    The variants of a method are sorted by the numbers in them; the probe precedes the fine-tuned model. The same model
    of several studies follows itself.
    """
    first = [RANDOM, SUPERVISED, *(name for name in methods if name != SUPERVISED)]
    adaptations = [None, *ADAPTATIONS]

    def rank(model: Model) -> tuple[int, list[tuple[float, str]], list[tuple[float, str]], int, str]:
        place = first.index(model.method) if model.method in first else len(first)
        adaptation = adaptations.index(model.adaptation) if model.adaptation in adaptations else len(adaptations)
        return place, _natural(model.method), _natural(model.variant), adaptation, model.study

    return sorted(set(models), key=rank)


def counterpart(model: Model, known: Iterable[Model]) -> Model | None:
    """The model of `known` that differs from `model` at most in the variant, and has the most of its swept values.

    In a sweep each model has only the values that concern it or what it starts from: `simclr-finetune` with the variant
    `temperature=0.1,epochs=10` has the encoder `simclr` with `temperature=0.1`, and the baseline with `epochs=10`. None
    if `known` has only models with other values.
    """
    words = {"", *model.variant.split(",")}
    alike = (other for other in known if replace(other, variant=model.variant) == model)
    return max((other for other in alike if words.issuperset(other.variant.split(","))), key=_swept, default=None)


def _swept(model: Model) -> int:
    return len([word for word in model.variant.split(",") if word])


def _natural(text: str) -> list[tuple[float, str]]:
    """A sort key that compares the numbers in texts by value: 0.1 before 0.15, 2 before 10, 1e_5 before 3e_4.

    Variants are parts of folder names, in which an exponent's sign is an underscore.
    """
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+_-]?\d+)?)", text)
    return [(float(part.replace("_", "-")), "") if place % 2 else (-1.0, part) for place, part in enumerate(parts)]


def listed(parts: Iterable[str]) -> str:
    """The parts joined as `a, b and c`, without duplicates and empty parts; of many, the first and how many more."""
    unique = [part for part in dict.fromkeys(parts) if part]
    if len(unique) < 2:
        return "".join(unique)
    if len(unique) > _LONGEST:
        return _shortened(unique)
    comma, last = _separators(unique)
    return comma.join(unique[:-1]) + last + unique[-1]


def separated(parts: Sequence[str]) -> str:
    """The parts joined as `a, b, c`; of many, the first and how many more."""
    return _shortened(parts) if len(parts) > _LONGEST else _separators(parts)[0].join(parts)


def _shortened(parts: Sequence[str]) -> str:
    shown = _separators(parts)[0].join(parts[:_SHOWN])
    return _("{shown} and {count} more", shown=shown, count=len(parts) - _SHOWN)


def _separators(parts: Iterable[str]) -> tuple[str, str]:
    """What is between the parts, and before the last one; a language may need others if a part has a comma."""
    if any("," in part for part in parts):
        return pgettext("between parts with commas", ", "), pgettext("between parts with commas", " and ")
    return ", ", _(" and ")
