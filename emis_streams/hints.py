"""What operators of EMIS Streams type, put behind what the engine says of a trouble."""

from emis_streams.engine.hints import Hint

HINTS = {
    Hint.DENIED: "`emis-streams topics --acls` lists what it needs",
    Hint.TOPICS: "`emis-streams topics` says what to do",
    Hint.LOST_RECORDS: "repair with `emis-streams sync`",
    Hint.FOLDER_IN_USE: "give each its own DATA_DIR",
    Hint.OTHER_CLUSTER: "set KAFKA_BROKERS to that cluster, or another DATA_DIR",
}
