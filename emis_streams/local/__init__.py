"""A Kafka cluster and databases as plain processes: for a laptop, for tests, for benchmarks.

    with KafkaCluster(folder) as kafka:          # one broker on free ports, data kept in the folder
        kafka.bootstrap                          # "127.0.0.1:23456"

    with MariaDb(folder) as database:
        database.create("emis")                  # "mysql://emis:emis@127.0.0.1:23457/emis"

Everything started here dies with the process that started it. Start it from the main thread: Linux
counts the end of the starting *thread* as the parent's death.
"""

from emis_streams.local.errors import LocalStackError
from emis_streams.local.kafka import KafkaCluster
from emis_streams.local.mariadb import MariaDb
from emis_streams.local.ports import free_port
from emis_streams.local.process import Child

__all__ = ["Child", "KafkaCluster", "LocalStackError", "MariaDb", "free_port"]
