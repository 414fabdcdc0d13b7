"""Jobs: data, model, request and recipe together, trained, unlearned and measured."""
