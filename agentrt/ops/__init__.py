"""Operations: health, metrics, logs, the event log and the watch over the event loop."""
