"""Who gets which partitions, as Faust shares them out: partition n of all topics is one worker's."""

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import MemberAssignmentMapping, MemberMetadataMapping, PartitionAssignor


class Assignor(PartitionAssignor):
    """Faust's fails at what members had of a topic that was made anew with fewer partitions: that is forgotten here."""

    _cluster: ClusterMetadata

    def _perform_assignment(
        self, cluster: ClusterMetadata, member_metadata: MemberMetadataMapping
    ) -> MemberAssignmentMapping:
        self._cluster = cluster
        return super()._perform_assignment(cluster, member_metadata)

    def _get_client_metadata(self, metadata: ConsumerProtocolMemberMetadata) -> ClientMetadata:
        client = super()._get_client_metadata(metadata)
        for assigned in (client.assignment.actives, client.assignment.standbys):
            for topic, partitions in assigned.items():
                known = self._cluster.partitions_for_topic(topic) or set()
                assigned[topic] = [n for n in partitions if n in known]
        return client
