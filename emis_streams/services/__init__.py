"""Services that call one another over Kafka: what they all share. Each is a small file on top of it."""
