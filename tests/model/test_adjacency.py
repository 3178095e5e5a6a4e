import numpy as np
import pytest

from feeders.skeleton import KINECT20, NTU25, SKELETONS, Skeleton
from model.adjacency import spatial_graph


def naive_graph(skeleton: Skeleton) -> np.ndarray:
    size = len(skeleton.joints)
    graph = np.zeros((3, size, size))
    for joint in range(size):
        graph[0, joint, joint] = 1
        parent = skeleton.parents[joint]
        if parent == joint:
            continue
        siblings = [other for other in range(size) if skeleton.parents[other] == parent and other != parent]
        graph[1, parent, joint] = 1
        graph[2, joint, parent] = 1 / len(siblings)
    return graph


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_the_graph_is_what_the_tree_says_joint_by_joint(skeleton: Skeleton) -> None:
    np.testing.assert_array_equal(spatial_graph(skeleton), naive_graph(skeleton))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_every_joint_but_the_root_reaches_its_parent_with_weight_one(skeleton: Skeleton) -> None:
    reached = spatial_graph(skeleton)[1].sum(axis=0)
    assert reached[skeleton.root] == 0
    np.testing.assert_array_equal(np.delete(reached, skeleton.root), 1)


def test_published_pairs_of_both_skeletons_are_edges() -> None:
    # published-layouts 1.4, joints counted from 1, (child, parent).
    ntu = spatial_graph(NTU25)
    assert ntu[1, 22, 21] == ntu[1, 7, 22] == ntu[1, 20, 1] == ntu[1, 20, 8] == 1
    np.testing.assert_allclose(ntu[2, 2, 20], 1 / 4)
    assert spatial_graph(KINECT20)[1, 2, 1] == 1
