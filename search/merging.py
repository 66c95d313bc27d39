"""A tree in which steps that say the same are one (FETCH, arXiv 2502.11183, state merging).

Of the children of one parent, finished and unfinished apart, those that say the same become a cluster. The strategy sees its
representative, the member with the highest value, and so spends one place on it; what it asks for below the representative
is dealt over the members, the best first. The parent, too, is a cluster: children of any of its members are siblings.

How two steps are told to say the same:

    embedding   average linkage over 1 - cos(u, v) of the encoder's vectors; clusters closer than `distance` become one
    equation    equal by search.saying: the same equations and numbers, however they are written
    text        equal token by token: what every tree does without this

A member keeps its say. It stays live while it may be expanded, votes where it is finished, and its cause names the
representative; in state merged is what is never expanded. At distance 0 nothing is merged but equal texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .saying import said
from .tree import Tree
from .types import Ask, Candidate, Path, Row, State, Until, order

if TYPE_CHECKING:
    from numpy.typing import NDArray

How = Literal["embedding", "equation", "text"]
Linkage = Literal["average", "single", "complete"]
Scored = Literal["all", "one"]
HOWS: tuple[How, ...] = ("embedding", "equation", "text")
LINKAGES: tuple[Linkage, ...] = ("average", "single", "complete")
SCORED: tuple[Scored, ...] = ("all", "one")
FARTHEST = 2.0  # cosine distance of opposite vectors; of what is no vector to everything


def distances(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """[n, n] cosine distances 1 - cos(u, v), in [0, 2]; a vector that is zero or not finite is far from all."""
    rows = np.stack(vectors).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    good = np.isfinite(norms) & (norms > 0)
    unit = np.where(good[:, None], rows, 1.0) / np.where(good, norms, 1.0)[:, None]
    apart = np.clip(1 - unit @ unit.T, 0.0, FARTHEST)
    apart[~good, :] = apart[:, ~good] = FARTHEST
    return apart


def clustered(apart: NDArray[np.float64], distance: float, linkage: Linkage = "average") -> list[list[int]]:
    """Agglomerative clusters of a distance matrix [n, n]: the two nearest become one while they are nearer than `distance`.
    Each in rising order, the clusters by their first."""
    if len(apart) < 2 or distance <= 0:
        return [[i] for i in range(len(apart))]
    from scipy.cluster import hierarchy  # half a second to import
    from scipy.spatial.distance import squareform

    symmetric = (apart + apart.T) / 2  # the product of two rows may differ from that of the two turned round in the last bit
    np.fill_diagonal(symmetric, 0.0)
    joined = hierarchy.linkage(squareform(symmetric), method=linkage)
    labels = hierarchy.fcluster(joined, t=np.nextafter(distance, 0.0), criterion="distance")
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(i)
    return list(groups.values())


@dataclass
class Merging(Tree):
    """A view of a search's tree: it shares the record, and merges more. Make one with `over`."""

    how: How = "embedding"
    distance: float = 0.15  # cosine distance below which clusters become one; arXiv 2502.11183, for its own fine-tuned encoder
    linkage: Linkage = "average"
    scored: Scored = "all"  # members judged: all, or the first of each cluster, which stands for it
    _clusters: dict[Path, tuple[Path, ...]] = field(default_factory=dict)  # by representative, which comes first
    _heads: dict[Path, Path] = field(default_factory=dict)  # the representative of each other member
    _first: dict[Path, Path] = field(default_factory=dict)  # of a member with the text of an earlier one: that one

    @classmethod
    def over(cls, tree: Tree, **options: Any) -> Merging:
        """The view. All that a tree collects is shared by reference, so that the tree itself is the record of what is done
        through the view."""
        return cls(**{each.name: getattr(tree, each.name) for each in fields(Tree)}, **options)

    @property
    def off(self) -> bool:
        """Whether it merges nothing but equal texts, as any tree does."""
        return self.how == "text" or (self.how == "embedding" and self.distance <= 0)

    # ------------------------------------------------------------------------------------------------------- reading

    def head(self, path: Path) -> Path:
        return self._heads.get(path, path)

    def members(self, path: Path) -> tuple[Path, ...]:
        return self._clusters.get(path, (path,))

    def value(self, path: Path) -> float | None:
        """A cluster's, which is its representative's: of all members the highest, where all were judged."""
        return super().value(self.head(path))

    # ------------------------------------------------------------------------------------------------------- merging

    def merged(self, candidates: Iterable[Candidate]) -> Ask[list[Candidate]]:
        """One candidate for each cluster, in the order of their paths; and those that the verifier gave no value."""
        if self.off:
            return (yield from super().merged(candidates))
        firsts, twins = _by_text(candidates)
        if self.scored == "all":
            yield from self.verify(firsts)
        groups: dict[tuple[Path, bool], list[Candidate]] = {}
        alone = []
        for child in firsts:
            if self.scored == "all" and super().value(child.path) is None:
                alone.append(child)
            else:
                groups.setdefault((self.head(child.parent), child.finished), []).append(child)
        kept = [self._united(cluster, twins) for cluster in (yield from self._told(list(groups.values())))]
        kept += [self._united([child], twins) for child in alone]
        return sorted(kept, key=lambda c: order(c.path))

    def _told(self, groups: list[list[Candidate]]) -> Ask[list[list[Candidate]]]:
        """Each group's clusters."""
        if self.how == "equation":
            same: dict[tuple[int, str], list[Candidate]] = {}
            for number, group in enumerate(groups):
                for child in group:
                    same.setdefault((number, said(child.step.text)), []).append(child)
            return list(same.values())
        wanted = [child for group in groups if len(group) > 1 for child in group]
        vectors = (yield from self.embed(wanted)) if wanted else ()
        if not vectors:  # nothing to tell apart, or no budget to tell by
            return [[child] for group in groups for child in group]
        of = {child.path: vector for child, vector in zip(wanted, vectors, strict=True)}
        clusters = []
        for group in groups:
            apart = distances([of[child.path] for child in group]) if len(group) > 1 else np.zeros((1, 1))
            clusters += [[group[i] for i in cluster] for cluster in clustered(apart, self.distance, self.linkage)]
        return clusters

    def _united(self, cluster: list[Candidate], twins: dict[Path, list[Candidate]]) -> Candidate:
        """Makes a cluster of its members and of those with a member's text; its representative. One more of the same open
        text is never expanded: the first is, in its place."""
        own = super().value
        best = sorted(cluster, key=lambda c: (-(own(c.path) or 0.0), order(c.path))) if self.scored == "all" else cluster
        head = best[0]
        members = [member for each in best for member in (each, *twins.get(each.path, ()))]
        for each in best:
            self._first |= {twin.path: each.path for twin in twins.get(each.path, ())}
        for member in members[1:]:
            self._heads[member.path] = head.path
            self.states[member.path] = (self.states[member.path][0], _cause(head.path))
            if member.open and member.path in self._first:
                super().mark([member], State.MERGED, _cause(head.path))
        if len(members) > 1:
            self._clusters[head.path] = tuple(member.path for member in members)
        return head

    # ------------------------------------------------------------------------------------------------------- growing

    def _rows(
        self,
        paths: Sequence[Path],
        counts: Sequence[int],
        until: Until,
        most_tokens: int | None,
        begins: Sequence[tuple[int, ...]],
        prompt: tuple[int, ...] | None,
    ) -> list[Row]:
        """What is asked for below a representative is dealt over the members, in turn. Rows that are given their beginning, or
        that answer a prompt of their own, go on from the one they are meant for."""
        if begins or prompt is not None:
            return super()._rows(paths, counts, until, most_tokens, begins, prompt)
        dealt: list[tuple[Path, int]] = []
        for path, count in zip(paths, counts, strict=True):
            members = self.members(path)
            if len(members) == 1:
                dealt.append((path, count))
            else:
                chosen = (members[i % len(members)] for i in range(count))
                dealt += [(self._first.get(member, member), 1) for member in chosen]
        return super()._rows([path for path, _ in dealt], [n for _, n in dealt], until, most_tokens, begins, prompt)

    def mark(self, candidates: Iterable[Candidate], state: State, cause: str) -> None:
        """What becomes of a representative becomes of its members: a finished one shares its fate, an open one that was not
        expanded is given up to it."""
        for candidate in candidates:
            super().mark([candidate], state, cause)
            for member in [self.candidates[path] for path in self.members(candidate.path)[1:]]:
                if member.finished:
                    super().mark([member], state, cause)
                elif state in (State.PRUNED, State.MERGED):
                    self._give_up(member)

    def close(self) -> None:
        """The search is over: members that were never expanded are merged for good."""
        for path in self._heads:
            if self.candidates[path].open:
                self._give_up(self.candidates[path])

    def _give_up(self, member: Candidate) -> None:
        if self.states[member.path][0] is State.LIVE and not self._children.get(member.path):
            super().mark([member], State.MERGED, _cause(self.head(member.path)))


def _cause(head: Path) -> str:
    return f"says what {head} says"


def _by_text(candidates: Iterable[Candidate]) -> tuple[list[Candidate], dict[Path, list[Candidate]]]:
    """The first of each text among children of one candidate, and to each the others of its text."""
    first: dict[tuple[Path, bytes, bool], Candidate] = {}
    twins: dict[Path, list[Candidate]] = {}
    for child in candidates:
        known = first.setdefault((child.parent, child.step.tokens.tobytes(), child.finished), child)
        if known is not child:
            twins.setdefault(known.path, []).append(child)
    return list(first.values()), twins


__all__ = ["HOWS", "LINKAGES", "SCORED", "Merging", "clustered", "distances"]
