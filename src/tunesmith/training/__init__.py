"""Fine-tuning: two engines behind one interface, in a process of its own that continues after a crash."""
