import pickle

from renderpretrain.data.folder.cache import MemoryCache


def test_the_least_recently_used_entry_goes_first():
    cache, made = MemoryCache(budget=20), []

    def value(key):
        return cache.get(key, lambda: made.append(key) or key, lambda _: 10)

    for key in "abacab":
        value(key)
    assert "".join(made) == "abcb"  # c pushed b out, not the a used just before
    assert cache.nbytes == 20


def test_a_value_larger_than_the_budget_is_still_given():
    cache = MemoryCache(budget=1)
    assert cache.get("big", lambda: "x" * 100, len) == "x" * 100


def test_a_copy_sent_to_a_process_starts_empty():
    cache = MemoryCache(budget=50)
    cache.get("a", lambda: 1, lambda _: 10)
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.budget == 50 and copy.nbytes == 0


def test_parts_share_one_budget_and_no_keys():
    cache = MemoryCache(budget=20)
    one, two = cache.part("one"), cache.part("two")
    assert [part.get("a", lambda name=part.name: name, lambda _: 10) for part in (one, two)] == ["one", "two"]
    assert one.get("a", lambda: "again", lambda _: 10) == "one"
    two.get("b", lambda: "b", lambda _: 10)
    assert two.get("a", lambda: "again", lambda _: 10) == "again" and cache.nbytes == 20
