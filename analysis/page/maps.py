"""t-SNE maps as points with a class: train and test of every model, and the snapshots of fine-tuning."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.artifacts import Arrays
from analysis.figures import style
from analysis.figures.tsne import FRAMES, JOINT, maps_of
from analysis.names import Model
from analysis.page.plots import SYMBOLS, Plot, View, packed
from analysis.run import Run
from analysis.study import Study
from analysis.words import _

Points = npt.NDArray[Any]
Found = Mapping[Model, tuple[Run, Arrays]]
_MOST: Final = 600_000  # points in the file, about 3 MB: more are drawn at random
_STEPS: Final = 32_000  # of the map's reach, so that a coordinate is an int16


def maps(study: Study) -> list[Plot]:
    """The maps of train and test of each model, in a view each."""
    found = maps_of(study, *JOINT)
    most = _share(found, JOINT)
    views = []
    for model, (run, arrays) in found.items():
        reach = _reach(arrays["train"], arrays["test"])
        predicted = _predicted(study, model, run, arrays["test_labels"])
        images = arrays["test"], arrays["test_labels"]
        frames = [
            _frame(_("Train"), "train", arrays["train"], arrays["train_labels"], reach=reach, most=most),
            _frame(_("Test"), "test", *images, reach=reach, most=most, predicted=predicted),
        ]
        views.append(View(study.model_label(model), {"frames": frames}, [run]))
    caption = _(
        "t-SNE of the average-pool output (512 values) of train and test images, which share one map; first seed. The "
        "embedding of a probe is that of its frozen encoder. Numbers count the images in the order of the run's "
        "embeddings. Islands of one colour are classes that the embedding separates; the sizes of islands and the "
        "distances between them have little meaning."
    )
    classes = _classes(study, _count(found, "train_labels", "test_labels"))
    return _plots("tsne", _("t-SNE of the embeddings"), caption, views, classes)


def snapshots(study: Study) -> list[Plot]:
    """The aligned maps of the same test images during fine-tuning."""
    found = maps_of(study, *FRAMES)
    most = _share(found, FRAMES)
    views = []
    for model, (run, arrays) in found.items():
        reach = _reach(*arrays["frames"])
        frames = [
            _frame(_("step {step:,}", step=int(step)), "frames", points, arrays["frame_labels"], reach=reach, most=most)
            for step, points in zip(arrays["frame_steps"], arrays["frames"], strict=True)
        ]
        views.append(View(study.model_label(model.encoder), {"frames": frames}, [run]))
    caption = _(
        "t-SNE of the same test images during fine-tuning, from before the first step to after the last; first seed. "
        "The maps are aligned and share their axes. Move the slider: classes that move apart are being separated by "
        "the labels."
    )
    title = _("Movement of the embeddings during fine-tuning")
    return _plots("tsne-finetuning", title, caption, views, _classes(study, _count(found, "frame_labels")))


def _classes(study: Study, count: int) -> list[str]:
    """The names of the classes, of at least `count`."""
    known = next((run.classes for run in study.complete("embed") if run.classes), [])
    return [
        known[label] if label < len(known) else _("class {label}", label=label)
        for label in range(max(count, len(known)))
    ]


def _plots(name: str, title: str, caption: str, views: list[View], classes: list[str]) -> list[Plot]:
    """The figure, with a look for each class; nothing without views."""
    if not views:
        return []
    looks = [style.class_look(label) for label in range(len(classes))]
    more = {
        "classes": classes,
        "colors": [color for color, _marker in looks],
        "symbols": [SYMBOLS[marker] for _color, marker in looks],
        "slider": name == "tsne-finetuning",
    }
    return [Plot(name, title, caption, views, choice=_("Model"), kind="points", height=560, more=more)]


def _count(found: Found, *labels: str) -> int:
    """One more than the largest label."""
    return 1 + max((int(arrays[name].max()) for _run, arrays in found.values() for name in labels), default=-1)


def _share(found: Found, needed: tuple[str, ...]) -> int:
    """How many points a frame may have, so that all together are not more than _MOST."""
    frames = sum(len(arrays["frames"]) if needed is FRAMES else 2 for _run, arrays in found.values())
    return _MOST // max(frames, 1) // 2  # two kinds of maps


def _frame(
    label: str,
    name: str,
    points: Points,
    labels: Points,
    *,
    reach: float,
    most: int,
    predicted: Points | None = None,
) -> dict[str, Any]:
    """Coordinates as integers, with the class, the number and, if known, the predicted class of each point."""
    kept = np.sort(np.random.default_rng(0).permutation(len(points))[:most])
    places = np.round(points[kept].astype(float) * (_STEPS / reach)).astype(np.int16)
    return {
        "label": label,
        "map": name,
        "x": packed(places[:, 0]),
        "y": packed(places[:, 1]),
        "classes": packed(_small(labels[kept])),
        "numbers": None if len(kept) == len(points) else packed(kept.astype(np.uint32)),
        "predicted": None if predicted is None else packed(_small(predicted[kept])),
    }


def _small(labels: Points) -> Points:
    return labels.astype(np.uint8 if labels.max() < 256 else np.uint16)


def _reach(*maps: Points) -> float:
    return float(max(np.abs(points).max() for points in maps)) or 1.0


def _predicted(study: Study, model: Model, run: Run, labels: Points) -> Points | None:
    """The predicted classes of the test images, if the predictions are of the same images."""
    arrays = study.predictions(model, "test").get(run.seed)
    if arrays is None or not np.array_equal(arrays["labels"], labels):
        return None
    found: Points = arrays["logits"].argmax(axis=1)
    return found
