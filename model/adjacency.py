"""The skeleton's tree as matrices: where every learned adjacency of a graph network starts."""

import numpy as np

from feeders.skeleton import Skeleton


def spatial_graph(skeleton: Skeleton) -> np.ndarray:
    """Which joint hears which, in three subsets: itself, inward (a parent its children), outward (a child its parent).

    Entry [u, v] is the weight with which joint u receives joint v. Inward columns are normalised (each joint reaches
    its one parent with weight 1); outward rows are 1 / (number of children of the parent), as CTR-GCN has it.

    Shapes:
        returns: (3, V, V) float64
    """
    size = len(skeleton.joints)
    children = np.array([joint for joint in range(size) if joint != skeleton.root])
    parents = np.array(skeleton.parents)[children]
    graph_KUV = np.zeros((3, size, size))
    graph_KUV[0] = np.eye(size)
    graph_KUV[1, parents, children] = 1.0
    graph_KUV[2, children, parents] = 1.0 / np.bincount(parents, minlength=size)[parents]
    return graph_KUV
