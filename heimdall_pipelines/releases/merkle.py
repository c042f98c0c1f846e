"""Merkle tree over samples: one root for all, and hashes of groups that say where something was changed."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
GROUP_SIZE = 256  # leaves below a group's hash; a power of 2, so that groups are nodes of the tree
_LEAF, _NODE, _ROOT, _TRUTH_ROOT = b"\x00", b"\x01", b"\x02", b"\x03"  # none can pass for another (RFC 6962, 2.1)


def leaf_hash(*contents: bytes) -> bytes:
    """Hash of a leaf over its contents, each of `HASH_BYTES`."""
    assert all(len(content) == HASH_BYTES for content in contents)
    return sha256(_LEAF + b"".join(contents)).digest()


def tree_hash(nodes: Sequence[bytes]) -> bytes:
    """Hash of the tree over some nodes, in their order; a node without a partner goes up as it is.

    >>> tree_hash([bytes(32)]) == bytes(32)
    True
    """
    if not nodes:
        return sha256(b"").digest()
    level = list(nodes)
    while len(level) > 1:
        pairs = [sha256(_NODE + one + other).digest() for one, other in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def separate_hashes(joined: bytes) -> list[bytes]:
    """Hashes that a release stores one behind the other."""
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


class GroupHasher:
    """Hashes leaves as they come, and holds no more than a group of them."""

    def __init__(self) -> None:
        self._groups: list[bytes] = []
        self._waiting: list[bytes] = []

    def add(self, leaves: Iterable[bytes]) -> None:
        """Add the next leaves."""
        for leaf in leaves:
            self._waiting.append(leaf)
            if len(self._waiting) == GROUP_SIZE:
                self._groups.append(tree_hash(self._waiting))
                self._waiting = []

    @property
    def hashes(self) -> list[bytes]:
        """Hashes of the groups of `GROUP_SIZE` leaves, of which only the last may be smaller."""
        return [*self._groups, tree_hash(self._waiting)] if self._waiting else self._groups


def group_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Hashes of the groups of `GROUP_SIZE` leaves, of which only the last may be smaller.

    They are nodes of the tree: its hash is the same.

    >>> leaves = [leaf_hash(bytes([number]) * HASH_BYTES) for number in range(255)] * 3
    >>> tree_hash(group_hashes(leaves)) == tree_hash(leaves)
    True
    """
    hasher = GroupHasher()
    hasher.add(leaves)
    return hasher.hashes


def root_hash(parameters: bytes, groups: Sequence[bytes]) -> bytes:
    """Root over what determines the samples, and over the samples by the hashes of their groups."""
    return sha256(_ROOT + parameters + tree_hash(groups)).digest()


def truth_root_hash(parameters: bytes, leaves: Sequence[bytes], iq: bytes) -> bytes:
    """Root over what determines the samples, over what is true of them, and over the checksums of their IQ."""
    return sha256(_TRUTH_ROOT + parameters + tree_hash(leaves) + iq).digest()
