import numpy as np

from ssl_pkg.evaluation.knn import knn_predict


def test_votes_equal_a_loop_over_neighbours() -> None:
    generator = np.random.default_rng(0)
    bank, queries = generator.normal(size=(60, 5)), generator.normal(size=(25, 5))
    labels = generator.integers(0, 4, 60)
    expected = []
    for query in queries:
        cosine = [float(query @ key / np.linalg.norm(query) / np.linalg.norm(key)) for key in bank]
        votes = np.zeros(4)
        for index in sorted(range(60), key=lambda i: -cosine[i])[:7]:
            votes[labels[index]] += np.exp(cosine[index] / 0.07)
        expected.append(int(votes.argmax()))
    found = knn_predict(bank.astype(np.float32), labels, queries.astype(np.float32), neighbours=7, temperature=0.07)
    assert found.tolist() == expected


def test_at_a_low_temperature_the_nearest_entry_decides() -> None:
    bank = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    labels = np.arange(60)[::-1] % 4
    assert np.array_equal(knn_predict(bank, labels, bank, neighbours=7, temperature=0.001), labels)


def test_if_the_bank_has_fewer_entries_than_neighbours_all_of_them_vote() -> None:
    bank = np.eye(3, dtype=np.float32)
    assert knn_predict(bank, np.array([2, 0, 1]), bank, neighbours=20, temperature=0.07).tolist() == [2, 0, 1]


def test_embeddings_whose_squares_overflow_have_the_same_neighbours() -> None:
    generator = np.random.default_rng(0)
    bank, queries = generator.normal(size=(40, 6)).astype(np.float32), generator.normal(size=(9, 6)).astype(np.float32)
    labels = np.arange(40) % 4
    expected = knn_predict(bank, labels, queries, 5, 0.07)
    assert np.array_equal(knn_predict(bank * np.float32(1e25), labels, queries * np.float32(1e30), 5, 0.07), expected)


def test_queries_of_many_blocks_are_classified_in_their_order() -> None:
    bank = np.eye(5, dtype=np.float32)
    labels = np.random.default_rng(0).integers(0, 5, 2100)
    assert np.array_equal(knn_predict(bank, np.arange(5), bank[labels], neighbours=1, temperature=0.07), labels)
