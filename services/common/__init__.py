"""What the services share: start-up, configuration, errors, health, logs, metrics, NATS."""
