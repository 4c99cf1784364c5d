"""How embeddings lie: silhouettes, clusters and maps."""
