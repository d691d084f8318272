"""Which associations and presentation contexts a transfer takes: PS3.8 section 7.1.1.13."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from server.association import Accepted
from server.outbound.delivery import MAX_CONTEXTS, Payload, Routes, groups, proposed
from server.records.catalogue import StoredInstance

EXPLICIT, IMPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
UNCOMPRESSED = (EXPLICIT, IMPLICIT)


def instance(sop_class: str, syntax: str = EXPLICIT) -> StoredInstance:
    return StoredInstance(1, "1.2", "1.3", "1.4", sop_class, syntax, 1, "blob", 100, 50, "patient")


@given(pairs=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5)), max_size=400))
def test_no_group_needs_more_contexts_than_there_are(pairs: list[tuple[int, int]]) -> None:
    made = [instance(f"1.2.{sop_class}", f"1.3.{syntax}") for sop_class, syntax in pairs]
    found = groups(made, UNCOMPRESSED)
    assert [each for group in found for each in group] == made
    for group in found:
        contexts = proposed(group, UNCOMPRESSED)
        assert 0 < len(contexts) <= MAX_CONTEXTS
        assert len({context.id for context in contexts}) == len(contexts)
        assert all(context.id % 2 and context.id < 256 for context in contexts)
        offered = {(context.abstract_syntax, syntax) for context in contexts for syntax in context.transfer_syntaxes}
        assert {(each.sop_class, each.transfer_syntax) for each in group} <= offered


def test_the_stored_syntax_goes_first() -> None:
    """Then what the transcoder can make, of what was accepted for that SOP Class."""

    class Source:
        otherwise = UNCOMPRESSED

        def acceptable(self, instance: StoredInstance, wanted: Sequence[str]) -> str | None:
            return IMPLICIT if IMPLICIT in wanted else None

        def payload(self, instance: StoredInstance, syntax: str) -> Payload:
            raise NotImplementedError

    accepted = (Accepted(1, "1.2.3", EXPLICIT), Accepted(3, "1.2.3", IMPLICIT), Accepted(5, "1.2.4", RLE))
    routes = Routes(accepted, Source())
    assert routes.of(instance("1.2.3")) == (1, EXPLICIT)
    assert routes.of(instance("1.2.3", RLE)) == (3, IMPLICIT)
    assert routes.of(instance("1.2.4")) is None
    assert routes.of(instance("1.2.5")) is None
