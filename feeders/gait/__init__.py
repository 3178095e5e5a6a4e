"""Walks, for the question who is seen: windows of them, people times walks, and who asks whom."""
