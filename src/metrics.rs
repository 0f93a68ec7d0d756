//! What the gate counts, in Prometheus' text format. It measures; it decides nothing.
