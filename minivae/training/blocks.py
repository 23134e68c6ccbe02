"""Blocks of a batch, and the binary tree over them, by which their gradients are added.

Both depend on the number of rows alone.  So the sum has the same bits whoever adds up which part.
"""

from functools import cache
from itertools import pairwise
from math import ceil

import numpy as np

BLOCKS = 8                      # of a batch, unless its blocks would be too small or too large
FEWEST, MOST = 32, 256          # rows of a block, about: small products are slow, large no gain


def blocks_of(B: int) -> list[tuple[int, int]]:
    """Where each block of a batch of B rows begins and ends."""
    n = max(min(BLOCKS, ceil(B / FEWEST)), ceil(B / MOST))
    return list(pairwise(B * i // n for i in range(n + 1)))


def middle(begin: int, end: int) -> int:
    """Where the node over the leaves begin..end, two or more, is split.

    The left half has as many leaves as the largest power of 2 below their number.
    """
    return begin + 2 ** ((end - begin - 1).bit_length() - 1)


def largest_nodes(begin: int, end: int, node: tuple[int, int]) -> list[tuple[int, int]]:
    """The largest subtrees of `node` whose leaves all lie in begin..end, from left to right."""
    left, right = node
    if begin <= left and right <= end:
        return [node]
    if right <= begin or end <= left:
        return []
    mid = middle(left, right)
    return largest_nodes(begin, end, (left, mid)) + largest_nodes(begin, end, (mid, right))


@cache
def shares(n: int, size: int) -> list[list[tuple[int, int]]]:
    """For each of `size` ranks, the nodes of the tree over n blocks that it adds up."""
    edges = [n * rank // size for rank in range(size + 1)]
    return [largest_nodes(a, b, (0, n)) for a, b in pairwise(edges)]


def finished(node: tuple[int, int], found: dict) -> np.ndarray:
    """The sum of `node`, from the nodes that are found; it is written over the left one."""
    if node in found:
        return found[node]
    begin, end = node
    mid = middle(begin, end)
    left = finished((begin, mid), found)
    left += finished((mid, end), found)
    return left
