"""How clients get into Kafka: connection, tokens, rights."""
