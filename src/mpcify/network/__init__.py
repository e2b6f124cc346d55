"""What moves between parties and between processes: links and frames."""
