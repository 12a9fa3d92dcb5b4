package emis.benchmarks;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams at the same work: three topics into one RocksDB store with its changelog. */
public final class ClassTable {
    static final String STORE = "classes";
    static final int PARTITIONS = 10;
    static final List<String> SOURCES =
            List.of("emis.class.created", "emis.class.updated", "emis.class.deleted");

    public static void main(String[] arguments) throws InterruptedException {
        KafkaStreams streams = new KafkaStreams(topology(), settings(System.getenv()));
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    static Topology topology() {
        StoreBuilder<KeyValueStore<byte[], byte[]>> store = Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray());
        if (Boolean.parseBoolean(System.getenv().getOrDefault("STORE_CACHE", "false"))) {
            store = store.withCachingEnabled();
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(store);
        ProcessorSupplier<byte[], byte[], Void, Void> keep = KeepHigherVersion::new;
        builder.stream(SOURCES, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray())).process(keep, STORE);
        return builder.build();
    }

    static Properties settings(Map<String, String> environment) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, environment.get("GROUP"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, environment.get("KAFKA_BROKERS"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, environment.get("DATA_DIR"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, environment.get("THREADS"));
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG,
                Math.round(Double.parseDouble(environment.get("COMMIT_SECONDS")) * 1000));
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG,
                environment.getOrDefault("STORE_CACHE_BYTES", "67108864"));
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, 0);
        // Versions decide, so no task waits for the topics to be in the order of time.
        settings.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, StreamsConfig.MAX_TASK_IDLE_MS_DISABLED);
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, SharedRocksMemory.class);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        // It does not leave its group when it is closed; shorter, so that the next run need not wait long.
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 10_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        return settings;
    }

    private ClassTable() {}
}
