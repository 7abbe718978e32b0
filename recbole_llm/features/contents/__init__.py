"""What an encoder reads: texts, prompts and pictures."""
