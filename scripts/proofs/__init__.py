"""What was promised, shown with figures: a module a promise, each line of it a step."""
