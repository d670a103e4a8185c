"""
A Ray cluster of two machines with a CPU each, both on 127.0.0.1, in a process of its own: Ray reads its environment when it is
imported. It prints the address; the word "lose" on its input takes one machine's power away, the end of the input ends it.
"""

import sys
from typing import Any

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


def main() -> None:
    """Until the input ends."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        other = cluster.add_node(**NODE)
        print(cluster.address, flush=True)
        for line in sys.stdin:
            assert line == "lose\n"
            cluster.remove_node(other, allow_graceful=False)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
