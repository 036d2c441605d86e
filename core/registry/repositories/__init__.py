"""Every SQL statement of the application. A repository works inside a session that its caller opened and commits.

What is read for a caller is scoped by organisation; what workers do is scoped by the claim's token.
"""
