"""What a person looks at: numbers as text, the live display, the tables a command ends with."""
