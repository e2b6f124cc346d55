"""What moves between parties and between processes: channels and frames."""
