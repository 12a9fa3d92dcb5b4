package emis.benchmarks;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.time.OffsetDateTime;
import java.time.temporal.ChronoField;
import org.apache.kafka.common.utils.Utils;

/**
 * Reads an event with Jackson's streaming parser (the fastest that Kafka's own jars bring), checks the
 * contract's essentials and makes the row: version (8 bytes µs, 1 byte rank, 16 bytes event id), then
 * the fields with their lengths. Not for several threads at once: each task has its own.
 */
final class ClassEventReader {
    static final int VERSION_BYTES = 25;
    private static final int MICROS_PER_SECOND = 1_000_000;
    private static final long EARLIEST_MICROS = 946_684_800_000_000L;
    private static final long MOST_AHEAD_MILLIS = 600_000;
    private final JsonFactory json = new JsonFactory();
    private final ByteBuffer row = ByteBuffer.allocate(8192);

    private String eventId;
    private String eventType;
    private String timestamp;
    private String classId;
    private int totalStudents;
    private long misplaced;
    private final String[] texts = new String[5];

    /** The row's bytes; throws IllegalArgumentException if the event is not as agreed. */
    byte[] row(String topic, int partition, byte[] key, byte[] value, long recordMillis) {
        parse(value);
        check(topic, key);
        if (Utils.toPositive(Utils.murmur2(key)) % ClassTable.PARTITIONS != partition) {
            misplaced++;
        }
        int rank = ClassTable.SOURCES.indexOf(topic);
        long micros = micros(timestamp);
        if (micros < EARLIEST_MICROS || micros > (recordMillis + MOST_AHEAD_MILLIS) * 1000) {
            throw new IllegalArgumentException("absurd time: " + timestamp);
        }
        row.clear();
        row.putLong(micros).put((byte) rank);
        putUuid(eventId);
        if (rank < 2) {
            row.putInt(totalStudents);
            for (String text : texts) {
                putText(text);
            }
        }
        byte[] bytes = new byte[row.position()];
        row.flip().get(bytes);
        return bytes;
    }

    private void parse(byte[] value) {
        eventId = eventType = timestamp = classId = null;
        totalStudents = -1;
        java.util.Arrays.fill(texts, null);
        try (JsonParser parser = json.createParser(value)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new IllegalArgumentException("not an object");
            }
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                field(name, parser);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void field(String name, JsonParser parser) throws IOException {
        switch (name) {
            case "eventId" -> eventId = parser.getText();
            case "eventType" -> eventType = parser.getText();
            case "timestamp" -> timestamp = parser.getText();
            case "classId" -> classId = parser.getText();
            case "className" -> texts[0] = parser.getValueAsString();
            case "grade" -> texts[1] = parser.getValueAsString();
            case "academicYear" -> texts[2] = parser.getValueAsString();
            case "totalStudents" -> totalStudents = parser.getValueAsInt(-1);
            case "schoolId" -> texts[3] = parser.getValueAsString();
            case "homeroomTeacherId" -> texts[4] = parser.getValueAsString();
            default -> parser.skipChildren();
        }
    }

    private void check(String topic, byte[] key) {
        boolean agreed = topic.equals(eventType) && eventId != null && eventId.length() == 36 && classId != null
                && classId.length() == 36 && timestamp != null && isSame(classId, key)
                && isUuid(eventId) && (texts[3] == null || isUuid(texts[3])) && (texts[4] == null || isUuid(texts[4]))
                && fits(texts[0], 200) && fits(texts[1], 50) && fits(texts[2], 20);
        if (!agreed) {
            throw new IllegalArgumentException("not as agreed: " + topic + " " + eventId);
        }
    }

    /** Short enough for its column, and in the form in which the same name is the same bytes. */
    private static boolean fits(String text, int mostCharacters) {
        return text == null || text.length() <= mostCharacters && Normalizer.isNormalized(text, Normalizer.Form.NFC);
    }

    private static boolean isUuid(String text) {
        if (text.length() != 36) {
            return false;
        }
        for (int i = 0; i < 36; i++) {
            char c = text.charAt(i);
            boolean isDashPlace = i == 8 || i == 13 || i == 18 || i == 23;
            if (isDashPlace ? c != '-' : !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f')) {
                return false;
            }
        }
        return true;
    }

    private static boolean isSame(String text, byte[] bytes) {
        if (text.length() != bytes.length) {
            return false;
        }
        for (int i = 0; i < bytes.length; i++) {
            char c = text.charAt(i);
            boolean isUuidCharacter = c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'f';
            if (!isUuidCharacter || c != bytes[i]) {
                return false;
            }
        }
        return true;
    }

    private void putUuid(String text) {
        int high = -1;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '-') {
                continue;
            }
            int digit = Character.digit(c, 16);
            if (digit < 0) {
                throw new IllegalArgumentException("not a UUID: " + text);
            }
            if (high < 0) {
                high = digit;
            } else {
                row.put((byte) (high << 4 | digit));
                high = -1;
            }
        }
    }

    private void putText(String text) {
        if (text == null) {
            row.putShort((short) -1);
            return;
        }
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        row.putShort((short) bytes.length).put(bytes);
    }

    private static long micros(String text) {
        OffsetDateTime time = OffsetDateTime.parse(text);
        return time.toEpochSecond() * MICROS_PER_SECOND + time.get(ChronoField.MICRO_OF_SECOND);
    }
}
