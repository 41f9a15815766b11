import math

import pytest
import torch
import torch.nn.functional as F

from ssl_pkg.config.batch_sizes import queue_share
from ssl_pkg.errors import BadInput
from ssl_pkg.methods.health import representation_health
from ssl_pkg.methods.moco import MoCo, queue_logits
from ssl_pkg.models.encoder import build_encoder


def build(
    batch_size: int = 4, queue_size: int = 12, bn_splits: int = 2, momentum: float = 0.9, *, symmetric: bool = False
) -> MoCo:
    torch.manual_seed(0)
    return MoCo(
        build_encoder(), batch_size,
        projector_hidden=16, projector_out=8, temperature=0.2, queue_size=queue_size, key_momentum=momentum,
        bn_splits=bn_splits, symmetric=symmetric,
    )  # fmt: skip


def views(seed: int = 1, count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 3, 32, 32, generator=generator) for _ in range(2)]


def test_logits_equal_a_loop_over_queries_and_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (
        F.normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64), dim=1) for n in (3, 3, 7)
    )
    logits = queue_logits(query, key, queue, 0.2)
    for i in range(3):
        dots = [float(query[i] @ key[i])] + [float(query[i] @ negative) for negative in queue]
        assert logits[i].tolist() == pytest.approx([dot / 0.2 for dot in dots], rel=1e-12)


@pytest.mark.parametrize("queue_size", [1, 16, 4096])
def test_loss_of_an_orthogonal_queue_has_its_closed_form(queue_size: int) -> None:
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    queue = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(queue_size, 2)
    loss = F.cross_entropy(queue_logits(query, query, queue, 0.2), torch.zeros(1, dtype=torch.long))
    assert float(loss) == pytest.approx(math.log(1 + queue_size * math.exp(-1 / 0.2)), rel=1e-12)


def test_logits_are_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (F.normalize(torch.randn(n, 64, generator=generator), dim=1) for n in (4, 4, 32))
    with torch.autocast("cpu", torch.bfloat16):
        logits = queue_logits(query, key, queue, 0.1)
    assert torch.equal(logits, queue_logits(query, key, queue, 0.1))


def test_queue_is_a_ring_buffer_of_the_latest_keys() -> None:
    method, keys = build(momentum=1.0), []
    for step in range(4):  # the queue of 12 holds three batches of 4
        method.loss(views(step), torch.zeros(4))
        keys.append(method.latest_keys.clone())
        method.after_step(step, 10)
    assert torch.equal(method.queue, torch.cat([keys[3], keys[1], keys[2]]))
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(12))


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_share_of_the_queue_that_holds_keys_is_that_of_the_replaced_rows(symmetric: bool) -> None:
    method = build(queue_size=24, symmetric=symmetric)
    start = method.queue.clone()
    for step in range(8):
        replaced = (method.queue != start).any(dim=1).double().mean()
        assert queue_share(step, 4, 24, symmetric) == pytest.approx(float(replaced))
        method.loss(views(step), torch.zeros(4))
        method.after_step(step, 8)


def test_a_batchs_keys_enter_the_queue_after_its_loss() -> None:
    method = build()
    before = method.queue.clone()
    method.loss(views(), torch.zeros(4))
    assert torch.equal(method.queue, before)  # enqueued after the step, not before the loss


def test_loss_equals_infonce_written_out() -> None:
    method = build(
        batch_size=4, queue_size=8, bn_splits=2
    ).eval()  # in eval mode an image's output doesn't depend on its batch
    images = views(count=4)
    loss, _ = method.loss(images, torch.zeros(4))
    query = F.normalize(method.projector(method.encoder(images[0])), dim=1).tolist()
    key = F.normalize(method.key_projector(method.key_encoder(images[1])), dim=1).tolist()
    total = 0.0
    for i in range(4):
        candidates = [key[i], *method.queue.tolist()]
        products = [sum(a * b for a, b in zip(query[i], k, strict=True)) for k in candidates]
        powers = [math.exp(product / method.temperature) for product in products]
        total -= math.log(powers[0] / sum(powers))
    assert loss.item() == pytest.approx(total / 4, rel=1e-4)


