import numpy as np
import pytest
import torch

from ssl_pkg.config.schema import View
from ssl_pkg.data.images import Split
from ssl_pkg.errors import BadInput
from ssl_pkg.training.batches import ViewBatches

PLAIN = View(crop_area=(1.0, 1.0), flip=0.0)
RANDOM = View(crop_area=(0.2, 1.0), flip=0.5)
MIRRORED = View(crop_area=(1.0, 1.0), flip=1.0)


def batches(views: list[View], seed: int = 0, count: int = 20, batch_size: int = 6, passes: int = 1) -> ViewBatches:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
    split = Split("train", pixels, np.arange(count))
    options = {"resolution": 32, "batch_size": batch_size, "passes": passes, "seed": seed, "resident_gb": 1.0}
    return ViewBatches(split, views, device=torch.device("cpu"), **options)


def test_an_epoch_takes_each_sample_once_and_drops_the_incomplete_batch() -> None:
    source = batches([PLAIN])
    assert source.steps_per_epoch == 3
    epochs = [torch.cat([source(3 * epoch + i)[1] for i in range(3)]).tolist() for epoch in range(2)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_an_epoch_of_several_passes_takes_the_same_steps_as_so_many_epochs() -> None:
    once, often = batches([RANDOM]), batches([RANDOM], passes=2)
    assert (once.steps_per_epoch, often.steps_per_epoch) == (3, 6)
    for step in range(7):
        (view,), labels = once(step)
        (again,), same = often(step)
        assert torch.equal(view, again)
        assert torch.equal(labels, same)
        assert len(set(labels.tolist())) == 6  # no image twice in a batch


def test_the_views_of_a_step_do_not_depend_on_earlier_calls() -> None:
    straight, jumping = batches([RANDOM, RANDOM]), batches([RANDOM, RANDOM])
    expected = [straight(step) for step in range(7)]
    for step in (6, 2, 5):
        views, labels = jumping(step)
        assert torch.equal(labels, expected[step][1])
        assert all(torch.equal(a, b) for a, b in zip(views, expected[step][0], strict=True))


def test_views_differ_within_a_batch_between_seeds_and_between_epochs() -> None:
    first, second = batches([RANDOM, RANDOM])(0)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(batches([RANDOM], seed=1)(0)[0][0], first)
    source = batches([RANDOM], count=12)
    by_label = [
        {int(name): view for views, names in map(source, steps) for view, name in zip(views[0], names, strict=True)}
        for steps in ((0, 1), (2, 3))  # of an epoch
    ]
    assert len(by_label[0]) == len(by_label[1]) == 12
    assert not any(torch.equal(view, by_label[1][name]) for name, view in by_label[0].items())


def test_the_order_and_each_images_views_depend_on_the_seed() -> None:
    sources = [batches([RANDOM], seed=seed, count=12) for seed in (0, 1)]
    orders, by_label = [], []
    for source in sources:
        made = [source(step) for step in (0, 1)]
        orders.append(torch.cat([labels for _, labels in made]).tolist())
        assert orders[-1] == [*source.indices(0).tolist(), *source.indices(1).tolist()]
        by_label.append(dict(zip(orders[-1], torch.cat([views[0] for views, _ in made]), strict=True)))
    assert orders[0] != orders[1]
    assert not any(torch.equal(view, by_label[1][label]) for label, view in by_label[0].items())


def test_each_view_has_its_own_distribution() -> None:
    first, second = batches([PLAIN, MIRRORED])(0)[0]
    assert not torch.equal(second, first)
    assert torch.equal(second, first.flip(3))


def test_labels_belong_to_their_images() -> None:
    source = batches([PLAIN], count=12)
    views, labels = source(1)
    whole = {int(label): view for view, label in zip(views[0], labels, strict=True)}
    again = batches([PLAIN], seed=5, count=12)
    for step in range(2):
        images, names = again(step)
        for image, name in zip(images[0], names, strict=True):
            if int(name) in whole:
                torch.testing.assert_close(image, whole[int(name)])


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(BadInput, match=r"method.batch_size=21 is larger than the split train, which has 20 images"):
        batches([PLAIN], batch_size=21)
