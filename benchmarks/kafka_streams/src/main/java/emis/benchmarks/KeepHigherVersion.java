package emis.benchmarks;

import java.util.Arrays;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Keeps the row with the higher version; an equal one is written again, as everywhere here. */
final class KeepHigherVersion implements Processor<byte[], byte[], Void, Void> {
    private final ClassEventReader reader = new ClassEventReader();
    private ProcessorContext<Void, Void> context;
    private KeyValueStore<byte[], byte[]> store;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        this.context = context;
        this.store = context.getStateStore(ClassTable.STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        RecordMetadata from = context.recordMetadata().orElseThrow();
        byte[] row = reader.row(from.topic(), from.partition(), record.key(), record.value(), record.timestamp());
        byte[] stored = store.get(record.key());
        if (stored == null || isAtLeast(row, stored)) {
            store.put(record.key(), row);
        }
    }

    private static boolean isAtLeast(byte[] row, byte[] stored) {
        int bytes = ClassEventReader.VERSION_BYTES;
        return Arrays.compareUnsigned(row, 0, bytes, stored, 0, bytes) >= 0;
    }
}