@pytest.mark.slow
def test_symmetric_loss_is_the_sum_of_both_directions() -> None:
    first, second = views()
    forward, backward = build(), build()
    losses = [forward.loss([first, second], torch.zeros(4)), backward.loss([second, first], torch.zeros(4))]
    both = build(queue_size=16, symmetric=True)
    both.queue = forward.queue  # of build()'s random state only the queue depends on its size
    loss, metrics = both.loss([first, second], torch.zeros(4))
    total = losses[0][0] + losses[1][0]
    assert loss.item() == pytest.approx(total.item(), rel=1e-6)
    assert metrics["contrast_accuracy"] == (losses[0][1]["contrast_accuracy"] + losses[1][1]["contrast_accuracy"]) / 2
    torch.testing.assert_close(both.latest_keys, torch.cat([forward.latest_keys, backward.latest_keys]))
    loss.backward()
    total.backward()
    for name, parameter in both.encoder.named_parameters():
        one, two = (method.encoder.get_parameter(name).grad for method in (forward, backward))
        assert one is not None and two is not None
        torch.testing.assert_close(parameter.grad, one + two, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_symmetric_loss_puts_the_keys_of_both_views_into_the_queue() -> None:
    method = build(queue_size=16, momentum=1.0, symmetric=True)
    for step in range(2):
        method.loss(views(step), torch.zeros(4))
        method.after_step(step, 10)
        assert torch.equal(method.queue[8 * step : 8 * step + 8], method.latest_keys)


def test_keys_are_unshuffled_to_the_order_of_their_queries() -> None:
    method = build(batch_size=8, queue_size=8, bn_splits=4).eval()  # in eval mode there are no group statistics
    images = views(count=8)
    method.loss(images, torch.zeros(8))
    expected = F.normalize(method.key_projector(method.key_encoder(images[1])), dim=1)
    torch.testing.assert_close(method.latest_keys, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_keys_are_normalised_in_other_groups_than_their_queries() -> None:
    """The group of a key has the samples whose index is the same modulo bn_splits, that of a query neighbours."""
    method, images = build(batch_size=16, queue_size=16, bn_splits=4), [view.double() for view in views(count=16)]
    for network in (method.encoder, method.projector, method.key_encoder, method.key_projector):
        network.double()
    plain = build_encoder().double()
    plain.load_state_dict(method.key_encoder.state_dict())

    def keys(groups: list[torch.Tensor]) -> torch.Tensor:
        embeddings = torch.empty(16, 512, dtype=torch.float64)
        for group in groups:
            embeddings[group] = plain(images[1][group])
        return F.normalize(method.key_projector(embeddings).float(), dim=1)

    with torch.no_grad():
        method.loss(images, torch.zeros(16))
        torch.testing.assert_close(method.latest_keys, keys([torch.arange(k, 16, 4) for k in range(4)]))
        assert not torch.allclose(method.latest_keys, keys(list(torch.arange(16).chunk(4))), atol=0.01)


def test_groups_of_queries_and_keys_share_as_few_samples_as_possible() -> None:
    method = build(batch_size=16, queue_size=16, bn_splits=4)
    query_groups = torch.arange(16).chunk(4)
    key_groups = method.idx_shuffle.chunk(4)
    assert sorted(method.idx_shuffle.tolist()) == list(range(16))
    for queries in query_groups:
        for keys in key_groups:
            assert len(set(queries.tolist()) & set(keys.tolist())) == 1


@pytest.mark.slow
def test_each_group_has_separate_statistics() -> None:
    method, images = build(bn_splits=2), views()[0].double()
    for network in (method.encoder, method.key_encoder):
        network.double()  # normalising two values amplifies their rounding errors
        plain = build_encoder().double()
        plain.load_state_dict(network.state_dict())
        expected = torch.cat([plain(group) for group in images.chunk(2)])
        torch.testing.assert_close(network(images), expected)


def build_small() -> MoCo:
    """With an encoder of one linear layer, for images of 2x2 pixels."""
    torch.manual_seed(0)
    return MoCo(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 512)), 8,
        projector_hidden=16, projector_out=8, temperature=0.2, queue_size=24, key_momentum=0.9, bn_splits=2,
        symmetric=False,
    )  # fmt: skip


def test_the_queue_starts_with_random_directions_and_is_a_part_of_the_state() -> None:
    method = build_small()
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(24))
    assert len({tuple(row) for row in method.queue.tolist()}) == 24
    assert torch.equal(method.state_dict()["queue"], method.queue)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_come_from_a_key_network_that_differs_from_the_query_network(dtype: torch.dtype) -> None:
    method = build_small()
    with torch.no_grad():
        for part in (method.key_encoder, method.key_projector):
            for parameter in part.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    images = [torch.randn(8, 3, 2, 2) for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, metrics = method.loss(images, torch.zeros(8))
        outputs = [
            method.projector(method.encoder(images[0])), method.key_projector(method.key_encoder(images[1]))
        ]  # fmt: skip
    assert outputs[0].dtype == outputs[1].dtype == dtype
    query, key = (F.normalize(output.detach().double(), dim=1) for output in outputs)
    torch.testing.assert_close(method.latest_keys, key.float())
    total, hits = 0.0, 0
    for i in range(8):
        products = [float(query[i] @ k) for k in (key[i], *method.queue.double())]
        total -= products[0] / 0.2 - math.log(sum(math.exp(product / 0.2) for product in products))
        hits += products[0] == max(products)
    assert 0 < hits < 4
    assert loss.item() == pytest.approx(total / 8, rel=1e-5)
    assert float(metrics["contrast_accuracy"]) == hits / 8
    for name, value in representation_health(query, key).items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4)


def test_key_network_is_an_ema_without_gradient() -> None:
    method = build(momentum=0.9)
    loss, _ = method.loss(views(), torch.zeros(4))
    loss.backward()
    query = [*method.encoder.parameters(), *method.projector.parameters()]
    key = [*method.key_encoder.parameters(), *method.key_projector.parameters()]
    assert all(p.grad is None for p in key)
    before = [p.detach().clone() for p in key]
    with torch.no_grad():
        for parameter in query:
            parameter.add_(1.0)
    method.after_step(0, 1)
    for old, new, online in zip(before, key, query, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * online)


def test_a_queue_for_one_view_only_is_refused_for_a_symmetric_loss() -> None:
    with pytest.raises(BadInput, match=r"queue_size=12 must be a multiple of twice method\.batch_size=4"):
        build(batch_size=4, queue_size=12, symmetric=True)


@pytest.mark.parametrize(
    ("batch_size", "queue_size", "bn_splits", "sentence"),
    [
        (4, 10, 2, "queue_size=10 must be a multiple of method.batch_size=4"),
        (4, 12, 3, "batch_size=4 must be a multiple of method.model.bn_splits=3"),
        (2, 12, 2, "batch_size=2 leaves one image for each of the .*=2 groups, .*: give method.batch_size=4 or more"),
    ],
)
def test_inconsistent_sizes_are_refused_with_the_cause(
    batch_size: int, queue_size: int, bn_splits: int, sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        build(batch_size=batch_size, queue_size=queue_size, bn_splits=bn_splits)
