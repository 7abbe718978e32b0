"""What a checkpoint holds, and how it is read: nothing stored is trusted."""
